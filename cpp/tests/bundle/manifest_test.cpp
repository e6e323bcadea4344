#include "bundle/manifest.h"

#include <gtest/gtest.h>

#include "tests/golden.h"

namespace {

using golden::Json;
using namespace seggd::core;

Json tiny() { return Json::parse(golden::read(golden::bundle("tiny") + "/bundle.json")); }

golden::Outcome parsed(const std::string& data) {
  return golden::outcome([&] { parse_manifest(data, "bundle.json"); });
}

TEST(Manifest, IsRead) {
  const Manifest manifest = parse_manifest(tiny().dump(), "bundle.json");
  EXPECT_EQ(manifest.name, "tiny");
  EXPECT_EQ(manifest.image.height, 24);
  EXPECT_EQ(manifest.image.width, 32);
  EXPECT_EQ(manifest.classes.at(3).name, "right ventricle");
  EXPECT_EQ(manifest.mask_channels(), 3);
  EXPECT_EQ(manifest.graphs.at(0).files.at(0).path, "unet.fp32.onnx");
  EXPECT_EQ(manifest.defaults.steps, 50);
  EXPECT_EQ(manifest.mask.trained_with_empty_mask, false);
}

// As tests/bundle/test_bundle.py: at a place of the manifest, a value ("" removes it), and what the refusal says.
struct Broken {
  const char* place;
  const char* value;
  const char* message;
};

TEST(Manifest, WhatItRefusesInWords) {
  const std::vector<Broken> all{{"/colour", "1", "colour"},
                                {"/image/depth", "3", "depth"},
                                {"/graphs/0/parity/note", "\"x\"", "note"},
                                {"/classes", "", "classes"},
                                {"/classes/1/id", "2", "in order"},
                                {"/classes/1/color", "[0, 0]", "length"},
                                {"/classes/1/name", "\" cavity\"", "spaces around"},
                                {"/classes/1/name", "\"BACKGROUND\"", "more than case"},
                                {"/classes/1/name", "\"a\\u0007\"", "printable"},
                                {"/classes/1/name", "\"a\\u00a0b\"", "printable"},
                                {"/classes/1/name", "\"a\\u202eb\"", "printable"},
                                {"/classes/1/name", "\"a\\u2028\"", "printable"},
                                {"/image/height", "0", "image size"},
                                {"/image/height", "24.0", "whole number"},
                                {"/image/width", "1099511627776", "32 bits"},
                                {"/image/width", "9000000", "image size"},
                                {"/image/channels", "65", "channels"},
                                {"/mask/encoding", "\"two-hot\"", "two-hot"},
                                {"/schedule/beta_end", "2.0", "beta_end"},
                                {"/schedule/beta_end", "0.9", "leave no signal"},
                                {"/schedule/clip_x0", "0", "clip_x0"},
                                {"/schedule/zero_terminal_snr", "true", "epsilon says nothing"},
                                {"/check/steps", "0", "steps"},
                                {"/defaults/steps", "1001", "steps"},
                                {"/defaults/sampler", "\"euler\"", "euler"},
                                {"/graphs", "[]", "at least one"},
                                {"/graphs/0/files", "[]", "names no file"},
                                {"/graphs/0/files/0/path", "\"../unet.onnx\"", "plain file name"},
                                {"/graphs/0/files/0/path", "\"/etc/passwd\"", "plain file name"},
                                {"/graphs/0/files/0/path", "\"a\\\\b\"", "plain file name"},
                                {"/graphs/0/files/0/path", "\"..\"", "plain file name"},
                                {"/graphs/0/files/0/path", "\"a\\u0000b\"", "'a\\u0000b'; it must"},
                                {"/graphs/0/files/0/path", "\"bundle.json\"", "differ"},
                                {"/graphs/0/files/0/path", "\"bundle.sig\"", "differ"},
                                {"/graphs/0/files/0/sha256", "\"0\"", "64 lowercase"},
                                {"/graphs/0/files/0/size", "-1", "negative"},
                                {"/provenance/parameters", "\"many\"", "parameters"},
                                {"/graphs/0/opset", "20.0", "whole number"},
                                {"/schema", "\"seggd-bundle/0\"", "schema"},
                                {"/schema", "\"other/1\"", "schema"},
                                {"/schema", "1", "schema must be a string"},
                                {"/spacing_mm", "[1.0, 0.0]", "positive"},
                                {"/intensity_range", "[5, 5]", "less than"},
                                {"/dicom", "3", "an object"},
                                {"/dicom", "{\"names\": {}}", "unknown key 'names'"},
                                {"/dicom", "{\"a\\u0000b\": {}}", "unknown key 'a\\u0000b'"},
                                {"/dicom", "{\"segments\": {\"LV\": \"lake\"}}", "'lake' for 'LV'; it must"},
                                {"/dicom", "{\"segments\": {\"LV\": \"\"}}", "it must be a class, or background"},
                                {"/dicom", "{\"segments\": {\"LV\": 1}}", "a string"},
                                {"/extensions", "{\"sampler\": 1}", "an object"}};
  for (const auto& [place, value, message] : all) {
    Json manifest = tiny();
    const Json::json_pointer at(place);
    if (*value) {
      manifest[at] = Json::parse(value);
    } else {
      manifest[at.parent_pointer()].erase(at.back());
    }
    const golden::Outcome found = parsed(manifest.dump());
    EXPECT_EQ(found.status, SEGGD_MANIFEST) << place;
    EXPECT_NE(found.message.find(message), std::string::npos) << found.message;
  }
}

// As tests/bundle/test_bundle.py: the segmenter of tiny-checked, edited.
TEST(Manifest, ASegmenterIsRead) {
  const auto with = [](const std::string& place, const std::string& value) {
    Json manifest = Json::parse(golden::read(golden::bundle("tiny-checked") + "/bundle.json"));
    const Json::json_pointer at(place);
    if (value.empty()) {
      manifest[at.parent_pointer()].erase(at.back());
    } else {
      manifest[at] = Json::parse(value);
    }
    return manifest.dump();
  };
  const std::string real =
      R"({"data": "a.npz, val", "images": 188, "patients": null, "per_patient": 0.88, "per_image": 0.8,
          "per_image_low": 0.5})";
  const Manifest manifest = parse_manifest(with("/segmenter/real", real), "bundle.json");
  EXPECT_EQ(manifest.segmenter_files.at(0).path, "segmenter.onnx");
  EXPECT_TRUE(parse_manifest(tiny().dump(), "bundle.json").segmenter_files.empty());
  const std::vector<Broken> all{{"/segmenter/more", "1", "more"},
                                {"/segmenter/files", "[]", "names no file"},
                                {"/segmenter/files/0/path", "\"unet.fp32.onnx\"", "differ"},
                                {"/segmenter/classes/1", "\"lake\"", "the bundle's"},
                                {"/segmenter/classes", "[\"background\"]", "the bundle's"},
                                {"/segmenter/intensities/0/low", "0.97", "cavity must rise"},
                                {"/segmenter/intensities/0/high", "1.5", "cavity must rise"},
                                {"/segmenter/intensities/0/name", "\"background\"", "another foreground class"},
                                {"/segmenter/intensities/0/name", "\"myocardium\"", "another foreground class"},
                                {"/segmenter/percentiles", "[99, 1]", "percentiles must rise"},
                                {"/segmenter/percentiles", "", "percentiles"},
                                {"/segmenter/parity/images", "", "images"},
                                {"/segmenter/real", "{\"images\": 1}", "lacks 'data'"},
                                {"/segmenter", "3", "an object"}};
  for (const auto& [place, value, message] : all) {
    const golden::Outcome found = parsed(with(place, value));
    EXPECT_EQ(found.status, SEGGD_MANIFEST) << place;
    EXPECT_NE(found.message.find(message), std::string::npos) << found.message;
  }
}

