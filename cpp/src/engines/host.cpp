#include "engines/host.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "noise.cuh"
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

}  // namespace

std::unique_ptr<Session> HostNetwork::session(int batch) const { return std::make_unique<HostSession>(*this, batch); }

HostSession::HostSession(const HostNetwork& network, int batch)
    : info_(network.info()),
      batch_(batch),
      pixels_(network.shape().pixels()),
      elements_(network.shape().elements()),
      input_elements_(static_cast<size_t>(network.shape().channels()) * pixels_),
      input_(static_cast<size_t>(batch) * input_elements_),
      o_(static_cast<size_t>(batch) * elements_),
      x0_(o_.size()),
      t_(static_cast<size_t>(batch)),
      call_(network.bind(batch, input_.data(), t_.data(), o_.data())) {}

void HostSession::run(const Run& run, Pixels out, const OnStep& on_step) {
  start(run);
  for (int index = run.first; index < run.table.steps(); ++index) {
    step(run, index);
    if (on_step) on_step(index);
  }
  require_finite();
  const size_t channels = elements_ / pixels_;
  for (int image = 0; image < batch_; ++image) {
    const size_t first = static_cast<size_t>(image) * elements_;
    if (out.type == SEGGD_UINT8) {
      write_pixels(x(image), channels, pixels_, static_cast<Byte*>(out.data) + first);
    } else {
      write_pixels(x(image), channels, pixels_, static_cast<float*>(out.data) + first);
    }
  }
}

Latents HostSession::run_to(const Run& run, int to) {
  start(run);
  for (int index = run.first; index < to; ++index) step(run, index);
  return {x(0), x0(0), nullptr};
}

void HostSession::preview(float* out) {
  for (int image = 0; image < batch_; ++image)
    write_pixels(x0(image), elements_ / pixels_, pixels_, out + static_cast<size_t>(image) * elements_);
}

std::vector<float> HostSession::evaluate(const float* x, const float* mask, float timestep) {
  const size_t mask_elements = input_elements_ - elements_;
  for (int image = 0; image < batch_; ++image) {
    const size_t i = static_cast<size_t>(image);
    std::copy_n(x + i * elements_, elements_, input_.data() + offset(image));
    std::copy_n(mask + i * mask_elements, mask_elements, input_.data() + offset(image) + elements_);
  }
  std::fill(t_.begin(), t_.end(), timestep);
  call_();
  return o_;
}

void HostSession::start(const Run& run) {
  if (run.on_device)
    throw Error(SEGGD_ENGINE_UNAVAILABLE,
                info_.engine + " on " + info_.device + " works in host memory here: give it arrays there");
  for (int image = 0; image < batch_; ++image) {
    const size_t i = static_cast<size_t>(image);
    float *x = input_.data() + offset(image), *x0 = x0_.data() + i * elements_;
    run.encoding.encode(run.label_maps[i], pixels_, x + elements_);
    if (run.after) {
      std::copy_n(run.after->x, elements_, x);
      std::copy_n(run.after->x0, elements_, x0);
    } else {
      std::fill_n(x0, elements_, 0.0f);
      if (run.noise.empty()) {
        draw(run.seeds[i], kStart, 0, elements_, [x](size_t k, float z) { x[k] = z; });
      } else {
        std::copy_n(run.noise[i], elements_, x);
      }
    }
    if (!run.entries.empty()) {
      const UpdateRow& row = run.entries[i];
      draw(run.seeds[i], kStart, 0, elements_,
           [&](size_t k, float z) { x[k] = blend(x[k], run.real[k], z, 1.0f, row); });
    }
  }
}

void HostSession::step(const Run& run, int index) {
  const size_t place = static_cast<size_t>(index);
  const UpdateRow row = run.table.rows[place];
  std::fill(t_.begin(), t_.end(), static_cast<float>(run.table.timesteps[place]));
  call_();
  for (int image = 0; image < batch_; ++image) {
    const size_t i = static_cast<size_t>(image);
    float *x = input_.data() + offset(image), *x0 = x0_.data() + i * elements_;
    const float* o = o_.data() + i * elements_;
    if (row.sigma != 0.0f) {
      draw(run.seeds[i], kStep, index, elements_, [&](size_t k, float z) { advance(x[k], x0[k], o[k], z, row); });
    } else {
      for (size_t k = 0; k < elements_; ++k) advance(x[k], x0[k], o[k], 0.0f, row);
    }
  }
}

void HostSession::require_finite() const {
  for (int image = 0; image < batch_; ++image)
    if (!std::all_of(x(image), x(image) + elements_, [](float value) { return std::isfinite(value); }))
      throw not_finite(info_);
}

}  // namespace seggd::core
