#include "bundle/bundle.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "bundle/sha256.h"
#include "tests/golden.h"

namespace {

namespace fs = std::filesystem;
using golden::Copy;
using golden::Json;
using seggd::core::Bundle;

golden::Outcome verified(const fs::path& path) {
  return golden::outcome([&] { Bundle(path).verify(); });
}

void expect_refused(const Copy& copy, seggd_status status, const std::string& message) {
  const golden::Outcome found = verified(copy.path());
  EXPECT_EQ(found.status, status);
  EXPECT_NE(found.message.find(message), std::string::npos) << found.message;
}

TEST(Bundle, IsVerified) {
  for (const char* name : {"tiny", "tiny-rgb", "tiny-checked"}) EXPECT_EQ(verified(golden::bundle(name)).message, "");
  const seggd::core::Golden golden = Bundle(golden::bundle("tiny")).golden();
  EXPECT_EQ(golden.timesteps.size(), 3u);
  EXPECT_EQ(golden.states.size(), 3u * 24 * 32);
}

TEST(Bundle, IsAFolderWithAManifest) {
  for (const fs::path& path : {golden::folder(), fs::path("no such folder"), fs::path(std::string(300, 'x'))})
    EXPECT_EQ(verified(path).status, SEGGD_BUNDLE);
}

TEST(Bundle, AChangedByteIsNoticed) {
  for (const char* name : {"unet.fp32.onnx", "check.safetensors"}) {
    const Copy copy;
    std::string data = golden::read(copy.file(name));
    data[data.size() / 2] ^= 1;
    golden::write(copy.file(name), data);
    expect_refused(copy, SEGGD_INTEGRITY, "was changed after export");
  }
}

TEST(Bundle, TheSamplingLoopIsVerifiedToo) {
  const Copy copy;
  const std::string loop = golden::read(copy.file("unet.fp32.onnx"));
  golden::write(copy.file("sampler.onnx"), loop);
  const Json file{{"path", "sampler.onnx"}, {"sha256", seggd::core::sha256(loop)}, {"size", loop.size()}};
  copy.edit([&file](Json& manifest) {
    manifest["extensions"]["sampler"] = {{"files", Json::array({file})},
                                         {"opset", 20},
                                         {"sampler", "ddim"},
                                         {"steps", 50},
                                         {"limit", 1e-5},
                                         {"max_error", 0.0}};
  });
  EXPECT_EQ(verified(copy.path()).message, "");
  golden::write(copy.file("sampler.onnx"), loop + "x");
  expect_refused(copy, SEGGD_INTEGRITY, "was changed after export");
  copy.edit([](Json& manifest) { manifest["extensions"]["sampler"]["more"] = 1; });
  expect_refused(copy, SEGGD_MANIFEST, "unknown key 'more'");
}

TEST(Bundle, TheSegmenterIsVerifiedToo) {
  const Copy copy("tiny-checked");
  std::string data = golden::read(copy.file("segmenter.onnx"));
  data[data.size() / 2] ^= 1;
  golden::write(copy.file("segmenter.onnx"), data);
  expect_refused(copy, SEGGD_INTEGRITY, "segmenter.onnx was changed after export");
  fs::remove(copy.file("segmenter.onnx"));
  expect_refused(copy, SEGGD_INTEGRITY, "segmenter.onnx is missing");
}

TEST(Bundle, AMissingFileIsNoticed) {
  const Copy copy;
  fs::remove(copy.file("check.safetensors"));
  expect_refused(copy, SEGGD_INTEGRITY, "is missing");
}

TEST(Bundle, ALinkOutOfTheFolderIsRefused) {
  const Copy copy;
  const fs::path outside = copy.path().parent_path() / "outside.onnx";
  fs::rename(copy.file("unet.fp32.onnx"), outside);
  fs::create_symlink(outside, copy.file("unet.fp32.onnx"));
  expect_refused(copy, SEGGD_INTEGRITY, "leaves the bundle's folder");
}

// What is opened is what was looked at, also where a link takes a file's place in between.
TEST(Bundle, ALinkThatIsSwappedInIsNotFollowed) {
  const Copy copy;
  const fs::path path = copy.file("check.safetensors"), good = copy.file("good"), next = copy.file("next");
  const fs::path outside = copy.path().parent_path() / "outside.safetensors";
  fs::copy_file(path, good);
  golden::write(outside, std::string(fs::file_size(path), 'x'));
  const Bundle bundle(copy.path());
  std::atomic<bool> done{false};
  std::thread swapping([&] {
    while (!done) {
      fs::create_symlink(outside, next), fs::rename(next, path);
      fs::create_hard_link(good, next), fs::rename(next, path);
    }
  });
  std::set<std::string> said;
  for (int i = 0; i < 10'000 || said.size() < 2; ++i) said.insert(golden::outcome([&] { bundle.golden(); }).message);
  done = true;
  swapping.join();
  for (const std::string& message : said) EXPECT_EQ(message.find("changed after export"), std::string::npos) << message;
}

TEST(Bundle, AManifestThatIsALinkOutOfTheFolderIsRefused) {
  const Copy copy;
  const fs::path outside = copy.path().parent_path() / "outside.json";
  fs::rename(copy.file("bundle.json"), outside);
  fs::create_symlink(outside, copy.file("bundle.json"));
  expect_refused(copy, SEGGD_INTEGRITY, "leaves the bundle's folder");
}

TEST(Bundle, AManifestThatIsALinkWithinTheFolderIsRead) {
  const Copy copy;
  fs::rename(copy.file("bundle.json"), copy.file("manifest"));
  fs::create_symlink("manifest", copy.file("bundle.json"));
  EXPECT_EQ(verified(copy.path()).message, "");
}

TEST(Bundle, ALinkedFolderIsABundle) {
  const Copy copy;
  const fs::path link = copy.path().parent_path() / "link.seggd";
  fs::create_directory_symlink(copy.path(), link);
  EXPECT_EQ(verified(link).message, "");
}

TEST(Bundle, AnEditedMeaningIsNoticed) {
  for (const auto& [place, value] : {std::pair{"/image/height", "16"}, std::pair{"/schedule/beta_end", "0.03"},
                                     std::pair{"/classes/1/name", "\"lake\""}, std::pair{"/defaults/steps", "49"},
                                     std::pair{"/intensity_range", "[0, 4095]"}}) {
    const Copy copy;
    copy.edit([&, at = place, to = value](Json& manifest) { manifest[Json::json_pointer(at)] = Json::parse(to); });
    expect_refused(copy, SEGGD_INTEGRITY, "was edited after export");
  }
}

TEST(Bundle, WhatDecidesNoImageMayBeEdited) {
  const Copy copy;
  copy.edit([](Json& manifest) { manifest["name"] = "other", manifest["modality"] = "MR"; });
  EXPECT_EQ(verified(copy.path()).message, "");
}

TEST(Bundle, AGoldenRunThatIsNone) {
  for (const std::string& data :
       {std::string(), std::string("short"), std::string(8, '\xff'), std::string("\2\0\0\0\0\0\0\0{}", 10),
        std::string("\2\0\0\0\0\0\0\0[]", 10), golden::read(golden::bundle("tiny") + "/check.safetensors") + "x", [] {
          const std::string header =
              R"({"noise":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,4]}})";
          return std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header + "1234";
        }()}) {
    const Copy copy;
    golden::write(copy.file("check.safetensors"), data);
    copy.reseal();
    EXPECT_EQ(verified(copy.path()).status, SEGGD_INTEGRITY);
  }
}

TEST(Bundle, AGraphThatNamesOtherFiles) {
  const Copy copy;
  // ModelProto { ir_version, graph { node { op_type }, initializer { external_data { "location": "../secret" } } },
  // opset }
  const std::string entry = "\x0a\x08location\x12\x09../secret", node = "\x0a\x05\x22\x03Neg";
  const auto wrapped = [](char tag, const std::string& inner) {
    return std::string(1, tag) + static_cast<char>(inner.size()) + inner;
  };
  const std::string graph = node + wrapped(0x2a, wrapped(0x6a, entry) + "\x42\x01w\x70\x01");
  golden::write(copy.file("unet.fp32.onnx"), "\x08\x0a" + wrapped(0x3a, graph) + wrapped(0x42, "\x10\x14"));
  copy.reseal();
  expect_refused(copy, SEGGD_INTEGRITY, "names external data that the manifest does not list (../secret)");
}

TEST(Bundle, AGraphIsWhatWasVerifiedWhateverHappensToItsFile) {
  const Copy copy;
  const Bundle bundle(copy.path());
  const seggd::core::Graph& graph = bundle.graph(seggd::core::Precision::kFp32);
  const seggd::core::GraphFile found = bundle.graph_file(graph);
  const std::string data = golden::read(copy.file("unet.fp32.onnx"));
  golden::write(copy.file("unet.fp32.onnx"), std::string(data.size(), 'x'));
  EXPECT_EQ(*found.model, data);
  EXPECT_EQ(golden::outcome([&] { bundle.graph_file(graph); }).status, SEGGD_INTEGRITY);
}

}  // namespace
