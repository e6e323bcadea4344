// What a viewer does: somebody edits the mask, and the image follows. viewer_loop BUNDLE [EDITS] [STEPS]
//
// One generator and one image buffer serve all edits, so that nothing is loaded or allocated in the loop. An edit that
// comes while an image is drawn cancels it, as the third does here.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <seggd/seggd.hpp>

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// A disk of class 1 that grows by a pixel an edit.
void edit(std::vector<std::uint8_t>& labels, const seggd_bundle_info& size, int radius) {
  for (int row = 0; row < size.height; ++row)
    for (int column = 0; column < size.width; ++column) {
      const int y = row - size.height / 2, x = column - size.width / 2;
      labels[static_cast<std::size_t>(row * size.width + column)] = y * y + x * x < radius * radius;
    }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: viewer_loop BUNDLE [EDITS] [STEPS]\n");
    return 2;
  }
  const int edits = argc > 2 ? std::atoi(argv[2]) : 10, steps = argc > 3 ? std::atoi(argv[3]) : 10;
  try {
    const Clock::time_point opened = Clock::now();
    const seggd::Bundle bundle(argv[1]);
    const seggd::Generator generator(bundle);
    const seggd_bundle_info size = bundle.info();
    std::printf("opened and checked in %.0f ms, on %s\n", ms_since(opened), generator.engine().name.c_str());

    const std::size_t pixels = static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
    std::vector<std::uint8_t> labels(pixels);
    std::vector<std::uint8_t> image(pixels * static_cast<std::size_t>(size.channels));  // a texture, in a viewer
    std::vector<double> latencies_ms;
    seggd::Request request(bundle, labels);
    request.seed = 7, request.steps = steps, request.sampler = "dpm-solver++";  // few steps suffice it
    for (int number = 0; number < edits; ++number) {
      edit(labels, size, 3 + number);
      const bool edited_again = number == 2;
      request.on_step = [&](const seggd_step& step) { return !edited_again || step.index < step.steps / 2; };
      const Clock::time_point start = Clock::now();
      try {
        generator.generate(request, image.data(), image.size());
        latencies_ms.push_back(ms_since(start));
        std::printf("edit %d: %.1f ms\n", number, latencies_ms.back());
      } catch (const seggd::Error& error) {
        if (error.status() != SEGGD_CANCELLED) throw;
        std::printf("edit %d: cancelled after %.1f ms\n", number, ms_since(start));
      }
    }
    if (latencies_ms.empty()) return 0;
    std::sort(latencies_ms.begin(), latencies_ms.end());
    std::printf("median %.1f ms, worst %.1f ms\n", latencies_ms[latencies_ms.size() / 2], latencies_ms.back());
  } catch (const seggd::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return 0;
}
