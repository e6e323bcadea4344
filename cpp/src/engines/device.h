// What a session asks of a GPU: memory, copies, kernels, graphs, all on one stream:
// engines/seggd_engines/cuda/device.py.
//
// cuda_stream.cu is the real one; tests/emulated.cpp runs the same kernels, compiled for the host, so that everything
// above is tested where no GPU is.
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "portable.cuh"

namespace seggd::core {

// Of kernels/sampling.cu. Each takes the address of a Sampling.
enum class Kernel { kBegin, kStep, kFinish };

// Held by what allocates or gives back, and by those who record in CUDA's global mode, as ONNX Runtime does: no thread
// of the process may allocate meanwhile.
inline std::recursive_mutex& allocating() {
  static std::recursive_mutex mutex;
  return mutex;
}

// Captured work, to be launched any number of times on the stream it was captured on, which outlives it.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  virtual void launch() = 0;
};

// A queue of work on one device, and the memory that work uses. One thread uses it at a time.
//
// Copies, kernels and waits are enqueued, and may be captured. SEGGD_ENGINE where the device fails, also for an earlier
// piece of work.
class DeviceStream {
 public:
  virtual ~DeviceStream() = default;  // waits, and gives all memory back

  virtual void* handle() const = 0;  // a cudaStream_t

  // Makes the device the calling thread's own, and returns which was; makes that its own again.
  virtual int enter() noexcept = 0;
  virtual void leave(int before) noexcept = 0;

  // New memory of the device, and of the host to copy from and to at full speed, at multiples of 256 bytes.
  virtual Byte* allocate(size_t size) = 0;
  virtual Byte* pinned(size_t size) = 0;

  virtual void upload(void* to, const Byte* pinned, size_t size) = 0;
  virtual void download(Byte* pinned, const void* from, size_t size) = 0;
  virtual void copy(void* to, const void* from, size_t size) = 0;  // on the device
  virtual void clear(void* at, size_t size) = 0;
  virtual void launch(Kernel kernel, unsigned grid_x, unsigned grid_y, unsigned block, const void* state) = 0;

  // Records what `work` enqueues, without running it.
  virtual std::unique_ptr<DeviceGraph> capture(const std::function<void()>& work) = 0;

  // Lets what is enqueued here from now on wait for what is already enqueued on another stream.
  virtual void wait_for(void* stream) = 0;

  // Waits until everything enqueued here is done; `drain` whatever came of it.
  virtual void synchronize() = 0;
  virtual void drain() noexcept = 0;
};

// Makes a stream of the GPU of a number.
using MakeStream = std::function<std::unique_ptr<DeviceStream>(int)>;

// A stream's device is the calling thread's own as long as this lives.
class Active {
 public:
  explicit Active(DeviceStream& stream) : stream_(stream), before_(stream.enter()) {}
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;
  ~Active() { stream_.leave(before_); }

 private:
  DeviceStream& stream_;
  int before_;
};

}  // namespace seggd::core
