// The session on a GPU, around the real kernels compiled for the host: it draws what the session on the CPU draws.
#include "engines/cuda.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "api/generator.h"
#include "api/loading.h"
#include "bundle/bundle.h"
#include "tests/engines/emulated.h"
#include "tests/golden.h"
#include "tests/sum.h"

namespace {

using namespace seggd::core;
using emulated::EmulatedNetwork;
using emulated::EmulatedStream;
using sum::Sum;
using sum::two_steps;

Pixels pixels_of(std::vector<float>& image) { return {image.data(), image.size() * sizeof(float), SEGGD_FLOAT32}; }

// Numbers between black and white, which two_steps' are not.
seggd::core::Run gentle(int steps = 2) {
  seggd::core::Run run = two_steps();
  run.noise.clear();
  run.table.timesteps.clear(), run.table.rows.clear();
  for (int step = 0; step < steps; ++step) {
    run.table.timesteps.push_back(steps - step);
    run.table.rows.push_back({0.2f, 0.01f, 1, 0.5f, 0.01f, 0.3f, 0.1f, 0.2f, 0, 0, 0, 0});
  }
  return run;
}

std::vector<float> on_host(const HostNetwork& network, const seggd::core::Run& run) {
  std::vector<float> image(run.seeds.size() * network.shape().elements());
  network.session(static_cast<int>(run.seeds.size()))->run(run, pixels_of(image), {});
  return image;
}

TEST(CudaSession, DrawsWhatTheHostDraws) {
  // Pixels in whole quads and not, one channel and several.
  for (const NetworkShape& shape : {NetworkShape{1, 1, 2, 3}, NetworkShape{3, 1, 6, 6}, NetworkShape{1, 1, 32, 40}}) {
    const auto network = std::make_shared<Sum>(0.0f, shape);
    const EmulatedNetwork gpu(network);
    std::vector<uint8_t> label_map(shape.pixels());
    for (size_t i = 0; i < label_map.size(); ++i) label_map[i] = i % 3 == 0;
    std::vector<float> start(shape.elements(), 0.25f);
    seggd::core::Run run = gentle();
    run.label_maps.assign(2, label_map.data());
    for (const bool given : {false, true}) {
      run.noise.assign(given ? 2 : 0, start.data());
      std::vector<float> image(2 * shape.elements());
      gpu.session(2)->run(run, pixels_of(image), {});
      EXPECT_EQ(image, on_host(*network, run));
      EXPECT_TRUE(std::any_of(image.begin(), image.end(), [](float value) { return value > 0 && value < 1; }));
    }
  }
}

TEST(CudaSession, OneGraphServesEveryImageOfANumberOfSteps) {
  const auto network = std::make_shared<Sum>();
  const EmulatedNetwork gpu(network);
  const std::unique_ptr<Session> session = gpu.session(2);
  const EmulatedStream& stream = gpu.last_stream();
  std::vector<float> image(12);
  for (const uint64_t seed : {1, 2, 3}) {
    seggd::core::Run run = gentle();
    run.seeds = {seed, seed + 10};
    session->run(run, pixels_of(image), {});
    EXPECT_EQ(image, on_host(*network, run));
  }
  EXPECT_EQ(stream.graphs, 1);
  EXPECT_EQ(stream.launches, 3);
  const size_t held = stream.memory.size();
  session->run(gentle(), pixels_of(image), {});
  EXPECT_EQ(stream.memory.size(), held) << "memory is fixed after the first image";
  for (const int steps : {3, 4, 5, 6, 3, 7, 3, 40}) {
    session->run(gentle(steps), pixels_of(image), {});
    EXPECT_EQ(image, on_host(*network, gentle(steps))) << steps;
  }
  EXPECT_EQ(stream.graphs, 1 + 6) << "the latest four are kept";
  EXPECT_EQ(stream.entered, 0) << "the caller's device is its own again";
}

TEST(CudaSession, AnEngineThatCannotBeCapturedIsRunStepByStep) {
  const auto network = std::make_shared<Sum>();
  const EmulatedNetwork gpu(network, false);
  const std::unique_ptr<Session> session = gpu.session(2);
  std::vector<float> image(12);
  session->run(gentle(), pixels_of(image), {});
  EXPECT_EQ(image, on_host(*network, gentle()));
  EXPECT_EQ(gpu.last_stream().graphs, 0);
}

TEST(CudaSession, StepsAreToldWhenTheyAreDone) {
  const auto network = std::make_shared<Sum>();
  const EmulatedNetwork gpu(network);
  const std::unique_ptr<Session> session = gpu.session(2);
  std::vector<float> image(12), look(12);
  std::vector<int> told;
  session->run(gentle(3), pixels_of(image), [&](int index) {
    EXPECT_TRUE(gpu.last_stream().idle());
    told.push_back(index);
    session->preview(look.data());
  });
  EXPECT_EQ(told, (std::vector{0, 1, 2}));
  EXPECT_EQ(image, on_host(*network, gentle(3)));
  std::vector<float> looked(12);
  HostSession host(*network, 2);
  host.run(gentle(3), pixels_of(image), {});
  host.preview(looked.data());
  EXPECT_EQ(look, looked);
}

TEST(CudaSession, WhatIsNotFiniteIsAnErrorAndTheNextIsNot) {
  const std::unique_ptr<Session> session = EmulatedNetwork(std::make_shared<Sum>()).session(2);
  std::vector<float> image(12), bad(6, 0.5f);
  bad[4] = NAN;
  seggd::core::Run run = gentle();
  run.noise.assign(2, bad.data());
  const golden::Outcome found = golden::outcome([&] { session->run(run, pixels_of(image), {}); });
  EXPECT_EQ(found.status, SEGGD_ENGINE);
  EXPECT_EQ(found.message, "sum in fp32 gave an image that is not finite");
  session->run(gentle(), pixels_of(image), {});
}

TEST(CudaSession, EvaluatesTheNetworkOnce) {
  const auto network = std::make_shared<Sum>();
  const std::vector<float> x{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, mask(12, 1.0f);
  const std::vector<float> expected = network->session(2)->evaluate(x.data(), mask.data(), 5);
  EXPECT_EQ(expected[11], 17.0f);
  const std::unique_ptr<Session> session = EmulatedNetwork(network).session(2);
  for (int time = 0; time < 2; ++time) EXPECT_EQ(session->evaluate(x.data(), mask.data(), 5), expected);
}

TEST(CudaSession, ManyImagesGoOnFromOne) {
  const auto network = std::make_shared<Sum>();
  const EmulatedNetwork gpu(network);
  seggd::core::Run run = gentle(5);
  run.seeds = {7}, run.label_maps.resize(1);
  const std::unique_ptr<Session> before = gpu.session(1), after = gpu.session(2);
  seggd::core::Run rest = run;
  rest.after = before->run_to(run, 3);
  rest.first = 3, rest.seeds = {7, 7}, rest.label_maps.assign(2, run.label_maps.front());
  std::vector<float> images(12);
  after->run(rest, pixels_of(images), {});
  const std::vector<float> whole = on_host(*network, run);
  EXPECT_EQ(std::vector<float>(images.begin(), images.begin() + 6), whole);
  EXPECT_EQ(std::vector<float>(images.begin() + 6, images.end()), whole);
}

// A caller's own arrays, filled by its stream, which has done nothing yet when the session is asked.
struct Guest {
  std::vector<uint8_t> label_map = std::vector<uint8_t>(6, 99);
  std::vector<float> noise = std::vector<float>(6, NAN);
  EmulatedStream stream;  // which goes before what its work is on
  seggd::core::Run run = gentle();

  explicit Guest(uint8_t label = 1) {
    stream.enqueue([this, label] {
      std::fill(label_map.begin(), label_map.end(), label);
      std::fill(noise.begin(), noise.end(), 0.25f);
    });
    run.label_maps = {label_map.data(), label_map.data()}, run.noise = {noise.data(), noise.data()};
    run.on_device = true, run.stream = stream.handle();
  }
};

TEST(CudaSession, GuestsAreReadAndWrittenInTheOrderOfTheirStream) {
  const auto network = std::make_shared<Sum>();
  Guest guest;
  std::vector<float> image(12, 77.0f);
  EmulatedNetwork(network).session(2)->run(guest.run, pixels_of(image), {});
  seggd::core::Run expected = guest.run;
  expected.on_device = false;
  EXPECT_EQ(image, on_host(*network, expected));
  const golden::Outcome refused = golden::outcome([&] { on_host(*network, guest.run); });
  EXPECT_EQ(refused.status, SEGGD_ENGINE_UNAVAILABLE);
}

TEST(CudaSession, ALabelOfAGuestThatIsNone) {
  Guest guest(2);
  std::vector<float> image(12);
  const std::unique_ptr<Session> session = EmulatedNetwork(std::make_shared<Sum>()).session(2);
  EXPECT_EQ(golden::outcome([&] { session->run(guest.run, pixels_of(image), {}); }).status, SEGGD_LABEL_MAP);
  session->run(gentle(), pixels_of(image), {});
}

// A whole bundle, its network by ONNX Runtime on the CPU, in one generator on the host and one on the "GPU".
struct Pair {
  std::shared_ptr<const Bundle> bundle;
  Generator host, gpu;

  explicit Pair(const std::string& name)
      : bundle(std::make_shared<const Bundle>(golden::bundle(name))),
        host(bundle, open()),
        gpu(bundle, std::make_unique<EmulatedNetwork>(
                        std::shared_ptr<const HostNetwork>(dynamic_cast<HostNetwork*>(open().release())))) {}

  std::unique_ptr<Network> open() const {
    seggd::core::LoadOptions options;
    options.engine = "onnxruntime", options.threads = 1, options.libraries.onnxruntime = ONNXRUNTIME_LIBRARY;
    return load(*bundle, options);
  }
};

TEST(CudaSession, AGeneratorOnItDrawsTheHostsImages) {
  for (const char* name : {"tiny", "tiny-rgb"}) {
    Pair pair(name);
    const ImageSpec& image = pair.bundle->manifest().image;
    std::vector<uint8_t> label_map(2 * image.pixels(), 1);
    std::fill_n(label_map.begin(), image.pixels() / 2, uint8_t{2});
    seggd_request request{};
    request.struct_size = sizeof request, request.label_maps = label_map.data(), request.label_map_count = 2;
    request.height = image.height, request.width = image.width, request.count = 2, request.steps = 4, request.eta = 0.5;
    const size_t size = 2 * image.elements();
    std::vector<float> host(size), gpu(size);
    pair.host.generate(request, pixels_of(host)), pair.gpu.generate(request, pixels_of(gpu));
    EXPECT_EQ(gpu, host) << name;
    std::vector<uint8_t> bytes(size), host_bytes(size);
    pair.host.generate(request, {host_bytes.data(), size, SEGGD_UINT8});
    pair.gpu.generate(request, {bytes.data(), size, SEGGD_UINT8});
    EXPECT_EQ(bytes, host_bytes) << name;
    EmulatedStream caller;
    std::fill(gpu.begin(), gpu.end(), 77.0f);
    pair.gpu.generate_on_device(request, caller.handle(), pixels_of(gpu));
    EXPECT_EQ(gpu, host) << name;

    const std::vector<float> real(image.elements(), 0.5f);
    const std::vector<double> weights{0.0, 0.7};
    seggd_interpolation how{};
    how.struct_size = sizeof how, how.real = real.data(), how.real_size_bytes = real.size() * sizeof(float);
    how.weights = weights.data(), how.weight_count = 2, how.at = 0.6;
    request.count = 1, request.label_map_count = 1, request.sampler = "dpm-solver++", request.eta = 0;
    pair.host.interpolate(request, how, pixels_of(host)), pair.gpu.interpolate(request, how, pixels_of(gpu));
    EXPECT_EQ(gpu, host) << name;
  }
}

}  // namespace
