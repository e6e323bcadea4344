// The kernels around the network: one before the loop, one a step, one after it, one for a look at what it will become.
//
// A thread has four neighbouring elements of one image, one Philox block; blockIdx.y is the image. Memory is touched 16
// bytes at a time where an image's size allows it. Loops over the four run to 4, not to how many there are: unrolled, their
// arrays are registers.
#include "sampling.cuh"

namespace seggd {
namespace {

struct alignas(16) Wide {
  float at[4];
};

__device__ inline Quad load(const float* from, int count, bool wide) {
  Quad quad = {{0.0f, 0.0f, 0.0f, 0.0f}};
  if (wide) {
    const Wide all = *reinterpret_cast<const Wide*>(from);
    for (int k = 0; k < 4; ++k) quad.at[k] = all.at[k];
  } else {
    for (int k = 0; k < 4; ++k)
      if (k < count) quad.at[k] = from[k];
  }
  return quad;
}

__device__ inline void store(float* to, const Quad& quad, int count, bool wide) {
  if (wide) {
    Wide all;
    for (int k = 0; k < 4; ++k) all.at[k] = quad.at[k];
    *reinterpret_cast<Wide*>(to) = all;
  } else {
    for (int k = 0; k < 4; ++k)
      if (k < count) to[k] = quad.at[k];
  }
}

// Where a thread works, and how many of its four elements there are.
struct Place {
  int image, quad, first;

  __device__ Place()
      : image(static_cast<int>(blockIdx.y)),
        quad(static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x)),
        first(4 * quad) {}

  __device__ int count(int size) const { return first >= size ? 0 : first + 4 <= size ? 4 : size - first; }
};

__device__ inline void write_mask(const Sampling& s, const Place& at, bool wide) {
  const int count = at.count(s.pixels);
  const Byte* labels = s.label_maps + static_cast<long long>(at.image) * s.pixels + at.first;
  int label[4] = {0, 0, 0, 0};
  for (int k = 0; k < 4; ++k) {
    if (k >= count) continue;
    label[k] = labels[k];
    if (label[k] >= s.labels) {
      label[k] = 0;
      atomicOr(s.status + at.image, static_cast<Word>(kLabelOutside));
    }
  }
  if (count == 0) return;
  for (int lane = 0; lane < s.lanes; ++lane) {
    const float* table = s.encode_tables + static_cast<long long>(lane * s.images + at.image) * s.labels * s.mask_channels;
    float* mask = s.sample + sample_of(s, lane, at.image) + static_cast<long long>(s.channels) * s.pixels + at.first;
    for (int channel = 0; channel < s.mask_channels; ++channel) {
      Quad values;
      for (int k = 0; k < 4; ++k) values.at[k] = table[label[k] * s.mask_channels + channel];
      store(mask + static_cast<long long>(channel) * s.pixels, values, count, wide);
    }
  }
}

// Mixes the noised real image into x, as a row says.
__device__ inline void blend_in(const Sampling& s, const Place& at, Quad& x, int count, bool wide, const UpdateRow& row) {
  if (row.m == 0.0f) return;
  const Quad real = load(s.real + static_cast<long long>(at.image) * elements(s) + at.first, count, wide);
  const Quad noise = normal(s.seeds[at.image], at.quad, 0, kStart);
  for (int k = 0; k < 4; ++k) {
    if (k >= count) continue;
    const long long pixel = static_cast<long long>(at.image) * s.pixels + (at.first + k) % s.pixels;
    x.at[k] = blend(x.at[k], real.at[k], noise.at[k], s.pixel_map ? s.pixel_map[pixel] : 1.0f, row);
  }
}

__device__ inline void write_timestep(const Sampling& s, int step) {
  for (int image = 0; image < s.lanes * s.images; ++image) s.timestep[image] = s.timesteps[step];
}

// Writes an image, (C, P) in [-1, 1], as pixels.
__device__ inline void write_result(const Sampling& s, const Place& at, const float* from, bool checked) {
  const bool wide = s.pixels % 4 == 0;
  const int count = at.count(elements(s));
  if (count == 0) return;
  const Quad x = load(from + at.first, count, wide);
  Quad pixels;
  bool finite = true;
  for (int k = 0; k < 4; ++k) {
    finite = finite && x.at[k] - x.at[k] == 0.0f;
    pixels.at[k] = pixel_of(x.at[k]);
  }
  if (checked && !finite) atomicOr(s.status + at.image, static_cast<Word>(kNotFinite));
  const long long image = static_cast<long long>(at.image) * elements(s);
  if (s.channels == 1 && !s.bytes) {
    store(static_cast<float*>(s.result) + image + at.first, pixels, count, wide);
    return;
  }
  for (int k = 0; k < 4; ++k) {
    if (k >= count) continue;
    const int channel = (at.first + k) / s.pixels, pixel = (at.first + k) % s.pixels;
    const long long to = image + static_cast<long long>(pixel) * s.channels + channel;
    if (s.bytes) {
      static_cast<Byte*>(s.result)[to] = byte_of(finite ? pixels.at[k] : 0.0f);
    } else {
      static_cast<float*>(s.result)[to] = pixels.at[k];
    }
  }
}

}  // namespace
}  // namespace seggd

