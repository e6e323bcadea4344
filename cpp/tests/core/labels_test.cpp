#include "core/labels.h"

#include <gtest/gtest.h>

#include "core/names.h"
#include "tests/golden.h"

namespace {

using golden::Json;
using namespace seggd::core;

const std::vector<LabelClass> kClasses{
    {0, "background", {0, 0, 0}}, {1, "LV cavity", {1, 2, 3}}, {2, "myocardium", {4, 5, 6}}};

std::vector<int> kept(const std::vector<std::string>& names) { return select_classes(kClasses, &names, nullptr); }
std::vector<int> without(const std::vector<std::string>& names) { return select_classes(kClasses, nullptr, &names); }

TEST(Labels, EncodeAsPython) {
  for (const Json& one : golden::vectors().at("labels")) {
    const EncodeTable table =
        encode_table(kEncodings.require(one.at("encoding")), one.at("classes"), one.at("kept").get<std::vector<int>>());
    std::vector<uint8_t> label_map;
    for (const Json& row : one.at("label_map"))
      for (const Json& label : row) label_map.push_back(label.get<uint8_t>());
    std::vector<float> mask(static_cast<size_t>(table.mask_channels) * label_map.size());
    table.encode(label_map.data(), label_map.size(), mask.data());
    EXPECT_EQ(mask, golden::numbers(one.at("mask"))) << one;
  }
}

TEST(Labels, KeepAndDrop) {
  EXPECT_EQ(select_classes(kClasses, nullptr, nullptr), (std::vector{1, 2}));
  EXPECT_EQ(kept({" lv CAVITY "}), std::vector{1});
  EXPECT_EQ(without({"lv cavity"}), std::vector{2});
  EXPECT_EQ(without({}), (std::vector{1, 2}));
}

TEST(Labels, NamesThatAreNotThere) {
  const auto message = [](const std::vector<std::string>& names) {
    const golden::Outcome found = golden::outcome([&] { kept(names); });
    EXPECT_EQ(found.status, SEGGD_OPTION);
    return found.message;
  };
  EXPECT_EQ(message({"LV cavty"}), "there is no class 'LV cavty': did you mean 'LV cavity'?");
  EXPECT_EQ(message({"liver"}), "there is no class 'liver': there are 'LV cavity', 'myocardium'");
  EXPECT_NE(message({"background"}).find("always there"), std::string::npos);
  EXPECT_NE(message({}).find("keep names no class"), std::string::npos);
  EXPECT_EQ(golden::outcome([] { without({"myocardium", "LV cavity"}); }).status, SEGGD_OPTION);
  const std::vector<std::string> one{"myocardium"};
  EXPECT_EQ(golden::outcome([&] { select_classes(kClasses, &one, &one); }).status, SEGGD_OPTION);
}

TEST(Labels, UnknownLabels) {
  const std::vector<uint8_t> label_map{0, 1, 2, 3};
  check_label_map(label_map.data(), 3, kClasses);
  const golden::Outcome found = golden::outcome([&] { check_label_map(label_map.data(), 4, kClasses); });
  EXPECT_EQ(found.status, SEGGD_LABEL_MAP);
  EXPECT_EQ(found.message, "label 3 is outside the classes 0 background, 1 LV cavity, 2 myocardium");
}

}  // namespace
