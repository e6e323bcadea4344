// One run's buffers in host memory around a bound network: engines/seggd_engines/host.py.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "labels.h"
#include "network.h"
#include "noise.cuh"
#include "samplers.h"

namespace seggd::core {

// What a session needs to draw a batch of N images.
struct Run {
  RowTable table;
  EncodeTable encoding;
  std::vector<const uint8_t*> label_maps;  // N of (H, W)
  std::vector<uint64_t> seeds;             // N
  std::vector<const float*> noise;         // N of (C, H, W), to start from; or none: the seeds' own draw
  std::vector<UpdateRow> entries;          // N rows whose blend alone the start goes through; or none
  const float* real = nullptr;             // (C, H, W) in [-1, 1]: what they blend in
  const float* last_x0 = nullptr;          // (C, H, W): what the step before the first estimated; or null for 0
  int first = 0;                           // the step to begin with
};

// For one thread at a time. The network's input holds [x | mask]: the mask is written once, x is updated in place, so
// no step copies or concatenates.
class Session {
 public:
  Session(const Network& network, int batch);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  int batch() const { return batch_; }
  size_t elements() const { return elements_; }  // of an image, (C, H, W)

  // Encodes the label maps, writes the start. The run's memory is read until the last step is done.
  void start(const Run& run);

  // Does the step `index`, which follows the last.
  void step(int index);

  // Evaluates the network once: x (C, H, W), mask (mask channels, H, W); of a session of one image.
  const float* evaluate(const float* x, const float* mask, float timestep);

  // Evaluates it on what the buffers hold, for those who time it alone.
  void call() { call_(); }

  const float* x(int image) const { return input_.data() + offset(image); }
  const float* x0(int image) const { return x0_.data() + static_cast<size_t>(image) * elements_; }

  // SEGGD_ENGINE where an image is not finite.
  void require_finite() const;

 private:
  size_t offset(int image) const { return static_cast<size_t>(image) * input_elements_; }

  EngineInfo info_;
  int batch_;
  size_t pixels_, elements_, input_elements_;
  std::vector<float> input_, o_, x0_, t_;
  const Run* run_ = nullptr;
  std::function<void()> call_;
};

// Writes an image, (C, H, W) in [-1, 1], as (H, W, C) pixels.
void write_pixels(const float* x, size_t channels, size_t pixels, float* out);
void write_pixels(const float* x, size_t channels, size_t pixels, Byte* out);

}  // namespace seggd::core
