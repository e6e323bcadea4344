// The session on the CPU, on a network whose answer is known, so that rows alone decide.
#include "engines/host.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/golden.h"
#include "tests/sum.h"

namespace {

using namespace seggd::core;
using sum::Sum;
using sum::two_steps;

TEST(HostSession, DoesTheRows) {
  const Sum network;
  HostSession session(network, 2);
  const seggd::core::Run run = two_steps();
  session.start(run);
  session.step(run, 0);  // x0 = x + 10; x = x / 2 + x0
  EXPECT_EQ(session.x(1)[2], 14.5f);
  EXPECT_EQ(session.x0(1)[2], 13.0f);
  session.step(run, 1);  // x0 = min(x + 5, 20); x = x0 + 2 x0_last
  EXPECT_EQ(session.x(0)[2], 19.5f + 2 * 13.0f);
  EXPECT_EQ(session.x(0)[5], 20.0f + 2 * 16.0f);
  session.require_finite();
}

TEST(HostSession, NoiseIsTheSeedsOwn) {
  const Sum network;
  seggd::core::Run run = two_steps();
  run.noise.clear();
  run.table.rows[0].sigma = 1;
  std::vector<float> pair;
  for (const std::vector<uint64_t>& seeds : {std::vector<uint64_t>{3, 4}, std::vector<uint64_t>{4}}) {
    HostSession session(network, static_cast<int>(seeds.size()));
    run.seeds = seeds;
    session.start(run);
    session.step(run, 0);
    pair.push_back(session.x(static_cast<int>(seeds.size()) - 1)[5]);
  }
  EXPECT_EQ(pair[0], pair[1]);
}

TEST(HostSession, WhatIsNotFiniteIsAnError) {
  const Sum network(NAN);
  HostSession session(network, 2);
  const seggd::core::Run run = two_steps();
  session.start(run);
  session.step(run, 0);
  const golden::Outcome found = golden::outcome([&] { session.require_finite(); });
  EXPECT_EQ(found.status, SEGGD_ENGINE);
  EXPECT_EQ(found.message, "sum in fp32 gave an image that is not finite");
}

TEST(HostSession, PixelsHaveChannelsLast) {
  const std::vector<float> x{-1, 1, 0, 3, -3, 0.5f};  // (2, 3)
  std::vector<float> pixels(6);
  std::vector<uint8_t> bytes(6);
  write_pixels(x.data(), 2, 3, pixels.data());
  write_pixels(x.data(), 2, 3, bytes.data());
  EXPECT_EQ(pixels, (std::vector<float>{0, 1, 1, 0, 0.5f, 0.75f}));
  EXPECT_EQ(bytes, (std::vector<uint8_t>{0, 255, 255, 0, 128, 191}));
}

}  // namespace
