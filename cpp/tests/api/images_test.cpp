// The same images as Python's: every case of tests/golden/vectors.json, through the public header.
#include <gtest/gtest.h>

#include <cmath>
#include <seggd/seggd.hpp>

#include "bundle/bundle.h"
#include "bundle/safetensors.h"
#include "tests/golden.h"

namespace {

using golden::Json;

constexpr float kAlike = 1e-5f;  // of a whole image in fp32: the order of sums within the network alone

std::optional<std::vector<std::string>> names(const Json& how, const char* key) {
  if (!how.contains(key)) return std::nullopt;
  return how.at(key).get<std::vector<std::string>>();
}

struct Case {
  seggd::Bundle bundle;
  seggd::core::Golden golden;
  seggd::Generator generator;

  explicit Case(const std::string& name)
      : bundle(golden::bundle(name)),
        golden(seggd::core::Bundle(golden::bundle(name)).golden()),
        generator(bundle, options()) {}

  static seggd::LoadOptions options() {
    seggd::LoadOptions options;
    options.engine = "onnxruntime", options.onnxruntime = ONNXRUNTIME_LIBRARY;
    return options;
  }

  seggd::Request request() const { return {bundle, golden.label_map}; }

  // The golden image with channels last.
  std::vector<float> real() const {
    const seggd_bundle_info info = bundle.info();
    const size_t channels = static_cast<size_t>(info.channels), pixels = golden.image.size() / channels;
    std::vector<float> image(golden.image.size());
    for (size_t i = 0; i < image.size(); ++i) image[i % pixels * channels + i / pixels] = golden.image[i];
    return image;
  }
};

seggd::Request described(const Case& at, const Json& how) {
  seggd::Request request = at.request();
  if (how.contains("seeds")) request.seeds = how.at("seeds").get<std::vector<uint64_t>>();
  request.count = request.seeds ? static_cast<int>(request.seeds->size()) : how.value("count", 1);
  request.seed = how.value("seed", uint64_t{0});
  request.steps = how.at("steps");
  request.eta = how.value("eta", 0.0);
  request.sampler = how.value("sampler", "");
  request.spacing = how.value("spacing", "");
  request.keep = names(how, "keep"), request.drop = names(how, "drop");
  return request;
}

void expect_alike(const std::vector<float>& found, const std::vector<float>& expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  float worst = 0;
  for (size_t i = 0; i < found.size(); ++i) worst = std::max(worst, std::abs(found[i] - expected[i]));
  EXPECT_LE(worst, kAlike) << what;
}

TEST(Images, ArePythons) {
  const seggd::core::Safetensors expected = seggd::core::read_safetensors(golden::folder() / "images.safetensors");
  for (const auto& item : golden::vectors().at("images").items()) {
    const Json& how = item.value();
    const Case at(how.at("bundle"));
    const seggd::Request request = described(at, how);
    std::vector<float> images;
    if (how.contains("weights")) {
      const std::vector<float> real = at.real();
      const seggd::Interpolation between{real.data(), how.at("weights"), how.at("at"), names(how, "then_keep"), {}};
      images = at.generator.interpolate(request, between);
    } else {
      images = at.generator.generate(request);
    }
    expect_alike(images, expected.tensors.at(item.key()).as<float>(), item.key());
  }
}

TEST(Images, TheGoldenRunIsDrawnFromItsNoise) {
  for (const char* name : {"tiny", "tiny-rgb"}) {
    const Case at(name);
    seggd::Request request = at.request();
    request.noise = at.golden.noise.data();
    request.steps = 20;
    expect_alike(at.generator.generate(request), at.real(), name);
  }
}

TEST(Images, DependOnTheirSeedAlone) {
  const Case at("tiny");
  seggd::Request many = at.request();
  many.count = 3, many.seeds = {5, 6, 7}, many.steps = 4, many.eta = 1;
  const std::vector<float> images = at.generator.generate(many);
  seggd::Request one = at.request();
  one.seed = 6, one.steps = 4, one.eta = 1;
  const std::vector<float> image = at.generator.generate(one);
  const auto second = images.begin() + static_cast<std::ptrdiff_t>(image.size());
  expect_alike({second, second + static_cast<std::ptrdiff_t>(image.size())}, image, "the second of three");
}

TEST(Images, BytesAreTheFloatsRounded) {
  const Case at("tiny-rgb");
  seggd::Request request = at.request();
  request.steps = 3;
  const std::vector<float> floats = at.generator.generate(request);
  const std::vector<uint8_t> bytes = at.generator.generate<uint8_t>(request);
  for (size_t i = 0; i < floats.size(); ++i) EXPECT_EQ(bytes[i], std::rint(floats[i] * 255.0f));
}

TEST(Images, AWeightOfZeroIsThePlainGeneration) {
  const Case at("tiny");
  seggd::Request request = at.request();
  request.steps = 8, request.sampler = "dpm-solver++";
  const std::vector<float> real = at.real();
  EXPECT_EQ(at.generator.interpolate(request, {real.data(), {0.0}, 0.5, {}, {}}), at.generator.generate(request));
}

}  // namespace
