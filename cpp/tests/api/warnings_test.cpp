// What a caller is warned of before it is drawn, as Python warns.
#include <gtest/gtest.h>

#include <seggd/seggd.hpp>
#include <stdexcept>

#include "api/request.h"
#include "bundle/manifest.h"
#include "tests/golden.h"

namespace {

using Kinds = std::vector<seggd_warning>;

struct Warnings : testing::Test {
  seggd::core::Manifest manifest =
      seggd::core::parse_manifest(golden::read(golden::bundle("tiny") + "/bundle.json"), "bundle.json");
  std::vector<uint8_t> label_map = std::vector<uint8_t>(24 * 32, 1);
  std::vector<std::string> messages;

  seggd_request request() const {
    seggd_request made{};
    made.struct_size = sizeof made, made.label_maps = label_map.data(), made.height = 24, made.width = 32;
    return made;
  }

  Kinds warned(const seggd_request& of) {
    Kinds kinds;
    messages.clear();
    run = seggd::core::prepare(manifest, of, [&](seggd_warning kind, const std::string& message) {
      kinds.push_back(kind), messages.push_back(message);
    });
    return kinds;
  }

  seggd::core::Run run;
};

TEST_F(Warnings, NoneOfAnOrdinaryMask) { EXPECT_EQ(warned(request()), Kinds{}); }

TEST_F(Warnings, AnEmptyMask) {
  label_map.assign(2 * 24 * 32, 1);
  std::fill_n(label_map.begin(), 24 * 32, uint8_t{0});
  seggd_request two = request();
  two.count = 2, two.label_map_count = 2;
  manifest.mask.trained_with_empty_mask = false;
  EXPECT_EQ(warned(two), Kinds{SEGGD_WARNING_EMPTY_MASK});
  EXPECT_EQ(messages[0], "a mask has no foreground, which this network was not trained with");
  manifest.mask.trained_with_empty_mask = true;
  EXPECT_EQ(warned(two), Kinds{SEGGD_WARNING_EMPTY_MASK});
  EXPECT_EQ(messages[0], "a mask has no foreground");
}

TEST_F(Warnings, AMaskWhoseClassesAreAllLeftOut) {
  static const char* const cavity[] = {"cavity"};
  seggd_request dropped = request();
  dropped.drop = cavity, dropped.drop_count = 1;
  label_map.assign(label_map.size(), 1);
  ASSERT_EQ(manifest.classes[1].name, "cavity");
  manifest.mask.trained_with_ablation = true;
  EXPECT_EQ(warned(dropped), Kinds{SEGGD_WARNING_EMPTY_MASK});
}

TEST_F(Warnings, ClassesLeftOutOfANetworkTrainedOnWholeMasks) {
  static const char* const cavity[] = {"cavity"};
  seggd_request kept = request();
  kept.keep = cavity, kept.keep_count = 1;
  for (const std::optional<bool> trained : {std::optional<bool>(true), std::optional<bool>()}) {
    manifest.mask.trained_with_ablation = trained;
    EXPECT_EQ(warned(kept), Kinds{});
  }
  manifest.mask.trained_with_ablation = false;
  EXPECT_EQ(warned(kept), Kinds{SEGGD_WARNING_ABLATION});
  EXPECT_EQ(warned(request()), Kinds{}) << "nothing is left out";
}

TEST_F(Warnings, ResizedMasks) {
  // A column of class 2 in the middle of three.
  label_map = {1, 2, 3, 1, 2, 3};
  seggd_request small = request();
  small.height = 2, small.width = 3;
  EXPECT_EQ(golden::outcome([&] { warned(small); }).status, SEGGD_LABEL_MAP) << "unasked";
  small.resize_label_maps = 1;
  EXPECT_EQ(warned(small), (Kinds{SEGGD_WARNING_RESIZED, SEGGD_WARNING_ASPECT_RATIO}));
  EXPECT_EQ(messages[0], "the label map was resized by nearest neighbour, from 2x3 to 24x32");
  EXPECT_EQ(messages[1], "2x3 to 24x32 changes the aspect ratio: crop or pad first");
  const uint8_t* resized = run.label_maps[0];
  EXPECT_EQ((std::vector{resized[0], resized[10], resized[11], resized[20], resized[21], resized[31]}),
            (std::vector<uint8_t>{1, 1, 2, 2, 3, 3}));
  label_map.assign(48 * 64, 1);
  small.label_maps = label_map.data(), small.height = 48, small.width = 64;
  EXPECT_EQ(warned(small), Kinds{SEGGD_WARNING_RESIZED});
  small.height = 0;
  EXPECT_EQ(golden::outcome([&] { warned(small); }).status, SEGGD_LABEL_MAP);
}

TEST_F(Warnings, AStackThatLooksOneHot) {
  label_map.assign(3 * 24 * 32, 0);
  std::fill_n(label_map.begin(), 100, uint8_t{1});
  std::fill_n(label_map.begin() + 24 * 32 + 100, 100, uint8_t{1});
  std::fill_n(label_map.begin() + 2 * 24 * 32 + 200, 100, uint8_t{1});
  seggd_request stack = request();
  stack.count = 3, stack.label_map_count = 3;
  EXPECT_EQ(warned(stack), Kinds{SEGGD_WARNING_ONE_HOT});
  label_map[24 * 32] = 1;  // two of them overlap
  EXPECT_EQ(warned(stack), Kinds{});
  label_map[24 * 32] = 0;
  label_map.resize(4 * 24 * 32, 1);  // and the background's, which overlaps with all
  stack.count = 4, stack.label_map_count = 4, stack.label_maps = label_map.data();
  EXPECT_EQ(warned(stack), Kinds{});
  std::fill_n(label_map.begin() + 3 * 24 * 32, 300, uint8_t{0});
  EXPECT_EQ(warned(stack), Kinds{SEGGD_WARNING_ONE_HOT});
  label_map.back() = 0;  // a pixel of none
  EXPECT_EQ(warned(stack), Kinds{});
}

TEST_F(Warnings, ComeThroughTheInterface) {
  const seggd::Bundle bundle(golden::bundle("tiny"));
  seggd::LoadOptions options;
  options.engine = "onnxruntime", options.threads = 1, options.onnxruntime = ONNXRUNTIME_LIBRARY;
  const seggd::Generator generator(bundle, options);
  label_map.assign(label_map.size(), 0);
  seggd::Request empty(bundle, label_map);
  empty.steps = 1;
  Kinds kinds;
  empty.on_warning = [&](seggd_warning kind, const std::string&) { kinds.push_back(kind); };
  EXPECT_EQ(generator.generate(empty).size(), label_map.size());
  EXPECT_EQ(kinds, Kinds{SEGGD_WARNING_EMPTY_MASK});
  empty.on_warning = [](seggd_warning, const std::string& message) { throw std::domain_error(message); };
  EXPECT_THROW(generator.generate(empty), std::domain_error);
  empty.on_warning = nullptr;
  EXPECT_EQ(generator.generate(empty).size(), label_map.size());
}

}  // namespace
