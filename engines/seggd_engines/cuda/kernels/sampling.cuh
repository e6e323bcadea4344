// What the three kernels of a sampling loop work on. It lies in device memory, so a captured graph holds one address
// and everything that varies between images is read at run time.
#pragma once

#include "noise.cuh"
#include "update.cuh"

namespace seggd {

// Images i of N, lanes l of L (1, or 2 with guidance: full, then ablated), C image channels, M mask channels, P pixels,
// S steps. Network image (l, i) stands at l * N + i. All float arrays start at multiples of 16 bytes.
struct Sampling {
  int images, lanes, channels, mask_channels, pixels, labels, steps;
  int first;     // the step to begin with: the steps before it were done in another run
  int bytes;     // whether the result is bytes, not float
  int reserved;  // 0

  const Byte* label_maps;         // (N, P)
  const float* encode_tables;     // (L, N, labels, M)
  const LongWord* seeds;          // (N)
  const UpdateRow* rows;          // (N, S)
  const float* timesteps;         // (S)
  const float* start;             // (N, C, P), or null: drawn from the seeds
  const float* last_x0;           // (N, C, P): what the step before the first estimated, or null: 0
  const UpdateRow* entries;       // (N): the blend that the start goes through, or null
  const float* real;              // (N, C, P) in [-1, 1], or null where no row blends
  const float* pixel_map;         // (N, P) in [0, 1], or null: 1 everywhere

  float* sample;                  // (L * N, C + M, P): the network's input, [x | mask]
  float* timestep;                // (L * N)
  const float* out;               // (L * N, C, P): the network's output
  float* x0;                      // (N, C, P): the last estimate
  void* result;                   // (N, P, C) float in [0, 1], or bytes

  Word* step;                     // (1) how many steps are done
  Word* finished;                 // (1) blocks that are done with the current step
  Word* status;                   // (N) Flaw bits; 0 before the loop
};

enum Flaw : Word { kNotFinite = 1, kLabelOutside = 2 };

SEGGD_FUNCTION int elements(const Sampling& s) { return s.channels * s.pixels; }

// Where the input of a network image starts.
SEGGD_FUNCTION long long sample_of(const Sampling& s, int lane, int image) {
  return (static_cast<long long>(lane) * s.images + image) * (s.channels + s.mask_channels) * s.pixels;
}

}  // namespace seggd
