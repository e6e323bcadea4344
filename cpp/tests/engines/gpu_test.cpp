// On a real GPU, where there is one: the session's stream, its kernels and graphs, by the CUDA runtime. Built with
// SEGGD_CUDA; cuda_test.cpp has the session on kernels compiled for the host.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "core/error.h"
#include "engines/cuda.h"
#include "engines/cuda_stream.h"
#include "engines/host.h"
#include "tests/golden.h"
#include "tests/sum.h"

namespace {

using namespace seggd::core;

// o = x, by copies on the device; and in host memory.
class CopyOnGpu : public CudaNetwork {
 public:
  explicit CopyOnGpu(const NetworkShape& shape) : CudaNetwork(make_cuda_stream), shape_(shape) {
    info_.engine = "copy", info_.device = "cuda:0";
  }
  const EngineInfo& info() const override { return info_; }
  const NetworkShape& shape() const override { return shape_; }
  bool capturable() const override { return true; }
  std::function<void()> bind(const Buffers& buffers, DeviceStream& stream) const override {
    return
        [=, &stream, elements = shape_.elements(), stride = static_cast<size_t>(shape_.channels()) * shape_.pixels()] {
          for (size_t i = 0; i < static_cast<size_t>(buffers.batch); ++i)
            stream.copy(buffers.out + i * elements, buffers.sample + i * stride, elements * sizeof(float));
        };
  }

 private:
  EngineInfo info_;
  NetworkShape shape_;
};

class CopyOnHost : public sum::Sum {
 public:
  using Sum::Sum;
  std::function<void()> bind(int batch, float* sample, float*, float* out) const override {
    return [=, elements = shape().elements(), stride = static_cast<size_t>(shape().channels()) * shape().pixels()] {
      for (size_t i = 0; i < static_cast<size_t>(batch); ++i)
        std::copy_n(sample + i * stride, elements, out + i * elements);
    };
  }
};

Pixels pixels_of(std::vector<float>& image) { return {image.data(), image.size() * sizeof(float), SEGGD_FLOAT32}; }

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) GTEST_SKIP() << "there is no GPU";
    for (size_t i = 0; i < label_map_.size(); ++i) label_map_[i] = i % 3 == 0;
  }

  // Two images between black and white, with noise at every step.
  seggd::core::Run run(int steps = 5) const {
    seggd::core::Run made = sum::two_steps();
    made.noise.clear(), made.table.timesteps.clear(), made.table.rows.clear();
    made.label_maps.assign(2, label_map_.data());
    for (int step = 0; step < steps; ++step) {
      made.table.timesteps.push_back(static_cast<float>(steps - step));
      made.table.rows.push_back({0.2f, 0.01f, 1, 0.5f, 0.01f, 0.3f, 0.1f, 0.2f, 0, 0, 0, 0});
    }
    return made;
  }

  std::vector<float> on_host(const NetworkShape& shape, const seggd::core::Run& run) const {
    std::vector<float> image(2 * shape.elements());
    CopyOnHost(0, shape).session(2)->run(run, pixels_of(image), {});
    return image;
  }

  static void expect_near(const std::vector<float>& found, const std::vector<float>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    // A GPU's logarithms differ by an edge of float; a wrong address by far more.
    for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-4) << i;
  }

  std::vector<uint8_t> label_map_ = std::vector<uint8_t>(32 * 40);
};

TEST_F(Gpu, DrawsWhatTheHostDraws) {
  for (const NetworkShape& shape : {NetworkShape{1, 1, 2, 3}, NetworkShape{3, 1, 6, 6}, NetworkShape{1, 1, 32, 40}}) {
    const CopyOnGpu network(shape);
    const std::unique_ptr<Session> session = network.session(2);
    std::vector<float> image(2 * shape.elements());
    for (const int steps : {5, 3, 5}) {
      session->run(run(steps), pixels_of(image), {});
      expect_near(image, on_host(shape, run(steps)));
      std::vector<int> told;
      session->run(run(steps), pixels_of(image), [&](int index) { told.push_back(index); });
      expect_near(image, on_host(shape, run(steps)));
      EXPECT_EQ(told.size(), static_cast<size_t>(steps));
    }
  }
}

TEST_F(Gpu, WhatIsNotFiniteIsAnErrorAndTheNextIsNot) {
  const NetworkShape shape{1, 1, 2, 3};
  const std::unique_ptr<Session> session = CopyOnGpu(shape).session(2);
  std::vector<float> image(12), bad(6, NAN);
  seggd::core::Run broken = run();
  broken.noise.assign(2, bad.data());
  EXPECT_EQ(golden::outcome([&] { session->run(broken, pixels_of(image), {}); }).status, SEGGD_ENGINE);
  session->run(run(), pixels_of(image), {});
  expect_near(image, on_host(shape, run()));
}

TEST_F(Gpu, ArraysInItsMemoryAreUsedInTheOrderOfTheirStream) {
  const NetworkShape shape{1, 1, 32, 40};
  const size_t size = 2 * shape.elements() * sizeof(float);
  cudaStream_t caller;
  void *labels, *out;
  ASSERT_EQ(cudaStreamCreateWithFlags(&caller, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&labels, label_map_.size()), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&out, size), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(labels, 99, label_map_.size(), caller), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(labels, label_map_.data(), label_map_.size(), cudaMemcpyHostToDevice, caller), cudaSuccess);
  seggd::core::Run guest = run();
  guest.label_maps.assign(2, static_cast<uint8_t*>(labels)), guest.on_device = true, guest.stream = caller;
  const std::unique_ptr<Session> session = CopyOnGpu(shape).session(2);
  session->run(guest, {out, size, SEGGD_FLOAT32}, {});
  std::vector<float> image(2 * shape.elements());
  ASSERT_EQ(cudaMemcpy(image.data(), out, size, cudaMemcpyDeviceToHost), cudaSuccess);
  expect_near(image, on_host(shape, run()));
  ASSERT_EQ(cudaMemsetAsync(labels, 99, label_map_.size(), caller), cudaSuccess);
  EXPECT_EQ(golden::outcome([&] { session->run(guest, {out, size, SEGGD_FLOAT32}, {}); }).status, SEGGD_LABEL_MAP);
  cudaFree(labels), cudaFree(out), cudaStreamDestroy(caller);
}

TEST_F(Gpu, ARecordingThatIsBrokenOffLeavesNothing) {
  const std::unique_ptr<DeviceStream> stream = make_cuda_stream(0);
  const Active active(*stream);
  seggd::Byte* memory = stream->allocate(256);
  for (int time = 0; time < 3; ++time) {
    EXPECT_THROW(stream->capture([] { throw std::runtime_error("on purpose"); }), std::runtime_error);
    EXPECT_THROW(stream->capture([&] { stream->synchronize(); }), Error);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    stream->capture([&] { stream->clear(memory, 256); })->launch();
    stream->synchronize();
  }
}

TEST_F(Gpu, MemoryIsGivenBack) {
  const auto used = [] {
    size_t free = 0, total = 0;
    EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
    return total - free;
  };
  const NetworkShape shape{1, 1, 1024, 1024};
  CopyOnGpu(shape).session(4);  // what the context keeps is there
  const size_t before = used();
  {
    const std::unique_ptr<Session> session = CopyOnGpu(shape).session(4);
    EXPECT_GT(used(), before);
  }
  EXPECT_LE(used(), before + (size_t{4} << 20));
}

}  // namespace
