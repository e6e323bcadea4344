// seggd.hpp: owners, exceptions, callbacks.
#include <gtest/gtest.h>

#include <seggd/seggd.hpp>
#include <type_traits>

#include "tests/golden.h"

namespace {

static_assert(std::is_nothrow_move_constructible_v<seggd::Generator> &&
              !std::is_copy_constructible_v<seggd::Generator>);
static_assert(std::is_nothrow_move_constructible_v<seggd::Bundle> && !std::is_copy_constructible_v<seggd::Bundle>);

seggd::LoadOptions options() {
  seggd::LoadOptions options;
  options.engine = "onnxruntime", options.threads = 1, options.onnxruntime = ONNXRUNTIME_LIBRARY;
  return options;
}

struct Wrapper : testing::Test {
  seggd::Bundle bundle{golden::bundle("tiny")};
  seggd::Generator generator{bundle, options()};
  std::vector<uint8_t> label_map = std::vector<uint8_t>(24 * 32, 2);

  seggd::Request request() {
    seggd::Request made(bundle, label_map);
    made.steps = 6;
    return made;
  }
};

TEST_F(Wrapper, SaysWhatABundleIs) {
  EXPECT_STREQ(bundle.info().name, "tiny");
  EXPECT_STREQ(bundle.info().precisions, "fp32");
  EXPECT_STREQ(bundle.info().default_sampler, "ddim");
  const std::vector<seggd::Class> classes = bundle.classes();
  ASSERT_EQ(classes.size(), 4u);
  EXPECT_EQ(classes[2].name, "myocardium");
  EXPECT_EQ(classes[2].color[1], 187);
  EXPECT_EQ(generator.engine().name, "onnxruntime");
  EXPECT_EQ(generator.engine().precision, "fp32");
}

TEST_F(Wrapper, AGeneratorOutlivesItsBundle) {
  seggd::Generator outlives = [] {
    const seggd::Bundle gone(golden::bundle("tiny"));
    return seggd::Generator(gone, options());
  }();
  EXPECT_EQ(outlives.generate(request()), generator.generate(request()));
}

TEST_F(Wrapper, StepsAndPreviewsAreTold) {
  seggd::Request told = request();
  std::vector<int> steps;
  std::vector<float> last;
  told.preview_every = 3;
  told.on_step = [&](const seggd_step& step) {
    steps.push_back(step.timestep);
    EXPECT_EQ(step.preview != nullptr, step.index % 3 == 2);
    if (step.preview) last.assign(step.preview, step.preview + 24 * 32);
    return true;
  };
  const std::vector<float> image = generator.generate(told);
  EXPECT_EQ(steps, (std::vector{830, 664, 498, 332, 166, 0}));
  EXPECT_EQ(last, image);  // DDIM's last step lands on its estimate
}

TEST_F(Wrapper, ACallbackCancels) {
  seggd::Request told = request();
  told.on_step = [](const seggd_step& step) { return step.index < 2; };
  try {
    generator.generate(told);
    FAIL();
  } catch (const seggd::Error& error) {
    EXPECT_EQ(error.status(), SEGGD_CANCELLED);
    EXPECT_STREQ(error.what(), "the callback ended the run after step 3 of 6");
  }
}

TEST_F(Wrapper, WhatACallbackThrowsComesOut) {
  seggd::Request told = request();
  told.on_step = [](const seggd_step&) -> bool { throw std::domain_error("mine"); };
  EXPECT_THROW(generator.generate(told), std::domain_error);
  EXPECT_EQ(generator.generate(request()).size(), label_map.size());
}

TEST_F(Wrapper, RefusesSizes) {
  label_map.pop_back();
  EXPECT_THROW(request(), seggd::Error);
  label_map.push_back(0);
  seggd::Request seeded = request();
  seeded.seeds = {1, 2};
  EXPECT_THROW(generator.generate(seeded), seggd::Error);
  std::vector<float> small(10);
  EXPECT_THROW(generator.generate(request(), small.data(), small.size()), seggd::Error);
  seggd::Request none = request();
  none.keep = std::vector<std::string>{};
  EXPECT_THROW(generator.generate(none), seggd::Error);
}

}  // namespace
