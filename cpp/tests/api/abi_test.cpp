// What a caller can do wrong through the C ABI: each a status and a message.
#include <gtest/gtest.h>
#include <seggd/seggd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/golden.h"

namespace {

template <class Struct>
Struct sized() {
  Struct made{};
  made.struct_size = sizeof(Struct);
  return made;
}

struct Abi : testing::Test {
  seggd_bundle* bundle = nullptr;
  seggd_generator* generator = nullptr;
  std::vector<uint8_t> label_map = std::vector<uint8_t>(24 * 32, 1);
  std::vector<float> image = std::vector<float>(24 * 32);

  void SetUp() override {
    ASSERT_EQ(seggd_bundle_open(golden::bundle("tiny").c_str(), &bundle), SEGGD_OK) << seggd_last_error();
    auto options = sized<seggd_load_options>();
    options.engine = "onnxruntime", options.onnxruntime = ONNXRUNTIME_LIBRARY;
    ASSERT_EQ(seggd_generator_open(bundle, &options, &generator), SEGGD_OK) << seggd_last_error();
  }

  void TearDown() override {
    seggd_generator_close(generator);
    seggd_bundle_close(bundle);
  }

  seggd_request request() const {
    auto made = sized<seggd_request>();
    made.label_maps = label_map.data(), made.height = 24, made.width = 32, made.steps = 2;
    return made;
  }