TEST(Manifest, ANewerSchemaAsksForAnUpgrade) {
  for (const std::string& number : {std::string("2"), std::string("10"), "1" + std::string(5000, '0')}) {
    Json manifest = tiny();
    manifest["schema"] = "seggd-bundle/" + number;
    manifest["unheard"] = "of";
    const golden::Outcome found = parsed(manifest.dump());
    EXPECT_EQ(found.status, SEGGD_BUNDLE_VERSION);
    EXPECT_NE(found.message.find("upgrade it"), std::string::npos);
    EXPECT_LT(found.message.size(), 200u);
  }
}

// As tests/bundle/test_bundle.py.
TEST(Manifest, ValuesOfNoKnownFormHaveALimitOfNesting) {
  for (const char* place : {"/evaluation", "/extensions", "/provenance/training"}) {
    Json value = 1;
    for (int level = 0; level < 32; ++level) value = Json{{"a", value}};
    Json manifest = tiny();
    manifest[Json::json_pointer(place)] = value;
    EXPECT_EQ(parsed(manifest.dump()).message, "") << place;
    manifest[Json::json_pointer(place)] = Json{{"a", value}};
    EXPECT_NE(parsed(manifest.dump()).message.find("nested more than 32 levels"), std::string::npos) << place;
  }
}

