#include "engines/onnxruntime_cuda.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>

#include "bundle/signature.h"
#include "engines/device.h"
#include "engines/devices.h"

namespace seggd::core {
namespace {

constexpr const char* kBind = "bind buffers";

// A thread's number, which no later one has: the system's are given again.
uint64_t this_thread() {
  static std::atomic<uint64_t> threads{0};
  thread_local const uint64_t number = ++threads;
  return number;
}

// A session bound to buffers; what goes first stands last.
struct Bound {
  OrtOwned<OrtSession> session;
  OrtOwned<OrtRunOptions> options;
  OrtOwned<OrtIoBinding> binding;
};

}  // namespace

OnnxRuntimeCudaNetwork::OnnxRuntimeCudaNetwork(OnnxRuntime& ort, GraphFile graph, ProviderOptions options,
                                               const NetworkShape& shape, EngineInfo info, MakeStream make_stream)
    : CudaNetwork(std::move(make_stream)),
      ort_(ort),
      graph_(std::move(graph)),
      options_(std::move(options)),
      shape_(shape),
      info_(std::move(info)) {
  options_["enable_cuda_graph"] = "1";
}

std::function<void()> OnnxRuntimeCudaNetwork::bind(const Buffers& buffers, DeviceStream& stream) const {
  const OrtApi& api = ort_.api();
  std::unique_lock<std::recursive_mutex> opening(allocating());
  auto session = open(buffers.batch, stream.handle());
  opening.unlock();
  OrtRunOptions* made_options = nullptr;
  ort_.require(api.CreateRunOptions(&made_options), kBind);
  auto options = ort_.own(made_options, api.ReleaseRunOptions);
  // The stream orders what follows; waiting for it after every step would idle the GPU.
  ort_.require(api.AddRunConfigEntry(made_options, "disable_synchronize_execution_providers", "1"), kBind);
  OrtIoBinding* made = nullptr;
  ort_.require(api.CreateIoBinding(session.get(), &made), kBind);
  auto binding = ort_.own(made, api.ReleaseIoBinding);
  OrtMemoryInfo* memory = nullptr;
  ort_.require(api.CreateMemoryInfo("Cuda", OrtDeviceAllocator, ordinal(info_.device), OrtMemTypeDefault, &memory),
               kBind);
  const auto device = ort_.own(memory, api.ReleaseMemoryInfo);
  const int64_t batch = buffers.batch, height = shape_.height, width = shape_.width;
  const auto in = ort_.tensor(memory, buffers.sample, {batch, shape_.channels(), height, width});
  const auto time = ort_.tensor(memory, buffers.timestep, {batch});
  const auto out = ort_.tensor(memory, buffers.out, {batch, shape_.image_channels, height, width});
  ort_.require(api.BindInput(made, "sample", in.get()), kBind);
  ort_.require(api.BindInput(made, "timestep", time.get()), kBind);
  ort_.require(api.BindOutput(made, "out", out.get()), kBind);
  const auto bound = std::make_shared<const Bound>(Bound{std::move(session), std::move(options), std::move(binding)});
  return [&ort = ort_, bound, recorded = std::set<uint64_t>()]() mutable {
    // It keeps a graph for each thread, and records it at the thread's first call, in CUDA's global mode.
    std::unique_lock<std::recursive_mutex> alone(allocating(), std::defer_lock);
    const bool first = recorded.count(this_thread()) == 0;
    if (first) alone.lock();
    ort.require(ort.api().RunWithBinding(bound->session.get(), bound->options.get(), bound->binding.get()),
                "run the network");
    if (first) recorded.insert(this_thread());
  };
}

// A session of fixed batch on a stream, all of it on the GPU.
OrtOwned<OrtSession> OnnxRuntimeCudaNetwork::open(int batch, void* stream) const {
  const OrtApi& api = ort_.api();
  const char* what = "open the graph on the GPU";
  const auto owned = ort_.session_options();
  OrtSessionOptions* options = owned.get();
  ort_.require(api.AddFreeDimensionOverrideByName(options, "batch", batch), what);
  // What the GPU cannot run is an error, not a silent detour over the CPU.
  ort_.require(api.AddSessionConfigEntry(options, "session.disable_cpu_ep_fallback", "1"), what);
  OrtCUDAProviderOptionsV2* made_cuda = nullptr;
  ort_.require(api.CreateCUDAProviderOptions(&made_cuda), what);
  const auto cuda = ort_.own(made_cuda, api.ReleaseCUDAProviderOptions);
  const KeysAndValues all(options_);
  ort_.require(api.UpdateCUDAProviderOptions(made_cuda, all.keys.data(), all.values.data(), all.keys.size()), what);
  // After the others, which would reset it.
  ort_.require(api.UpdateCUDAProviderOptionsWithValue(made_cuda, "user_compute_stream", stream), what);
  ort_.require(api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, made_cuda), what);
  auto session = ort_.open(graph_, options, what);
  Ports ports = ort_.ports(session.get());
  for (auto& port : ports)
    if (!port.second.empty() && port.second.front() == batch) port.second.front() = -1;  // fixed by now
  check_signature(ports, shape_, graph_.name);
  return session;
}

std::unique_ptr<Network> OnnxRuntimeCudaEngine::open(const GraphFile& graph, const NetworkShape& shape,
                                                     const EngineInfo& info, int threads) const {
  return std::make_unique<OnnxRuntimeCudaNetwork>(OnnxRuntime::load(library_), graph, provider_.options(info, threads),
                                                  shape, info, make_stream_);
}

}  // namespace seggd::core
