// Which engines there are, which is chosen, and what is said of those that cannot run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <seggd/seggd.hpp>
#include <thread>

#include "bundle/safetensors.h"
#include "bundle/sha256.h"
#include "engines/devices.h"
#include "tests/golden.h"

namespace {

struct Chosen {
  seggd_status status;
  std::string text;
};

Chosen opened(const std::function<void(seggd::LoadOptions&)>& change,
              const std::string& path = golden::bundle("tiny")) {
  seggd::LoadOptions options;
  options.onnxruntime = ONNXRUNTIME_LIBRARY;
  change(options);
  try {
    const seggd::EngineInfo found = seggd::Generator(seggd::Bundle(path), options).engine();
    return {SEGGD_OK, found.name + " " + found.precision + " on " + found.device};
  } catch (const seggd::Error& error) {
    return {error.status(), error.what()};
  }
}

bool has(const Chosen& chosen, const std::string& text) { return chosen.text.find(text) != std::string::npos; }

uint64_t varint(const std::string& data, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(data.at(at++));
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

std::string varint(uint64_t value) {
  std::string all;
  for (; value > 0x7f; value >>= 7) all += static_cast<char>((value & 0x7f) | 0x80);
  return all + static_cast<char>(value);
}

std::string field(uint64_t number, const std::string& content) {
  return varint(number << 3 | 2) + varint(content.size()) + content;
}

// Returns a protobuf message with new contents for some fields.
std::string changed(const std::string& message,
                    const std::function<std::string(uint64_t number, const std::string& content)>& change) {
  std::string all;
  for (size_t at = 0; at < message.size();) {
    const size_t start = at;
    const uint64_t tag = varint(message, at);
    if ((tag & 7) == 2) {
      const auto size = static_cast<size_t>(varint(message, at));
      all += change(tag >> 3, message.substr(at, size));
      at += size;
    } else {
      varint(message, at);  // no other kind is there
      all += message.substr(start, at - start);
    }
  }
  return all;
}

TEST(Engines, AreListedInTheOrderOfAuto) {
  seggd::LoadOptions options;
  options.onnxruntime = ONNXRUNTIME_LIBRARY;
  std::vector<std::string> names;
  for (const seggd::EngineInfo& engine : seggd::engines(options)) {
    names.push_back(engine.name);
    EXPECT_EQ(engine.usable, engine.reason.empty()) << engine.name;
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "openvino", "onnxruntime"}));
}

TEST(Engines, AutoTakesTheFirstThatCanRun) {
  const Chosen found = opened([](seggd::LoadOptions& options) { options.device = "cpu"; });
  EXPECT_EQ(found.text, "onnxruntime fp32 on cpu");
}

TEST(Engines, NamesThatAreNotThere) {
  const auto refused = [](auto change) {
    const Chosen found = opened(change);
    EXPECT_EQ(found.status, SEGGD_OPTION);
    return found;
  };
  EXPECT_TRUE(has(refused([](auto& options) { options.engine = "onnxruntme"; }), "did you mean 'onnxruntime'?"));
  EXPECT_TRUE(has(refused([](auto& options) { options.precision = "fp8"; }), "there is no precision 'fp8'"));
  EXPECT_TRUE(has(refused([](auto& options) { options.device = "cuda:x"; }), "there is no device 'cuda:x'"));
}

