#include "noise.cuh"

#include <gtest/gtest.h>

#include "api/request.h"
#include "tests/golden.h"

namespace {

using golden::Json;

TEST(Noise, PhiloxIsPythons) {
  for (const Json& one : golden::vectors().at("philox")) {
    const Json& c = one.at("counter");
    const seggd::Words found = seggd::philox(one.at("key"), c[0], c[1], c[2], c[3]);
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(found.at[i], one.at("words")[i].get<unsigned>());
  }
}

TEST(Noise, DrawsArePythons) {
  for (const Json& one : golden::vectors().at("noise")) {
    const std::vector<float> z = golden::numbers(one.at("z"));
    for (size_t i = 0; i < z.size(); ++i) {
      const seggd::Quad quad =
          seggd::normal(one.at("seed"), static_cast<seggd::Word>(i / 4), one.at("step"), one.at("stream"));
      // Logarithms and sines differ in the last of 53 bits, which may fall on an edge of float.
      EXPECT_FLOAT_EQ(quad.at[i % 4], z[i]) << one;
    }
  }
}

TEST(Noise, DerivedSeedsArePythons) {
  for (const Json& one : golden::vectors().at("derived_seeds"))
    EXPECT_EQ(seggd::core::derive_seed(one[0], one[1]), one[2].get<uint64_t>());
}

}  // namespace
