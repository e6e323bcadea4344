#include "engines/cuda_stream.h"

#include <cuda_runtime.h>

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace seggd::core {
namespace {

void require(cudaError_t result, const std::string& what) {
  if (result == cudaSuccess) return;
  const char* advice =
      result == cudaErrorMemoryAllocation ? ": choose a smaller batch, or close other programs on this GPU" : "";
  throw Error(SEGGD_ENGINE, "the GPU cannot " + what + " (" + cudaGetErrorName(result) + ")" + advice);
}

std::string mebibytes(size_t size) { return std::to_string(size >> 20) + " MiB"; }

class CudaGraph : public DeviceGraph {
 public:
  CudaGraph(cudaGraph_t graph, cudaStream_t stream) : stream_(stream) {
    cudaError_t made = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    if (made == cudaSuccess) made = cudaGraphUpload(graph_, stream_);
    if (made != cudaSuccess && graph_) cudaGraphExecDestroy(graph_);
    require(made, "capture the sampling loop as a graph");
  }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  ~CudaGraph() override { cudaGraphExecDestroy(graph_); }

  void launch() override { require(cudaGraphLaunch(graph_, stream_), "run the captured sampling loop"); }

 private:
  cudaGraphExec_t graph_ = nullptr;
  cudaStream_t stream_;
};

class CudaStream final : public DeviceStream {
 public:
  explicit CudaStream(int device) : device_(device) {}

  // Apart from the constructor, so that what was made goes where the rest fails.
  void open() {
    const std::lock_guard<std::recursive_mutex> alone(allocating());
    const Active active(*this);
    require(cudaSetDevice(device_), "be used");
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream");
    require(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "make an event");
    // CUDA loads a kernel at its first use, and that may come while a graph is recorded.
    for (const Kernel kernel : {Kernel::kBegin, Kernel::kStep, Kernel::kFinish}) {
      cudaFuncAttributes attributes;
      require(cudaFuncGetAttributes(&attributes, kernel_function(kernel)), "load a kernel");
    }
  }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  ~CudaStream() override {
    const Active active(*this);
    drain();
    const std::lock_guard<std::recursive_mutex> alone(allocating());
    for (void* memory : device_memory_) cudaFree(memory);
    for (void* memory : host_memory_) cudaFreeHost(memory);
    if (event_) cudaEventDestroy(event_);
    if (stream_) cudaStreamDestroy(stream_);
  }

  void* handle() const override { return stream_; }

  int enter() noexcept override {
    int before = device_;
    cudaGetDevice(&before);
    if (before != device_) cudaSetDevice(device_);
    return before;
  }

  void leave(int before) noexcept override {
    if (before != device_) cudaSetDevice(before);
  }

  Byte* allocate(size_t size) override {
    const std::lock_guard<std::recursive_mutex> alone(allocating());
    void* memory = nullptr;
    require(cudaMalloc(&memory, size), "allocate " + mebibytes(size));
    device_memory_.push_back(memory);
    return static_cast<Byte*>(memory);
  }

  Byte* pinned(size_t size) override {
    const std::lock_guard<std::recursive_mutex> alone(allocating());
    void* memory = nullptr;
    require(cudaMallocHost(&memory, size), "be given " + mebibytes(size) + " of pinned host memory");
    host_memory_.push_back(memory);
    return static_cast<Byte*>(memory);
  }

  void upload(void* to, const Byte* pinned, size_t size) override {
    require(cudaMemcpyAsync(to, pinned, size, cudaMemcpyHostToDevice, stream_), "take an upload");
  }

  void download(Byte* pinned, const void* from, size_t size) override {
    require(cudaMemcpyAsync(pinned, from, size, cudaMemcpyDeviceToHost, stream_), "give a download");
  }

  void copy(void* to, const void* from, size_t size) override {
    require(cudaMemcpyAsync(to, from, size, cudaMemcpyDefault, stream_), "copy");
  }

  void clear(void* at, size_t size) override { require(cudaMemsetAsync(at, 0, size, stream_), "clear memory"); }

  void launch(Kernel kernel, unsigned grid_x, unsigned grid_y, unsigned block, const void* state) override {
    void* arguments[] = {&state};
    require(cudaLaunchKernel(kernel_function(kernel), dim3(grid_x, grid_y), dim3(block), arguments, 0, stream_),
            "run a kernel");
  }

  std::unique_ptr<DeviceGraph> capture(const std::function<void()>& work) override {
    const char* what = "capture the sampling loop as a graph";
    // Other threads may allocate meanwhile.
    require(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), what);
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      end_capture(graph);  // what it says must not hide that error
      if (graph) cudaGraphDestroy(graph);
      throw;
    }
    require(end_capture(graph), what);
    return std::make_unique<CudaGraph>(graph, stream_);
  }

  void wait_for(void* stream) override {
    require(cudaEventRecord(event_, static_cast<cudaStream_t>(stream)), "be told of the caller's stream");
    require(cudaStreamWaitEvent(stream_, event_, 0), "wait for the caller's stream");
  }

  void synchronize() override { require(cudaStreamSynchronize(stream_), "finish its work"); }
  void drain() noexcept override { cudaStreamSynchronize(stream_); }

 private:
  // What it says is not left as the thread's last error, which others would take for theirs.
  cudaError_t end_capture(cudaGraph_t& graph) {
    const cudaError_t result = cudaStreamEndCapture(stream_, &graph);
    if (result != cudaSuccess) cudaGetLastError();
    return result;
  }

  int device_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t event_ = nullptr;
  std::vector<void*> device_memory_, host_memory_;
};

}  // namespace

std::unique_ptr<DeviceStream> make_cuda_stream(int ordinal) {
  auto stream = std::make_unique<CudaStream>(ordinal);
  stream->open();
  return stream;
}

}  // namespace seggd::core
