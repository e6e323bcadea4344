#include "core/session.h"

#include <string>

#include "core/error.h"
#include "core/names.h"
#include "update.cuh"

namespace seggd::core {
namespace {

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

Error not_finite(const EngineInfo& info) {
  const bool lower = info.precision != Precision::kFp32;
  return Error(SEGGD_ENGINE, info.engine + " in " + std::string(kPrecisions.name(info.precision)) +
                                 " gave an image that is not finite" + (lower ? ": try precision \"fp32\"" : ""));
}

void write_pixels(const float* x, size_t channels, size_t pixels, float* out) { write(x, channels, pixels, out); }
void write_pixels(const float* x, size_t channels, size_t pixels, Byte* out) { write(x, channels, pixels, out); }

}  // namespace seggd::core
