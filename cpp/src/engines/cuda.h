// The session on a GPU: buffers made once, three kernels around a bound network, the whole loop as one CUDA graph:
// engines/seggd_engines/cuda/session.py.
//
// For an image the host uploads one block, launches one graph and downloads one block. The graph holds addresses alone:
// rows, timesteps, seeds, label maps and tables are read from the uploaded block, so one graph serves every image of a
// number of steps.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core/session.h"
#include "engines/device.h"
#include "sampling.cuh"

namespace seggd::core {

// Device memory of a session: sample is [x | mask], (batch, channels, H, W); timestep (batch); out (batch,
// image_channels, H, W).
struct Buffers {
  int batch;
  float *sample, *timestep, *out;
};

// A network on an NVIDIA GPU. Any number of threads may bind and call it.
class CudaNetwork : public Network {
 public:
  // A call that enqueues one evaluation on a stream, which outlives it and is the device's that is entered, and returns
  // before it is done.
  virtual std::function<void()> bind(const Buffers& buffers, DeviceStream& stream) const = 0;

  virtual bool capturable() const = 0;  // whether calls may be captured in a graph
  std::unique_ptr<Session> session(int batch) const override;

 protected:
  explicit CudaNetwork(MakeStream make_stream) : make_stream_(std::move(make_stream)) {}

 private:
  MakeStream make_stream_;
};

// The network's input holds [x | mask]: the mask is written once, x is updated in place. Memory grows with the first
// run of a number of steps, if at all.
class CudaSession : public Session {
 public:
  CudaSession(const CudaNetwork& network, std::unique_ptr<DeviceStream> stream, int batch);
  ~CudaSession() override;

  int batch() const override { return batch_; }
  void run(const Run& run, Pixels out, const OnStep& on_step) override;
  Latents run_to(const Run& run, int step) override;
  void preview(float* out) override;
  std::vector<float> evaluate(const float* x, const float* mask, float timestep) override;

 private:
  struct Part;
  struct Captured {
    std::pair<bool, int> key;  // whether with beginning and end, and how many steps
    std::unique_ptr<DeviceGraph> graph;
  };

  void begin();
  void launch(bool whole, int steps);
  void loop(bool whole, int steps);
  DeviceGraph& graph(bool whole, int steps);
  void upload(const Run& run, seggd_pixel_type type);
  void reserve(size_t size);
  const Byte* collect(size_t size);
  float* floats(size_t count) { return reinterpret_cast<float*>(stream_->allocate(sizeof(float) * count)); }

  EngineInfo info_;
  NetworkShape shape_;
  int batch_;
  bool capturable_;
  std::unique_ptr<DeviceStream> stream_;  // before all that it must outlive
  Buffers buffers_{};
  float* x0_ = nullptr;
  size_t head_ = 0;  // counters and status lie before the result, so that all come back in one copy
  Byte *result_ = nullptr, *host_result_ = nullptr;
  Byte *inputs_ = nullptr, *host_inputs_ = nullptr;
  size_t room_ = 0;  // of the inputs
  unsigned grid_ = 0;
  std::function<void()> call_;
  bool called_ = false;
  std::vector<Captured> graphs_;  // the latest last
};

}  // namespace seggd::core
