// The session on a network whose answer is known: o = x + timestep, so that rows alone decide.
#include "session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "golden.h"

namespace {

using namespace seggd::core;

class Sum : public Network {
 public:
  explicit Sum(float more = 0) : more_(more) { info_.engine = "sum"; }
  const EngineInfo& info() const override { return info_; }
  const NetworkShape& shape() const override { return shape_; }
  std::function<void()> bind(int batch, float* sample, float* timestep, float* out) const override {
    return [=] {
      for (int i = 0; i < batch; ++i)
        for (int k = 0; k < 6; ++k) out[i * 6 + k] = sample[i * 12 + k] + timestep[i] + more_;
    };
  }

 private:
  EngineInfo info_;
  NetworkShape shape_{1, 1, 2, 3};
  float more_;
};

Run two_steps() {
  static const std::vector<uint8_t> label_map{0, 1, 0, 1, 1, 0};
  static const std::vector<float> noise{1, 2, 3, 4, 5, 6};
  Run run;
  run.encoding = encode_table(MaskEncoding::kOneHot, 2, {1});
  run.label_maps = {label_map.data(), label_map.data()};
  run.noise = {noise.data(), noise.data()};
  run.seeds = {3, 4};
  const float inf = std::numeric_limits<float>::infinity();
  run.table.timesteps = {10, 5};
  run.table.rows = {{0, 1, inf, 0.5f, 0, 1, 0, 0, 0, 0, 0, 0}, {0, 1, 20, 0, 0, 1, 2, 0, 0, 0, 0, 0}};
  return run;
}

TEST(Session, DoesTheRows) {
  const Sum network;
  Session session(network, 2);
  const seggd::core::Run run = two_steps();
  session.start(run);
  session.step(0);  // x0 = x + 10; x = x / 2 + x0
  EXPECT_EQ(session.x(1)[2], 14.5f);
  EXPECT_EQ(session.x0(1)[2], 13.0f);
  session.step(1);  // x0 = min(x + 5, 20); x = x0 + 2 x0_last
  EXPECT_EQ(session.x(0)[2], 19.5f + 2 * 13.0f);
  EXPECT_EQ(session.x(0)[5], 20.0f + 2 * 16.0f);
  session.require_finite();
}

TEST(Session, NoiseIsTheSeedsOwn) {
  const Sum network;
  seggd::core::Run run = two_steps();
  run.noise.clear();
  run.table.rows[0].sigma = 1;
  std::vector<float> pair;
  for (const std::vector<uint64_t>& seeds : {std::vector<uint64_t>{3, 4}, std::vector<uint64_t>{4}}) {
    Session session(network, static_cast<int>(seeds.size()));
    run.seeds = seeds;
    session.start(run);
    session.step(0);
    pair.push_back(session.x(static_cast<int>(seeds.size()) - 1)[5]);
  }
  EXPECT_EQ(pair[0], pair[1]);
}

TEST(Session, WhatIsNotFiniteIsAnError) {
  const Sum network(NAN);
  Session session(network, 2);
  const seggd::core::Run run = two_steps();
  session.start(run);
  session.step(0);
  const golden::Outcome found = golden::outcome([&] { session.require_finite(); });
  EXPECT_EQ(found.status, SEGGD_ENGINE);
  EXPECT_EQ(found.message, "sum in fp32 gave an image that is not finite");
}

TEST(Session, PixelsHaveChannelsLast) {
  const std::vector<float> x{-1, 1, 0, 3, -3, 0.5f};  // (2, 3)
  std::vector<float> pixels(6);
  std::vector<uint8_t> bytes(6);
  write_pixels(x.data(), 2, 3, pixels.data());
  write_pixels(x.data(), 2, 3, bytes.data());
  EXPECT_EQ(pixels, (std::vector<float>{0, 1, 1, 0, 0.5f, 0.75f}));
  EXPECT_EQ(bytes, (std::vector<uint8_t>{0, 255, 255, 0, 128, 191}));
}

}  // namespace
