// The kernels as an ordinary C++ compiler sees them, one thread after the other, and the functions in their headers.
//
// The order of threads is that of their indices, so what a block's last thread does comes last, as __syncthreads asks.
#include <cstddef>

#define __global__
#define __device__
#define __host__

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
static Index blockIdx, blockDim, gridDim, threadIdx;

static void __syncthreads() {}
static void __threadfence() {}

static unsigned atomicAdd(unsigned* at, unsigned value) {
  const unsigned before = *at;
  *at += value;
  return before;
}

static unsigned atomicOr(unsigned* at, unsigned value) {
  const unsigned before = *at;
  *at |= value;
  return before;
}

#include "sampling.cu"

extern "C" void emulate(void (*kernel)(const seggd::Sampling*), unsigned grid_x, unsigned grid_y, unsigned block,
                        const seggd::Sampling* state) {
  gridDim = {grid_x, grid_y, 1};
  blockDim = {block, 1, 1};
  for (blockIdx.y = 0; blockIdx.y < grid_y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < grid_x; ++blockIdx.x)
      for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x) kernel(state);
}

extern "C" void philox(const unsigned* counters, seggd::LongWord key, long long count, unsigned* words) {
  for (long long i = 0; i < count; ++i) {
    const unsigned* c = counters + 4 * i;
    const seggd::Words found = seggd::philox(key, c[0], c[1], c[2], c[3]);
    for (int k = 0; k < 4; ++k) words[4 * i + k] = found.at[k];
  }
}

extern "C" void normal(seggd::LongWord seed, unsigned step, unsigned stream, long long quads, float* z) {
  for (long long quad = 0; quad < quads; ++quad) {
    const seggd::Quad found = seggd::normal(seed, static_cast<unsigned>(quad), step, static_cast<seggd::Stream>(stream));
    for (int k = 0; k < 4; ++k) z[4 * quad + k] = found.at[k];
  }
}

// One update of arrays: guide, advance, blend; `ablated` and `real` may be null.
extern "C" void update(const seggd::UpdateRow* row, long long count, float* x, float* x0, const float* o,
                       const float* ablated, const float* z, const float* real, const float* noise, const float* map) {
  for (long long i = 0; i < count; ++i) {
    const float guided = ablated ? seggd::guide(o[i], ablated[i], *row) : o[i];
    seggd::advance(x[i], x0[i], guided, z[i], *row);
    if (real) x[i] = seggd::blend(x[i], real[i], noise[i], map[i], *row);
  }
}

extern "C" void finish(long long count, const float* x, float* pixels, unsigned char* bytes) {
  for (long long i = 0; i < count; ++i) {
    pixels[i] = seggd::pixel_of(x[i]);
    bytes[i] = seggd::byte_of(pixels[i]);
  }
}

// Size of Sampling, then where its members lie, in their order.
extern "C" void layout(size_t* offsets) {
  using seggd::Sampling;
  const size_t found[] = {
      sizeof(Sampling),
      offsetof(Sampling, images), offsetof(Sampling, lanes), offsetof(Sampling, channels),
      offsetof(Sampling, mask_channels), offsetof(Sampling, pixels), offsetof(Sampling, labels),
      offsetof(Sampling, steps), offsetof(Sampling, first), offsetof(Sampling, bytes),
      offsetof(Sampling, reserved), offsetof(Sampling, label_maps),
      offsetof(Sampling, encode_tables), offsetof(Sampling, seeds), offsetof(Sampling, rows),
      offsetof(Sampling, timesteps), offsetof(Sampling, start), offsetof(Sampling, last_x0),
      offsetof(Sampling, entries), offsetof(Sampling, real),
      offsetof(Sampling, pixel_map), offsetof(Sampling, sample), offsetof(Sampling, timestep),
      offsetof(Sampling, out), offsetof(Sampling, x0), offsetof(Sampling, result), offsetof(Sampling, step),
      offsetof(Sampling, finished), offsetof(Sampling, status),
  };
  for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); ++i) offsets[i] = found[i];
}
