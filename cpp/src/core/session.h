// The contract of a run's buffers on one device, and what passes to them: seggd_rt/engine/contract.py's Session.
#pragma once

#include <seggd/seggd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/labels.h"
#include "core/network.h"
#include "core/samplers.h"
#include "portable.cuh"

namespace seggd::core {

// Memory of the caller for (N, H, W, C) pixels.
struct Pixels {
  void* data;
  size_t size_bytes;
  seggd_pixel_type type;
};

// What some steps of a run of one image left, for other runs to go on from: where the session's memory lies.
struct Latents {
  const float *x, *x0;  // (C, H, W): the state, and the last estimate of x0
  void* stream;         // the GPU's stream that writes them; null in host memory
};

// What a session needs to draw a batch of N images.
struct Run {
  RowTable table;
  EncodeTable encoding;
  std::vector<const uint8_t*> label_maps;  // N of (H, W)
  std::vector<uint64_t> seeds;             // N
  std::vector<const float*> noise;         // N of (C, H, W), to start from; or none: the seeds' own draw
  std::optional<Latents> after;            // in place of noise: what the steps before `first` left, for all images
  std::vector<UpdateRow> entries;          // N rows whose blend alone the start goes through; or none
  const float* real = nullptr;             // (C, H, W) in [-1, 1]: what they blend in
  int first = 0;                           // the step to begin with
  bool on_device = false;                  // whether label maps, noise and result lie in the GPU's memory, and ...
  void* stream = nullptr;                  // ... the caller's stream that makes them
  std::shared_ptr<const std::vector<uint8_t>> resized;  // keeps label maps that are not the caller's
};

// Called after every step with its index; what it throws ends the run.
using OnStep = std::function<void(int)>;

// For one thread at a time, and one batch size. After a run that failed it is not used again.
class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  virtual ~Session() = default;

  virtual int batch() const = 0;

  // Draws a batch into `out`. SEGGD_ENGINE where an image is not finite; SEGGD_LABEL_MAP where a label map in the GPU's
  // memory holds a label outside the classes.
  virtual void run(const Run& run, Pixels out, const OnStep& on_step) = 0;

  // Does the steps before `step` alone. What they leave is good until the next run.
  virtual Latents run_to(const Run& run, int step) = 0;

  // Within a callback: the last estimates of x0, (N, H, W, C) float in [0, 1].
  virtual void preview(float* out) = 0;

  // Evaluates the network once: x (N, C, H, W), mask (N, mask channels, H, W); gives (N, C, H, W).
  virtual std::vector<float> evaluate(const float* x, const float* mask, float timestep) = 0;
};

// What to throw where an image is not finite.
Error not_finite(const EngineInfo& info);

// Writes an image, (C, H, W) in [-1, 1], as (H, W, C) pixels.
void write_pixels(const float* x, size_t channels, size_t pixels, float* out);
void write_pixels(const float* x, size_t channels, size_t pixels, Byte* out);

}  // namespace seggd::core
