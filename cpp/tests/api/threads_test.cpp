// Eight threads that generate at once get the images that one gets; messages are each thread's own.
#include <gtest/gtest.h>

#include <atomic>
#include <seggd/seggd.hpp>
#include <thread>

#include "tests/golden.h"

namespace {

constexpr int kThreads = 8;

seggd::Generator open_tiny(const seggd::Bundle& bundle) {
  seggd::LoadOptions options;
  options.engine = "onnxruntime", options.threads = 1, options.onnxruntime = ONNXRUNTIME_LIBRARY;
  return seggd::Generator(bundle, options);
}

template <class Work>
void at_once(Work work) {
  std::vector<std::thread> threads;
  std::atomic<int> ready{0};
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      ++ready;
      while (ready < kThreads) std::this_thread::yield();
      work(i);
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(Threads, GenerateAtOnce) {
  const seggd::Bundle bundle(golden::bundle("tiny"));
  const seggd::Generator generator = open_tiny(bundle);
  const std::vector<uint8_t> label_map(24 * 32, 1);
  const auto drawn = [&](int seed, int count) {
    seggd::Request request(bundle, label_map);
    request.seed = static_cast<uint64_t>(seed), request.steps = 5, request.eta = 0.5, request.count = count;
    return generator.generate(request);
  };
  std::vector<std::vector<float>> alone;
  for (int i = 0; i < kThreads; ++i) alone.push_back(drawn(i, 1 + i % 2));
  at_once([&](int i) {
    for (int round = 0; round < 4; ++round) EXPECT_EQ(drawn(i, 1 + i % 2), alone[static_cast<size_t>(i)]);
  });
}

TEST(Threads, OpenAndVerifyAtOnce) {
  const seggd::Bundle bundle(golden::bundle("tiny-rgb"));
  at_once([&](int) {
    bundle.verify();
    EXPECT_EQ(open_tiny(bundle).engine().name, "onnxruntime");
  });
}

TEST(Threads, MessagesAreTheirOwn) {
  at_once([](int i) {
    const std::string path = "no such bundle " + std::to_string(i);
    seggd_bundle* bundle = nullptr;
    for (int round = 0; round < 50; ++round) {
      EXPECT_EQ(seggd_bundle_open(path.c_str(), &bundle), SEGGD_BUNDLE);
      EXPECT_EQ(std::string(seggd_last_error()).rfind(path, 0), 0u);
    }
  });
}

}  // namespace
