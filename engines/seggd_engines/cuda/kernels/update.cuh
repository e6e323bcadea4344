// The update row: seggd_rt/diffusion/rows.py, operation for operation.
//
//   o  = o_full + g * (o_full - o_ablated)
//   x0 = clip(kx * x + ko * o, -clip, clip)
//   x  = cx * x + co * o + c0 * x0 + cp * x0_last + sigma * z
//   x  = (1 - m) * x + m * (a * real + b * z')
#pragma once

#include "portable.cuh"

namespace seggd {

// As it lies in the row table: twelve floats.
struct UpdateRow {
  float kx, ko, clip, cx, co, c0, cp, sigma, g, m, a, b;
};

SEGGD_FUNCTION float guide(float full, float ablated, const UpdateRow& row) {
  return full + row.g * (full - ablated);
}

// Turns x and the last x0 into the next; z is read only where sigma is not 0.
SEGGD_FUNCTION void advance(float& x, float& x0, float o, float z, const UpdateRow& row) {
  float estimate = row.kx * x + row.ko * o;
  // Comparisons, not fmin: what is not a number stays so, and is found at the end.
  if (estimate < -row.clip) estimate = -row.clip;
  if (estimate > row.clip) estimate = row.clip;
  x = row.cx * x + row.co * o + row.c0 * estimate;
  if (row.cp != 0.0f) x = x + row.cp * x0;
  if (row.sigma != 0.0f) x = x + row.sigma * z;
  x0 = estimate;
}

// Mixes in the noised real image; `pixel` is the weight's factor at this place.
SEGGD_FUNCTION float blend(float x, float real, float noise, float pixel, const UpdateRow& row) {
  const float weight = row.m * pixel;
  return x * (1.0f - weight) + weight * (row.a * real + row.b * noise);
}

// x in [-1, 1] as a pixel in [0, 1].
SEGGD_FUNCTION float pixel_of(float x) {
  const float value = x / 2.0f + 0.5f;
  return value < 0.0f ? 0.0f : value > 1.0f ? 1.0f : value;
}

// A pixel as a byte, ties to even as NumPy rounds.
SEGGD_FUNCTION Byte byte_of(float pixel) { return static_cast<Byte>(rintf(pixel * 255.0f)); }

}  // namespace seggd