// Encodes the label maps, writes the start noise, the counters and the first timestep. The status is 0 before.
extern "C" __global__ void seggd_begin(const seggd::Sampling* state) {
  using namespace seggd;
  const Sampling s = *state;
  const Place at;
  const bool wide = s.pixels % 4 == 0;
  write_mask(s, at, wide);
  const int count = at.count(elements(s));
  if (count > 0) {
    const long long here = static_cast<long long>(at.image) * elements(s) + at.first;
    Quad x = s.start ? load(s.start + here, count, wide) : normal(s.seeds[at.image], at.quad, 0, kStart);
    if (s.entries) blend_in(s, at, x, count, wide, s.entries[at.image]);
    for (int lane = 0; lane < s.lanes; ++lane) store(s.sample + sample_of(s, lane, at.image) + at.first, x, count, wide);
    const Quad none = {{0.0f, 0.0f, 0.0f, 0.0f}};
    store(s.x0 + here, s.last_x0 ? load(s.last_x0 + here, count, wide) : none, count, wide);
  }
  if (at.quad == 0 && at.image == 0) {
    *s.finished = 0;
    *s.step = static_cast<Word>(s.first);
    write_timestep(s, s.first);
  }
}

// Does one update; the last block moves on to the next step.
extern "C" __global__ void seggd_step(const seggd::Sampling* state) {
  using namespace seggd;
  const Sampling s = *state;
  const Place at;
  const bool wide = s.pixels % 4 == 0;
  const Word step = *static_cast<const volatile Word*>(s.step);
  const int count = at.count(elements(s));
  if (count > 0) {
    const UpdateRow row = s.rows[static_cast<long long>(at.image) * s.steps + step];
    const long long here = static_cast<long long>(at.image) * elements(s) + at.first;
    float* sample = s.sample + sample_of(s, 0, at.image) + at.first;
    Quad x = load(sample, count, wide), x0 = load(s.x0 + here, count, wide), o = load(s.out + here, count, wide);
    if (s.lanes == 2) {
      const Quad ablated = load(s.out + static_cast<long long>(s.images) * elements(s) + here, count, wide);
      for (int k = 0; k < 4; ++k) o.at[k] = guide(o.at[k], ablated.at[k], row);
    }
    Quad z = {{0.0f, 0.0f, 0.0f, 0.0f}};
    if (row.sigma != 0.0f) z = normal(s.seeds[at.image], at.quad, step, kStep);
    for (int k = 0; k < 4; ++k) advance(x.at[k], x0.at[k], o.at[k], z.at[k], row);
    blend_in(s, at, x, count, wide, row);
    store(sample, x, count, wide);
    if (s.lanes == 2) store(s.sample + sample_of(s, 1, at.image) + at.first, x, count, wide);
    store(s.x0 + here, x0, count, wide);
  }
  __syncthreads();  // every thread of this block has read the step
  if (threadIdx.x + 1 == blockDim.x) {
    __threadfence();
    if (atomicAdd(s.finished, 1u) + 1 == gridDim.x * gridDim.y) {
      *s.finished = 0;
      *s.step = step + 1;
      if (static_cast<int>(step) + 1 < s.steps) write_timestep(s, static_cast<int>(step) + 1);
    }
  }
}

// Writes the result, channels last, and notes which images are not finite.
extern "C" __global__ void seggd_finish(const seggd::Sampling* state) {
  const seggd::Sampling s = *state;
  const seggd::Place at;
  seggd::write_result(s, at, s.sample + seggd::sample_of(s, 0, at.image), true);
}

// Writes the last estimate of x0 in the result's place.
extern "C" __global__ void seggd_preview(const seggd::Sampling* state) {
  const seggd::Sampling s = *state;
  const seggd::Place at;
  seggd::write_result(s, at, s.x0 + static_cast<long long>(at.image) * seggd::elements(s), false);
}