TEST(Engines, ThreadsAreAtMostTheCores) {
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  const std::string here = ": this machine has " + std::to_string(cores) + (cores == 1 ? " core" : " cores") +
                           "; give 1 to " + std::to_string(cores);
  for (const int threads : {-1, static_cast<int>(cores) + 1, 20'000, INT32_MAX}) {
    const Chosen found = opened([threads](auto& options) { options.threads = threads; });
    EXPECT_EQ(found.status, SEGGD_OPTION);
    EXPECT_EQ(found.text, "threads is " + std::to_string(threads) + here);
  }
  for (const int threads : {0, 1, static_cast<int>(cores)}) {
    const auto asked = [threads](auto& options) { options.engine = "onnxruntime", options.threads = threads; };
    EXPECT_EQ(opened(asked).status, SEGGD_OK) << threads;
  }
}

TEST(Engines, NothingIsReplacedInSilence) {
  const auto unavailable = [](auto change) {
    const Chosen found = opened(change);
    EXPECT_EQ(found.status, SEGGD_ENGINE_UNAVAILABLE) << found.text;
    return found;
  };
  EXPECT_TRUE(has(unavailable([](auto& o) { o.engine = "onnxruntime", o.precision = "fp16"; }), "not in fp16"));
  EXPECT_TRUE(has(unavailable([](auto& o) { o.engine = "onnxruntime", o.device = "cuda:0"; }), "on the CPU, not on"));
  EXPECT_TRUE(has(unavailable([](auto& o) { o.engine = "openvino"; }), "SEGGD_OPENVINO_PLUGIN"));
  if (seggd::core::gpus().empty()) {
    EXPECT_TRUE(has(unavailable([](auto& o) { o.engine = "tensorrt"; }), "there is no NVIDIA GPU"));
  }
}

TEST(Engines, AMissingOnnxRuntime) {
  for (const char* path : {"/no/such/library", "libm.so.6", GOLDEN_FOLDER "/vectors.json"}) {
    const Chosen found = opened([path](auto& options) { options.engine = "onnxruntime", options.onnxruntime = path; });
    EXPECT_EQ(found.status, SEGGD_ENGINE_UNAVAILABLE);
    EXPECT_TRUE(has(found, path) && has(found, "SEGGD_ONNXRUNTIME")) << found.text;
  }
}

TEST(Engines, AGraphOfAnotherNetwork) {
  const golden::Copy copy;
  std::filesystem::copy_file(golden::bundle("tiny-rgb") + "/unet.fp32.onnx", copy.file("unet.fp32.onnx"),
                             std::filesystem::copy_options::overwrite_existing);
  copy.reseal();
  const Chosen found = opened([](auto& options) { options.engine = "onnxruntime"; }, copy.path().string());
  EXPECT_EQ(found.status, SEGGD_ENGINE);
  EXPECT_TRUE(has(found, "is not the network of this manifest")) << found.text;
}

TEST(Engines, AGraphThatIsNone) {
  const golden::Copy copy;
  golden::write(copy.file("unet.fp32.onnx"), std::string("\x08\x0a", 2));  // a model of a version alone
  copy.reseal();
  EXPECT_EQ(opened([](auto& options) { options.engine = "onnxruntime"; }, copy.path().string()).status,
            SEGGD_INTEGRITY);
}

std::string number(uint64_t of, uint64_t value) { return varint(of << 3) + varint(value); }

std::string tensor(const std::string& name, uint64_t type, const std::vector<uint64_t>& axes,
                   const std::string& bytes) {
  std::string dims;
  for (const uint64_t axis : axes) dims += number(1, axis);
  return field(5, dims + number(2, type) + field(8, name) + field(9, bytes));
}

// A value of floats; axis 0 is a parameter.
std::string port(uint64_t of, const std::string& name, const std::vector<uint64_t>& axes) {
  std::string shape;
  for (const uint64_t axis : axes) shape += field(1, axis ? number(1, axis) : field(2, "batch"));
  return field(of, field(1, name) + field(2, field(1, number(1, 1) + field(2, shape))));
}

std::string node(const std::string& type, const std::vector<std::string>& inputs, const std::string& output,
                 const std::string& name = "") {
  std::string all;
  for (const std::string& input : inputs) all += field(1, input);
  return field(1, all + field(2, output) + field(3, name) + field(4, type));
}

TEST(Engines, NoTextOfAGraphReachesTheTerminal) {
  const golden::Copy copy;
  const std::string one("\1\0\0\0\0\0\0\0", 8), zero(8, '\0');
  // It takes channel 0, then writes into a row that is not there.
  const std::string graph = node("Slice", {"sample", "zero", "one", "one"}, "image") +
                            node("ScatterND", {"image", "places", "value"}, "out", "\x1b]0;owned\x07\x1b[2J") +
                            field(2, "graph") + tensor("zero", 7, {1}, zero) + tensor("one", 7, {1}, one) +
                            tensor("places", 7, {1, 4}, zero + zero + std::string("\x88\x13\0\0\0\0\0\0", 8) + zero) +
                            tensor("value", 1, {1}, std::string(4, '\0')) + port(11, "sample", {0, 4, 24, 32}) +
                            port(11, "timestep", {0}) + port(12, "out", {0, 1, 24, 32});
  golden::write(copy.file("unet.fp32.onnx"), number(1, 10) + field(7, graph) + field(8, number(2, 20)));
  copy.reseal();
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  const Chosen found = opened([](auto& options) { options.engine = "onnxruntime"; }, copy.path().string());
  EXPECT_EQ(testing::internal::GetCapturedStderr() + testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(found.status, SEGGD_ENGINE);
  EXPECT_TRUE(has(found, "\\u001b]0;owned\\u0007\\u001b[2J")) << found.text;
}

// ONNX Runtime would read its own format where a file is called so. Then this file were a graph that nobody looked
// into.
TEST(Engines, NothingIsReadInOnnxRuntimesOwnFormat) {
  const golden::Copy copy;
  std::filesystem::rename(copy.file("unet.fp32.onnx"), copy.file("unet.ort"));
  copy.edit([](golden::Json& manifest) { manifest["graphs"][0]["files"][0]["path"] = "unet.ort"; });
  const auto named = [](auto& options) { options.engine = "onnxruntime"; };
  EXPECT_EQ(opened(named, copy.path().string()).text, "onnxruntime fp32 on cpu");  // the name decides nothing
  // Where the other format has its mark, this model has the name of who made it.
  golden::write(copy.file("unet.ort"),
                changed(golden::read(copy.file("unet.ort")), [](uint64_t number, const std::string& content) {
                  return field(number, number == 2 ? "ORTM" : content);
                }));
  ASSERT_EQ(golden::read(copy.file("unet.ort")).substr(4, 4), "ORTM");
  copy.reseal();
  EXPECT_EQ(opened(named, copy.path().string()).text, "onnxruntime fp32 on cpu");
}

TEST(Engines, ExternalDataComesFromMemory) {
  const golden::Copy copy;
  std::string weights;
  const auto entry = [](const std::string& key, const std::string& value) {
    return field(13, field(1, key) + field(2, value));
  };
  const auto tensor = [&](uint64_t number, const std::string& content) {
    if (number != 9 || content.size() < 100) return field(number, content);
    const std::string stated = entry("location", "weights") + entry("offset", std::to_string(weights.size())) +
                               entry("length", std::to_string(content.size())) + "\x70\x01";
    weights += content;
    return stated;
  };
  const std::string data = golden::read(copy.file("unet.fp32.onnx"));
  golden::write(copy.file("unet.fp32.onnx"), changed(data, [&](uint64_t number, const std::string& graph) {
                  if (number != 7) return field(number, graph);
                  return field(7, changed(graph, [&](uint64_t inner, const std::string& content) {
                                 return field(inner, inner == 5 ? changed(content, tensor) : content);
                               }));
                }));
  ASSERT_GT(weights.size(), 100u);
  golden::write(copy.file("weights"), weights);
  copy.edit([&weights](golden::Json& manifest) {
    manifest["graphs"][0]["files"].push_back(
        {{"path", "weights"}, {"sha256", seggd::core::sha256(weights)}, {"size", weights.size()}});
  });
  copy.reseal();
  const Chosen found = opened([](auto& options) { options.engine = "onnxruntime"; }, copy.path().u8string());
  EXPECT_EQ(found.text, "onnxruntime fp32 on cpu");
}

TEST(Engines, OutputsThatMissTheGoldenStates) {
  const golden::Copy copy;
  std::string check = golden::read(copy.file("check.safetensors"));
  // The first golden output, a tenth off.
  const golden::Json header = golden::Json::parse(
      check.substr(8, static_cast<unsigned char>(check[0]) | static_cast<unsigned char>(check[1]) << 8));
  const size_t data = 8 + (static_cast<unsigned char>(check[0]) | static_cast<unsigned char>(check[1]) << 8);
  const size_t at = data + header.at("outputs").at("data_offsets")[0].get<size_t>();
  float first = 0;
  check.copy(reinterpret_cast<char*>(&first), sizeof first, at);
  first += 0.1f;
  check.replace(at, sizeof first, reinterpret_cast<const char*>(&first), sizeof first);
  golden::write(copy.file("check.safetensors"), check);
  copy.reseal();
  const Chosen found = opened([](auto& options) { options.engine = "onnxruntime"; }, copy.path().string());
  EXPECT_EQ(found.status, SEGGD_ENGINE_CHECK);
  EXPECT_TRUE(has(found, "misses the bundle's golden states by")) << found.text;
}

}  // namespace
