// One run's buffers in host memory around a bound network: engines/seggd_engines/host.py.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/session.h"

namespace seggd::core {

// A network whose calls read and write host memory. Any number of threads may bind and call it.
class HostNetwork : public Network {
 public:
  // A call that evaluates o = unet(sample, timestep) on memory that outlives it: sample is [x | mask],
  // (batch, channels, H, W); timestep (batch); out (batch, image_channels, H, W). SEGGD_ENGINE where it fails.
  virtual std::function<void()> bind(int batch, float* sample, float* timestep, float* out) const = 0;

  std::unique_ptr<Session> session(int batch) const override;
};

// The network's input holds [x | mask]: the mask is written once, x is updated in place, so no step copies or
// concatenates.
class HostSession : public Session {
 public:
  HostSession(const HostNetwork& network, int batch);

  int batch() const override { return batch_; }
  void run(const Run& run, Pixels out, const OnStep& on_step) override;
  Latents run_to(const Run& run, int step) override;
  void preview(float* out) override;
  std::vector<float> evaluate(const float* x, const float* mask, float timestep) override;

  // A run in parts: encodes the label maps and writes the start; does a step; SEGGD_ENGINE where an image is not
  // finite.
  void start(const Run& run);
  void step(const Run& run, int index);
  void require_finite() const;

  // Evaluates the network on what the buffers hold, for those who time it alone.
  void call() { call_(); }

  const float* x(int image) const { return input_.data() + offset(image); }
  const float* x0(int image) const { return x0_.data() + static_cast<size_t>(image) * elements_; }

 private:
  size_t offset(int image) const { return static_cast<size_t>(image) * input_elements_; }

  EngineInfo info_;
  int batch_;
  size_t pixels_, elements_, input_elements_;
  std::vector<float> input_, o_, x0_, t_;
  std::function<void()> call_;
};

}  // namespace seggd::core
