// What the library adds to the network's own time, on the CPU: seggd_benchmark BUNDLE [STEPS] [ROUNDS] [THREADS]
//
// In each round an image, then the same number of bare calls of the bound network: medians, and the ratio's quartiles,
// in which the machine's own drift shows. Within the image the calls are timed too: what passes outside them no drift
// touches. Prints one line of JSON, of the same meaning as `seggd-rt bench`'s.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "api/generator.h"
#include "api/loading.h"
#include "engines/host.h"

namespace {

using namespace seggd::core;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A network that adds up the time of its calls.
class Timed : public HostNetwork {
 public:
  Timed(std::unique_ptr<HostNetwork> network, double& seconds) : network_(std::move(network)), seconds_(seconds) {}
  const EngineInfo& info() const override { return network_->info(); }
  const NetworkShape& shape() const override { return network_->shape(); }
  std::function<void()> bind(int batch, float* sample, float* timestep, float* out) const override {
    return [call = network_->bind(batch, sample, timestep, out), this] {
      const Clock::time_point start = Clock::now();
      call();
      seconds_ += seconds_since(start);
    };
  }

 private:
  std::unique_ptr<HostNetwork> network_;
  double& seconds_;
};

double quantile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(fraction * static_cast<double>(values.size() - 1) + 0.5)];
}

void measure(const char* path, int steps, int rounds, int threads) {
  const auto bundle = std::make_shared<const Bundle>(std::filesystem::u8path(path));
  LoadOptions options;
  options.engine = "onnxruntime", options.threads = threads;
  double within = 0;
  std::unique_ptr<HostNetwork> on_cpu(dynamic_cast<HostNetwork*>(load(*bundle, options).release()));
  auto timed = std::make_unique<Timed>(std::move(on_cpu), within);
  HostSession alone(*timed, 1);
  Generator generator(bundle, std::move(timed));
  const ImageSpec& image = bundle->manifest().image;
  std::vector<uint8_t> label_map(image.pixels(), 1);
  std::vector<float> pixels(image.elements());
  seggd_request request{};
  request.struct_size = sizeof request, request.label_maps = label_map.data();
  request.height = image.height, request.width = image.width, request.steps = steps;
  const Pixels out{pixels.data(), pixels.size() * sizeof(float), SEGGD_FLOAT32};
  std::vector<double> images_ms, calls_ms, beyond_ms, outside_ms;
  for (int round = -2; round < rounds; ++round) {
    within = 0;
    Clock::time_point start = Clock::now();
    generator.generate(request, out);
    const double whole = seconds_since(start), inner = within;
    start = Clock::now();
    for (int step = 0; step < steps; ++step) alone.call();
    const double bare = seconds_since(start);
    if (round < 0) continue;  // warming up
    images_ms.push_back(1e3 * whole), calls_ms.push_back(1e3 * bare);
    beyond_ms.push_back(1e3 * (whole - bare)), outside_ms.push_back(1e3 * (whole - inner));
  }
  const double image_ms = quantile(images_ms, 0.5);
  const auto percent = [image_ms](const std::vector<double>& ms, double at) {
    return 100 * quantile(ms, at) / image_ms;
  };
  std::printf(
      "{\"image_ms\": %.4f, \"calls_ms\": %.4f, \"percent\": %.3f, \"quartiles_percent\": [%.3f, %.3f], "
      "\"outside_percent\": %.3f}\n",
      image_ms, quantile(calls_ms, 0.5), percent(beyond_ms, 0.5), percent(beyond_ms, 0.25), percent(beyond_ms, 0.75),
      percent(outside_ms, 0.5));
}

int at_least_one(const char* text) { return std::max(1, std::atoi(text)); }

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: seggd_benchmark BUNDLE [STEPS] [ROUNDS] [THREADS]\n");
    return 2;
  }
  try {
    measure(argv[1], argc > 2 ? at_least_one(argv[2]) : 50, argc > 3 ? at_least_one(argv[3]) : 30,
            argc > 4 ? at_least_one(argv[4]) : 0);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return 0;
}