  seggd_status generate(const seggd_request& given) {
    return seggd_generate(generator, &given, image.data(), image.size() * sizeof(float), SEGGD_FLOAT32);
  }
};

void expect(seggd_status found, seggd_status status, const std::string& message) {
  EXPECT_EQ(found, status) << seggd_last_error();
  EXPECT_NE(std::string(seggd_last_error()).find(message), std::string::npos) << seggd_last_error();
}

TEST_F(Abi, Draws) { EXPECT_EQ(generate(request()), SEGGD_OK) << seggd_last_error(); }

TEST_F(Abi, NullPointers) {
  const seggd_request good = request();
  const size_t bytes = image.size() * sizeof(float);
  auto info = sized<seggd_bundle_info>();
  seggd_bundle* opened = nullptr;
  seggd_engines* engines = nullptr;
  expect(seggd_bundle_open(nullptr, &opened), SEGGD_ARGUMENT, "path is a null pointer");
  expect(seggd_bundle_open("x", nullptr), SEGGD_ARGUMENT, "bundle is a null pointer");
  expect(seggd_bundle_verify(nullptr), SEGGD_ARGUMENT, "bundle is a null pointer");
  expect(seggd_bundle_get_info(nullptr, &info), SEGGD_ARGUMENT, "bundle is a null pointer");
  expect(seggd_bundle_get_info(bundle, nullptr), SEGGD_ARGUMENT, "info is a null pointer");
  expect(seggd_bundle_get_class(bundle, 0, nullptr), SEGGD_ARGUMENT, "found is a null pointer");
  expect(seggd_engines_list(nullptr, nullptr), SEGGD_ARGUMENT, "engines is a null pointer");
  expect(seggd_engines_get(nullptr, 0, nullptr), SEGGD_ARGUMENT, "engines is a null pointer");
  expect(seggd_generator_open(nullptr, nullptr, nullptr), SEGGD_ARGUMENT, "generator is a null pointer");
  expect(seggd_generator_open(nullptr, nullptr, &generator), SEGGD_ARGUMENT, "bundle is a null pointer");
  expect(seggd_generator_get_engine(nullptr, nullptr), SEGGD_ARGUMENT, "generator is a null pointer");
  expect(seggd_generate(nullptr, &good, image.data(), bytes, 0), SEGGD_ARGUMENT, "generator is a null pointer");
  expect(seggd_generate(generator, nullptr, image.data(), bytes, 0), SEGGD_ARGUMENT, "request is a null pointer");
  expect(seggd_generate(generator, &good, nullptr, bytes, 0), SEGGD_ARGUMENT, "images is a null pointer");
  expect(seggd_interpolate(generator, &good, nullptr, image.data(), bytes, 0), SEGGD_ARGUMENT,
         "interpolation is a null pointer");
  EXPECT_EQ(seggd_engines_count(nullptr), 0);
  EXPECT_EQ(opened, nullptr);
  EXPECT_EQ(engines, nullptr);
  seggd_bundle_close(nullptr), seggd_engines_close(nullptr), seggd_generator_close(nullptr);
}

// Checks the defaults of seggd.h: 0 or NULL must give the same image as the documented value.
TEST_F(Abi, TheDefaultsOfARequest) {
  static const char* const all_classes[] = {"cavity", "myocardium", "right ventricle"};
  static const char* const none[] = {nullptr};
  static const uint64_t zero_seed = 0;
  const auto drawn = [&](const std::function<void(seggd_request&)>& change) {
    auto cleared = sized<seggd_request>();
    cleared.label_maps = label_map.data();
    change(cleared);
    std::fill(image.begin(), image.end(), -1.0f);
    EXPECT_EQ(generate(cleared), SEGGD_OK) << seggd_last_error();
    return image;
  };
  const std::vector<float> expected = drawn([](auto&) {});
  const std::vector<std::function<void(seggd_request&)>> same{
      [](auto& r) { r.count = 1; },
      [](auto& r) { r.label_map_count = 1; },
      [](auto& r) { r.height = 24, r.width = 32; },
      [](auto& r) { r.seeds = &zero_seed, r.seed = 7; },
      [](auto& r) { r.noise_count = 1; },
      [](auto& r) { r.sampler = "ddim"; },
      [](auto& r) { r.steps = 50; },
      [](auto& r) { r.spacing = "leading"; },
      [](auto& r) { r.keep = all_classes, r.keep_count = 3; },
      [](auto& r) { r.drop = none; },
      [](auto& r) { r.preview_every = 7; },
      [](auto& r) { r.resize_label_maps = 1; },
      [](auto& r) { r.on_step = [](const seggd_step* step, void* user) -> int32_t { return user || step->preview; }; },
  };
  for (size_t i = 0; i < same.size(); ++i) EXPECT_EQ(drawn(same[i]), expected) << i;
  EXPECT_NE(drawn([](auto& r) { r.seed = 1; }), expected);
  EXPECT_NE(drawn([](auto& r) { r.eta = 1; }), expected);
}

// A sampler that is not the bundle's has its usual steps.
TEST_F(Abi, TheDefaultStepsOfAnotherSampler) {
  seggd_request other = request();
  other.sampler = "dpm-solver++", other.steps = 25;
  EXPECT_EQ(generate(other), SEGGD_OK);
  const std::vector<float> expected = image;
  other.steps = 0;
  EXPECT_EQ(generate(other), SEGGD_OK);
  EXPECT_EQ(image, expected);
}

TEST_F(Abi, TheDefaultsOfAnInterpolation) {
  const std::vector<float> real(24 * 32, 0.5f);
  static const double half = 0.5;
  static const char* const first[] = {"cavity"};
  const auto drawn = [&](const std::function<void(seggd_interpolation&)>& change) {
    auto cleared = sized<seggd_interpolation>();
    cleared.real = real.data(), cleared.real_size_bytes = real.size() * sizeof(float);
    change(cleared);
    seggd_request given = request();
    given.steps = 10;
    EXPECT_EQ(seggd_interpolate(generator, &given, &cleared, image.data(), image.size() * sizeof(float), 0), SEGGD_OK)
        << seggd_last_error();
    return image;
  };
  const std::vector<float> expected = drawn([](auto&) {});
  const std::vector<std::function<void(seggd_interpolation&)>> same{
      [](auto& how) { how.real_type = SEGGD_FLOAT32; }, [](auto& how) { how.weights = &half, how.weight_count = 1; },
      [](auto& how) { how.at = 0.6; },
      [](auto& how) { how.then_keep = first, how.then_keep_count = 1; },  // the only class of this label map
  };
  for (size_t i = 0; i < same.size(); ++i) EXPECT_EQ(drawn(same[i]), expected) << i;
  EXPECT_NE(drawn([](auto& how) { how.at = 0.9; }), expected);
}

TEST_F(Abi, TheDefaultsOfLoadOptions) {
  const auto engine_of = [&](const std::function<void(seggd_load_options&)>& change) {
    auto cleared = sized<seggd_load_options>();
    cleared.onnxruntime = ONNXRUNTIME_LIBRARY;
    change(cleared);
    seggd_generator* opened = nullptr;
    auto info = sized<seggd_engine_info>();
    EXPECT_EQ(seggd_generator_open(bundle, &cleared, &opened), SEGGD_OK) << seggd_last_error();
    EXPECT_EQ(seggd_generator_get_engine(opened, &info), SEGGD_OK);
    const std::string runs = std::string(info.name) + " " + info.precision + " " + info.device + " " + info.reason;
    seggd_generator_close(opened);
    return runs;
  };
  const std::string expected = engine_of([](auto&) {});
  const std::vector<std::function<void(seggd_load_options&)>> same{
      [](auto& o) { o.engine = "auto"; },          [](auto& o) { o.precision = "auto"; },
      [](auto& o) { o.device = "auto"; },          [](auto& o) { o.openvino_plugin = ""; },
      [](auto& o) { o.tensorrt_rtx_plugin = ""; }, [](auto& o) { o.tensorrt = ""; },
      [](auto& o) { o.tensorrt_plan = ""; }};
  for (size_t i = 0; i < same.size(); ++i) EXPECT_EQ(engine_of(same[i]), expected) << i;
  seggd_engines* listed = nullptr;
  EXPECT_EQ(seggd_engines_list(nullptr, &listed), SEGGD_OK);
  seggd_engines_close(listed);
}

// What the library fills has no null pointer.
TEST_F(Abi, FilledStructsHaveNoNull) {
  auto info = sized<seggd_bundle_info>();
  ASSERT_EQ(seggd_bundle_get_info(bundle, &info), SEGGD_OK);
  EXPECT_TRUE(info.name && info.sha256 && info.default_sampler && info.precisions);
  auto found = sized<seggd_class>();
  ASSERT_EQ(seggd_bundle_get_class(bundle, 0, &found), SEGGD_OK);
  EXPECT_TRUE(found.name);
  const auto whole = [](const seggd_engine_info& engine) {
    return engine.name && engine.device && engine.device_name && engine.version && engine.precision && engine.reason;
  };
  seggd_engines* listed = nullptr;
  ASSERT_EQ(seggd_engines_list(nullptr, &listed), SEGGD_OK);
  for (int32_t index = 0; index < seggd_engines_count(listed); ++index) {
    auto engine = sized<seggd_engine_info>();
    ASSERT_EQ(seggd_engines_get(listed, index, &engine), SEGGD_OK);
    EXPECT_TRUE(whole(engine)) << index;
  }
  seggd_engines_close(listed);
  auto runs = sized<seggd_engine_info>();
  ASSERT_EQ(seggd_generator_get_engine(generator, &runs), SEGGD_OK);
  EXPECT_TRUE(whole(runs) && runs.usable == 1);
}

TEST_F(Abi, AMessageHoldsNoTextThatMovesTheCursor) {
  const golden::Copy copy;
  copy.edit([](golden::Json& manifest) { manifest["\x1b[2J\u202e" + std::string(3000, 'x')] = 1; });
  seggd_bundle* opened = nullptr;
  EXPECT_EQ(seggd_bundle_open(copy.path().string().c_str(), &opened), SEGGD_MANIFEST);
  const std::string message = seggd_last_error();
  EXPECT_NE(message.find("unknown key '\\u001b[2J\\u202exxx"), std::string::npos) << message;
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
}

TEST_F(Abi, ALongMessageEndsWithAWholeCharacter) {
  for (const std::string start : {"", "x"}) {
    std::string path = start;
    for (int i = 0; i < 2000; ++i) path += "\xc3\xa9";
    seggd_bundle* opened = nullptr;
    EXPECT_EQ(seggd_bundle_open(path.c_str(), &opened), SEGGD_BUNDLE);
    const std::string message = seggd_last_error();
    EXPECT_EQ(message.substr(message.size() - 2), "\xc3\xa9");
  }
}

TEST_F(Abi, AFailureLeavesOutputsAsTheyWere) {
  seggd_bundle* before = bundle;
  EXPECT_EQ(seggd_bundle_open("no such bundle", &bundle), SEGGD_BUNDLE);
  EXPECT_EQ(bundle, before);
}

struct Wrong {
  std::function<void(seggd_request&)> change;
  seggd_status status;
  const char* message;
};

TEST_F(Abi, WrongRequests) {
  static const char* const unknown[] = {"liver"};
  static const char* const known[] = {"cavity"};
  static const char* const null[] = {nullptr};
  static const std::vector<float> infinite(24 * 32, INFINITY);
  static const std::vector<uint8_t> outside(24 * 32, 4);
  const std::vector<Wrong> all{
      {[](auto& r) { r.label_maps = nullptr; }, SEGGD_ARGUMENT, "label_maps is a null pointer"},
      {[](auto& r) { r.struct_size = 0; }, SEGGD_ARGUMENT, "struct_size is not set"},
      {[](auto& r) { r.struct_size = size_t{1} << 40; }, SEGGD_ARGUMENT, "struct_size is not set"},
      {[](auto& r) { r.height = 32, r.width = 24; }, SEGGD_LABEL_MAP,
       "the label map is 32x24; this bundle draws 24x32"},
      {[](auto& r) { r.height = 0; }, SEGGD_LABEL_MAP, "the label map is 0x32"},
      {[](auto& r) { r.width = 0, r.resize_label_maps = 1; }, SEGGD_LABEL_MAP, "the label map is 24x0"},
      {[](auto& r) { r.label_maps = outside.data(); }, SEGGD_LABEL_MAP, "label 4 is outside the classes"},
      {[](auto& r) { r.count = -1; }, SEGGD_OPTION, "count is -1"},
      {[](auto& r) { r.count = 2; }, SEGGD_DATA, "images has 3072 bytes"},
      {[](auto& r) { r.label_map_count = 2; }, SEGGD_OPTION, "there are 2 label maps for 1 images"},
      {[](auto& r) { r.label_map_count = -2; }, SEGGD_OPTION, "there are -2 label maps"},
      {[](auto& r) { r.noise = infinite.data(), r.noise_count = 3; }, SEGGD_OPTION, "there are 3 noise arrays"},
      {[](auto& r) { r.noise = infinite.data(); }, SEGGD_DATA, "noise must be finite"},
      {[](auto& r) { r.steps = -1; }, SEGGD_OPTION, "steps is -1"},
      {[](auto& r) { r.steps = 2000; }, SEGGD_OPTION, "steps is 2000; it must lie in [1, 1000]"},
      {[](auto& r) { r.eta = 2; }, SEGGD_OPTION, "eta is 2"},
      {[](auto& r) { r.eta = 0.5, r.sampler = "ddpm"; }, SEGGD_OPTION, "only the sampler ddim has one"},
      {[](auto& r) { r.sampler = "ddin"; }, SEGGD_OPTION, "did you mean 'ddim'?"},
      {[](auto& r) { r.spacing = "even"; }, SEGGD_OPTION, "there is no spacing 'even'"},
      {[](auto& r) { r.keep = unknown, r.keep_count = 1; }, SEGGD_OPTION, "there is no class 'liver'"},
      {[](auto& r) { r.keep = known, r.keep_count = 1, r.drop = known, r.drop_count = 1; }, SEGGD_OPTION, "exclude"},
      {[](auto& r) { r.keep_count = 1; }, SEGGD_ARGUMENT, "keep is a null pointer"},
      {[](auto& r) { r.drop = null, r.drop_count = 1; }, SEGGD_ARGUMENT, "drop[0] is a null pointer"},
      {[](auto& r) { r.preview_every = -1; }, SEGGD_OPTION, "preview_every"},
  };
  for (const Wrong& wrong : all) {
    seggd_request bad = request();
    wrong.change(bad);
    expect(generate(bad), wrong.status, wrong.message);
  }
  EXPECT_EQ(generate(request()), SEGGD_OK);
}

TEST_F(Abi, WrongSizesOfTheResult) {
  const seggd_request good = request();
  const auto drawn = [&](size_t bytes, seggd_pixel_type type) {
    return seggd_generate(generator, &good, image.data(), bytes, type);
  };
  for (const size_t bytes : {size_t{0}, size_t{3071}, size_t{3073}, size_t{6144}, SIZE_MAX})
    expect(drawn(bytes, SEGGD_FLOAT32), SEGGD_DATA, "images has ");
  expect(drawn(3072, SEGGD_UINT8), SEGGD_DATA, "images has 3072 bytes");
  expect(drawn(3072, 7), SEGGD_OPTION, "there is no pixel type 7");
}

TEST_F(Abi, WrongInterpolations) {
  std::vector<float> real(24 * 32, 0.5f);
  const double half = 0.5, two = 2;
  auto good = sized<seggd_interpolation>();
  good.real = real.data(), good.real_size_bytes = real.size() * sizeof(float), good.at = 0.6;
  good.weights = &half, good.weight_count = 1;
  const auto drawn = [&](const std::function<void(seggd_interpolation&)>& change) {
    seggd_interpolation how = good;
    change(how);
    const seggd_request given = request();
    return seggd_interpolate(generator, &given, &how, image.data(), image.size() * sizeof(float), SEGGD_FLOAT32);
  };
  EXPECT_EQ(drawn([](auto&) {}), SEGGD_OK) << seggd_last_error();
  expect(drawn([](auto& how) { how.real = nullptr; }), SEGGD_ARGUMENT, "real is a null pointer");
  expect(drawn([](auto& how) { how.real_size_bytes = 5; }), SEGGD_DATA, "the real image has 5 bytes");
  expect(drawn([](auto& how) { how.weights = nullptr; }), SEGGD_ARGUMENT, "weights is NULL but weight_count is not 0");
  expect(drawn([&](auto& how) { how.weights = &two; }), SEGGD_OPTION, "each weight must lie in [0, 1]");
  expect(drawn([](auto& how) { how.weight_count = 0; }), SEGGD_ARGUMENT, "weight_count is 0");
  expect(drawn([](auto& how) { how.at = -0.1; }), SEGGD_OPTION, "at is -0.1");
  real[7] = 1.5f;
  expect(drawn([](auto&) {}), SEGGD_DATA, "must lie in [0, 1]");
}

TEST_F(Abi, CallbacksThatCancelOrThrow) {
  seggd_request told = request();
  told.on_step = [](const seggd_step* step, void*) -> int32_t { return step->index == 0; };
  expect(generate(told), SEGGD_CANCELLED, "after step 1 of 2");
  told.on_step = [](const seggd_step*, void*) -> int32_t { throw std::runtime_error("not caught"); };
  expect(generate(told), SEGGD_CALLBACK, "the callback threw");
  EXPECT_EQ(generate(request()), SEGGD_OK);
}

TEST_F(Abi, WarningsThatCancelOrThrow) {
  label_map.assign(label_map.size(), 0);
  seggd_request told = request();
  told.on_warning = [](seggd_warning kind, const char*, void*) -> int32_t { return kind == SEGGD_WARNING_EMPTY_MASK; };
  expect(generate(told), SEGGD_CANCELLED, "a mask has no foreground");
  told.on_warning = [](seggd_warning, const char*, void*) -> int32_t { throw std::runtime_error("not caught"); };
  expect(generate(told), SEGGD_CALLBACK, "the callback threw");
}

TEST_F(Abi, DeviceMemoryOfAnEngineOnTheCpu) {
  const seggd_request good = request();
  const size_t bytes = image.size() * sizeof(float);
  expect(seggd_generate_on_device(generator, &good, nullptr, image.data(), bytes, SEGGD_FLOAT32),
         SEGGD_ENGINE_UNAVAILABLE, "onnxruntime on cpu works in host memory");
  expect(seggd_generate_on_device(nullptr, &good, nullptr, image.data(), bytes, SEGGD_FLOAT32), SEGGD_ARGUMENT,
         "generator is a null pointer");
  expect(seggd_generate_on_device(generator, &good, nullptr, nullptr, bytes, SEGGD_FLOAT32), SEGGD_ARGUMENT,
         "images is a null pointer");
  expect(seggd_generate_on_device(generator, &good, nullptr, image.data(), 5, SEGGD_FLOAT32), SEGGD_DATA,
         "images has 5 bytes");
}

TEST_F(Abi, CallersOfOtherVersions) {
  // One that knows less: what it does not know is the default.
  seggd_request old = request();
  old.struct_size = offsetof(seggd_request, seeds);
  old.sampler = "none that the old struct has room for";
  EXPECT_EQ(generate(old), SEGGD_OK) << seggd_last_error();
  // One that knows more: refused only where it asks for what is unknown here.
  struct {
    seggd_request known;
    uint64_t unknown;
  } newer{request(), 0};
  newer.known.struct_size = sizeof newer;
  EXPECT_EQ(generate(newer.known), SEGGD_OK) << seggd_last_error();
  newer.unknown = 1;
  expect(generate(newer.known), SEGGD_OPTION, "upgrade it");
  auto half = sized<seggd_bundle_info>();
  half.struct_size = offsetof(seggd_bundle_info, classes);
  half.classes = -1;
  EXPECT_EQ(seggd_bundle_get_info(bundle, &half), SEGGD_OK);
  EXPECT_STREQ(half.name, "tiny");
  EXPECT_EQ(half.classes, -1);
}

TEST_F(Abi, Indices) {
  auto found = sized<seggd_class>();
  for (const int32_t index : {-1, 4}) expect(seggd_bundle_get_class(bundle, index, &found), SEGGD_OPTION, "index is");
}

TEST_F(Abi, DamagedAndNewerBundles) {
  const golden::Copy damaged;
  golden::write(damaged.file("unet.fp32.onnx"), "changed");
  seggd_bundle* opened = nullptr;
  ASSERT_EQ(seggd_bundle_open(damaged.path().string().c_str(), &opened), SEGGD_OK);
  seggd_generator* made = nullptr;
  auto options = sized<seggd_load_options>();
  options.engine = "onnxruntime", options.onnxruntime = ONNXRUNTIME_LIBRARY;
  expect(seggd_generator_open(opened, &options, &made), SEGGD_INTEGRITY, "was changed after export");
  seggd_bundle_close(opened);
  const golden::Copy newer;
  newer.edit([](golden::Json& manifest) { manifest["schema"] = "seggd-bundle/2"; });
  expect(seggd_bundle_open(newer.path().string().c_str(), &opened), SEGGD_BUNDLE_VERSION,
         "follows schema seggd-bundle/2");
}

}  // namespace