TEST(Manifest, ValuesOfNoKnownFormHaveALimitOfNumber) {
  Json manifest = tiny();
  manifest["evaluation"]["a"] = std::vector<Json>(60'000, Json::object());
  EXPECT_EQ(parsed(manifest.dump()).message, "");
  manifest["evaluation"]["a"] = std::vector<Json>(400'000, Json::object());
  EXPECT_NE(parsed(manifest.dump()).message.find("more than 65536 values"), std::string::npos);
}

TEST(Manifest, AKeyThatComesTwiceIsRefused) {
  const std::string once = tiny().dump();
  for (const std::string twice : {"\"name\":\"a\",", "\"evaluation\":{\"a\":1,\"a\":2},"}) {
    const golden::Outcome found = parsed("{" + twice + once.substr(1));
    EXPECT_EQ(found.status, SEGGD_MANIFEST);
    EXPECT_NE(found.message.find("' twice"), std::string::npos) << found.message;
  }
}

// As tests/bundle/test_bundle.py: what is only recorded may be any whole number of 64 bits.
TEST(Manifest, WhatIsOnlyRecordedHasNoRange) {
  for (const char* value : {"1099511627776", "-1", "18446744073709551615", "-9223372036854775808"}) {
    Json manifest = Json::parse(golden::read(golden::bundle("tiny-checked") + "/bundle.json"));
    const Json number = Json::parse(value);
    manifest["graphs"][0]["opset"] = number, manifest["graphs"][0]["parity"]["states"] = number;
    manifest["segmenter"]["opset"] = number, manifest["segmenter"]["parity"]["images"] = number;
    manifest["segmenter"]["real"] = {{"data", "a"},       {"images", number}, {"patients", number},
                                     {"per_patient", .5}, {"per_image", .5},  {"per_image_low", .5}};
    manifest["provenance"]["parameters"] = number;
    manifest["extensions"]["sampler"] = {{"files", Json::array({manifest["graphs"][0]["files"][0]})},
                                         {"opset", number},
                                         {"sampler", "ddim"},
                                         {"steps", number},
                                         {"limit", 1e-5},
                                         {"max_error", 0.0}};
    EXPECT_EQ(parsed(manifest.dump()).message, "") << value;
  }
}

TEST(Manifest, DicomIsReadForItsForm) {
  for (const char* dicom :
       {"null", "{}", R"({"segments": {}})", R"({"segments": {"LV": "Cavity", "Bg": "BackGround"}})"}) {
    Json manifest = tiny();
    manifest["dicom"] = Json::parse(dicom);
    EXPECT_EQ(parsed(manifest.dump()).message, "") << dicom;
  }
}

// Python folds case as Unicode does: U+212A, the Kelvin sign, is a "k" there.
TEST(Manifest, SegmentsOfLettersBeyondAsciiAreLeftToPython) {
  for (const char* dicom : {R"({"segments": {"LV": "bac\u212aground"}})", R"({"segments": {"LV": "\u00d6dem"}})"}) {
    Json manifest = tiny();
    manifest["dicom"] = Json::parse(dicom);
    EXPECT_EQ(parsed(manifest.dump()).message, "") << dicom;
  }
  Json manifest = tiny();
  manifest["classes"][1]["name"] = "Stra\u00dfe";
  manifest["dicom"] = Json::parse(R"({"segments": {"LV": "strasse"}})");
  EXPECT_EQ(parsed(manifest.dump()).message, "");
}

TEST(Manifest, TheSamplingLoopMayShareFilesOfTheBundle) {
  const auto with = [](const std::vector<Json>& files) {
    Json manifest = tiny();
    manifest["extensions"]["sampler"] = {{"files", files}, {"opset", 20},   {"sampler", "ddim"},
                                         {"steps", 50},    {"limit", 1e-5}, {"max_error", 0.0}};
    return manifest.dump();
  };
  const Json weights = tiny()["graphs"][0]["files"][0];
  Json own = weights, other = weights;
  own["path"] = "sampler.onnx", other["size"] = 1;
  EXPECT_EQ(parsed(with({own, weights})).message, "");
  for (const std::vector<Json>& files : {std::vector<Json>{own, own}, std::vector<Json>{own, other}})
    EXPECT_NE(parsed(with(files)).message.find("differ"), std::string::npos);
  Json none = tiny();
  none["extensions"]["sampler"] = nullptr;
  EXPECT_EQ(parsed(none.dump()).message, "");
}

TEST(Manifest, WhatIsNoJson) {
  for (const std::string& data : {std::string(), std::string("{"), std::string("[1]"), std::string("\xff\xfe"),
                                  "{\"schema\":" + std::string(100'000, '['), "\xef\xbb\xbf" + tiny().dump(),
                                  tiny().dump() + std::string("\0junk", 5)})
    EXPECT_EQ(parsed(data).status, SEGGD_MANIFEST);
}

}  // namespace
