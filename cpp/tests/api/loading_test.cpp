// Which engine a bundle is opened with, of engines that lack something, or run on a GPU and err in pairs.
#include "api/loading.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "bundle/bundle.h"
#include "tests/engines/emulated.h"
#include "tests/golden.h"

namespace {

using namespace seggd::core;

// ONNX Runtime's network on an emulated GPU; every image of a batch after the first may be off by a little.
class Skewed : public HostNetwork {
 public:
  Skewed(std::unique_ptr<Network> network, float skew)
      : network_(dynamic_cast<HostNetwork*>(network.release())), skew_(skew) {}
  const EngineInfo& info() const override { return network_->info(); }
  const NetworkShape& shape() const override { return network_->shape(); }
  std::function<void()> bind(int batch, float* sample, float* timestep, float* out) const override {
    return [call = network_->bind(batch, sample, timestep, out), out, skew = skew_, first = shape().elements(),
            end = static_cast<size_t>(batch) * shape().elements()] {
      call();
      for (size_t i = first; i < end; ++i) out[i] += skew;
    };
  }

 private:
  std::unique_ptr<HostNetwork> network_;
  float skew_;
};

struct Form {
  std::string name;
  bool on_gpu = false;
  std::string lacks{};
  float skew = 0;
};

class FakeEngine : public Engine {
 public:
  explicit FakeEngine(Form form) : form_(std::move(form)) {}
  const std::string& name() const override { return form_.name; }
  bool on_gpu() const override { return form_.on_gpu; }
  Availability availability(const std::string&) const override { return {true, "1", "fake", {Precision::kFp32}, ""}; }
  Precision graph_precision(Precision precision) const override { return precision; }
  std::string lacks(const std::string& digest, const EngineInfo&) const override {
    EXPECT_EQ(digest.size(), 64u);
    return form_.lacks;
  }
  std::unique_ptr<Network> open(const GraphFile& graph, const NetworkShape& shape, const EngineInfo& info,
                                int threads) const override {
    const auto real = engines({ONNXRUNTIME_LIBRARY, "", "", "", ""});
    auto network = std::make_shared<Skewed>(real.back()->open(graph, shape, info, threads), form_.skew);
    return std::make_unique<emulated::EmulatedNetwork>(std::move(network));
  }

 private:
  Form form_;
};

golden::Outcome opened(const std::vector<Form>& forms, const std::string& engine = "auto", const char* device = "cpu") {
  std::vector<std::unique_ptr<Engine>> all;
  for (const Form& form : forms) all.push_back(std::make_unique<FakeEngine>(form));
  LoadOptions options;
  options.engine = engine, options.device = device, options.threads = 1;
  std::string found;
  golden::Outcome outcome = golden::outcome([&] {
    const EngineInfo info = load(Bundle(golden::bundle("tiny")), options, all)->info();
    found = info.engine + " (" + info.notes + ")";
  });
  if (outcome.status == SEGGD_OK) outcome.message = found;
  return outcome;
}

TEST(Loading, AutoPassesOverWhatLacksSomething) {
  EXPECT_EQ(opened({{"first"}, {"second"}}).message, "first ()");
  EXPECT_EQ(opened({{"first", false, "there is no plan"}, {"second"}}).message, "second (first: there is no plan)");
}

TEST(Loading, WhatIsNamedAndLacksSomethingIsAnError) {
  const golden::Outcome found = opened({{"first", false, "there is no plan"}, {"second"}}, "first");
  EXPECT_EQ(found.status, SEGGD_ENGINE_UNAVAILABLE);
  EXPECT_NE(found.message.find("first in fp32: there is no plan"), std::string::npos) << found.message;
}

TEST(Loading, OnAGpuTwoEqualImagesMustComeOutEqual) {
  EXPECT_EQ(opened({{"gpu", true}}, "gpu", "cuda:0").status, SEGGD_OK);
  const golden::Outcome found = opened({{"gpu", true, "", 1e-3f}}, "gpu", "cuda:0");
  EXPECT_EQ(found.status, SEGGD_ENGINE_CHECK);
  EXPECT_NE(found.message.find("gives two equal images of a batch outputs that differ by"), std::string::npos)
      << found.message;
  EXPECT_EQ(opened({{"cpu", false, "", 1e-3f}}, "cpu").status, SEGGD_OK) << "one image at a time is right";
}

}  // namespace
