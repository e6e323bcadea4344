#include "session.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.h"
#include "names.h"
#include "update.cuh"

namespace seggd::core {
namespace {

// Calls use(element, z) with the normal number of every element of an image.
template <class Use>
void draw(uint64_t seed, Stream stream, int step, size_t elements, Use use) {
  for (size_t first = 0; first < elements; first += 4) {
    const Quad z = normal(seed, static_cast<Word>(first / 4), static_cast<Word>(step), stream);
    const size_t count = std::min<size_t>(4, elements - first);
    for (size_t k = 0; k < count; ++k) use(first + k, z.at[k]);
  }
}

template <class Pixel>
void write(const float* x, size_t channels, size_t pixels, Pixel* out) {
  for (size_t channel = 0; channel < channels; ++channel)
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
      const float value = pixel_of(x[channel * pixels + pixel]);
      if constexpr (sizeof(Pixel) == 1) {
        out[pixel * channels + channel] = byte_of(value);
      } else {
        out[pixel * channels + channel] = value;
      }
    }
}

}  // namespace

Session::Session(const Network& network, int batch)
    : info_(network.info()),
      batch_(batch),
      pixels_(network.shape().pixels()),
      elements_(static_cast<size_t>(network.shape().image_channels) * pixels_),
      input_elements_(static_cast<size_t>(network.shape().channels()) * pixels_),
      input_(static_cast<size_t>(batch) * input_elements_),
      o_(static_cast<size_t>(batch) * elements_),
      x0_(o_.size()),
      t_(static_cast<size_t>(batch)),
      call_(network.bind(batch, input_.data(), t_.data(), o_.data())) {}

void Session::start(const Run& run) {
  run_ = &run;
  for (int image = 0; image < batch_; ++image) {
    const size_t i = static_cast<size_t>(image);
    float* x = input_.data() + offset(image);
    run.encoding.encode(run.label_maps[i], pixels_, x + elements_);
    if (run.noise.empty()) {
      draw(run.seeds[i], kStart, 0, elements_, [x](size_t k, float z) { x[k] = z; });
    } else {
      std::copy_n(run.noise[i], elements_, x);
    }
    float* x0 = x0_.data() + i * elements_;
    if (run.last_x0) {
      std::copy_n(run.last_x0, elements_, x0);
    } else {
      std::fill_n(x0, elements_, 0.0f);
    }
    if (!run.entries.empty()) {
      const UpdateRow& row = run.entries[i];
      draw(run.seeds[i], kStart, 0, elements_,
           [&](size_t k, float z) { x[k] = blend(x[k], run.real[k], z, 1.0f, row); });
    }
  }
}

void Session::step(int index) {
  const size_t place = static_cast<size_t>(index);
  const UpdateRow row = run_->table.rows[place];
  std::fill(t_.begin(), t_.end(), static_cast<float>(run_->table.timesteps[place]));
  call_();
  for (int image = 0; image < batch_; ++image) {
    const size_t i = static_cast<size_t>(image);
    float *x = input_.data() + offset(image), *x0 = x0_.data() + i * elements_;
    const float* o = o_.data() + i * elements_;
    if (row.sigma != 0.0f) {
      draw(run_->seeds[i], kStep, index, elements_, [&](size_t k, float z) { advance(x[k], x0[k], o[k], z, row); });
    } else {
      for (size_t k = 0; k < elements_; ++k) advance(x[k], x0[k], o[k], 0.0f, row);
    }
  }
}

const float* Session::evaluate(const float* x, const float* mask, float timestep) {
  std::copy_n(x, elements_, input_.data());
  std::copy_n(mask, input_elements_ - elements_, input_.data() + elements_);
  t_[0] = timestep;
  call_();
  return o_.data();
}

void Session::require_finite() const {
  for (int image = 0; image < batch_; ++image) {
    if (std::all_of(x(image), x(image) + elements_, [](float value) { return std::isfinite(value); })) continue;
    const bool lower = info_.precision != Precision::kFp32;
    throw Error(SEGGD_ENGINE, info_.engine + " in " + std::string(kPrecisions.name(info_.precision)) +
                                  " gave an image that is not finite" + (lower ? ": try precision \"fp32\"" : ""));
  }
}

void write_pixels(const float* x, size_t channels, size_t pixels, float* out) { write(x, channels, pixels, out); }
void write_pixels(const float* x, size_t channels, size_t pixels, Byte* out) { write(x, channels, pixels, out); }

}  // namespace seggd::core
