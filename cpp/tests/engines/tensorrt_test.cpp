// TensorRT plans: which is taken and trusted, what is refused; and on a fake of TensorRT's library, what is asked of
// it.
#include "engines/tensorrt.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "bundle/sha256.h"
#include "tests/engines/emulated.h"
#include "tests/golden.h"
#include "tests/sum.h"

#ifdef FAKE_TENSORRT
#include "engines/tensorrt_library.h"
#endif

namespace {

using namespace seggd::core;
using golden::Copy;
using golden::outcome;
using nlohmann::ordered_json;

const Gpu kAda{"NVIDIA RTX 4090", {8, 9}}, kAmpere{"NVIDIA A100", {8, 0}}, kTuring{"NVIDIA RTX 2080", {7, 5}};
const std::string kGraph(64, '0');

// As Python writes keys and records.
ordered_json key(const std::function<void(ordered_json&)>& change = [](auto&) {}) {
  ordered_json made{{"schema", "seggd-plan/1"},
                    {"graph_sha256", kGraph},
                    {"precision", "fp32"},
                    {"batch", "1:1:8"},
                    {"flavour", "tensorrt"},
                    {"version", "11.1.0.106"},
                    {"gpu", kAda.name},
                    {"capability", "8.9"},
                    {"platform", "Linux-x86_64"},
                    {"compute_capabilities", ordered_json::array()},
                    {"hardware_compatible", false},
                    {"version_compatible", false},
                    {"strip_weights", false},
                    {"optimisation_level", 3}};
#ifdef __aarch64__
  made["platform"] = "Linux-aarch64";
#endif
  change(made);
  return made;
}

// A folder of plans and their records, which goes with it.
struct Plans {
  Copy copy;
  std::filesystem::path folder = copy.path() / "plans";

  Plans() {
    std::filesystem::create_directory(folder);
    std::filesystem::permissions(folder, std::filesystem::perms::owner_all);
  }

  std::filesystem::path keep(const ordered_json& of, const std::string& data, double asked = 1) const {
    const std::string stem = of["flavour"].get<std::string>() + "-" + of["precision"].get<std::string>() + "-" +
                             sha256(of.dump()).substr(0, 24);
    const std::filesystem::path path = folder / (stem + ".plan");
    golden::write(path, data);
    const ordered_json record{
        {"key", of},           {"name", "tiny.seggd"}, {"path", path.string()}, {"sha256", sha256(data)},
        {"size", data.size()}, {"asked", asked}};
    golden::write(folder / (stem + ".json"), record.dump(2) + "\n");
    return path;
  }

  TensorRtEngine engine(const std::string& named = "") const {
    return {[]() -> TensorRt& { throw Error(SEGGD_ENGINE_UNAVAILABLE, "there is none"); },
            [](int) { return std::make_unique<emulated::EmulatedStream>(); }, folder, named};
  }

  // What the engine takes for the graph on a GPU, and what it says of others.
  std::string taken(const Gpu& gpu = kAda, const std::string& version = "11.1.0.106", const std::string& named = "") {
    EngineInfo info{"tensorrt", version, "cuda:0", gpu.name, Precision::kFp32, ""};
    notes.clear();
    const std::optional<StoredPlan> found = engine(named).plan(kGraph, info, gpu, notes);
    return found ? found->data : "";
  }

  std::vector<std::string> notes;
};

TEST(Plans, TheOneAskedForLastIsTaken) {
  Plans plans;
  EXPECT_EQ(plans.taken(), "");
  plans.keep(key(), "first", 1);
  plans.keep(key([](auto& other) { other["batch"] = "1:4:8"; }), "second", 2);
  plans.keep(key([](auto& other) { other["graph_sha256"] = std::string(64, '1'); }), "of another graph", 3);
  plans.keep(key([](auto& other) { other["precision"] = "fp16"; }), "in half precision", 4);
  plans.keep(key([](auto& other) { other["flavour"] = "tensorrt-rtx"; }), "of TensorRT-RTX", 5);
  plans.keep(key([](auto& other) { other["strip_weights"] = true; }), "without weights", 6);
  EXPECT_EQ(plans.taken(), "second");
  EXPECT_TRUE(plans.notes.empty());
}

#ifndef __aarch64__
TEST(Plans, FilesAreNamedAsInPython) {
  const Plans plans;
  EXPECT_EQ(plans.keep(key(), "plan").filename(), "tensorrt-fp32-825d6b27cfdfdefccfce70a7.plan");
}
#endif

TEST(Plans, ADamagedOneIsPassedOver) {
  Plans plans;
  plans.keep(key(), "whole", 1);
  const auto damaged = plans.keep(key([](auto& other) { other["batch"] = "1:4:8"; }), "to be damaged", 2);
  golden::write(damaged, "damaged");
  golden::write(plans.folder / "other.json", "{");
  std::filesystem::copy(std::filesystem::path(damaged).replace_extension(".json"), plans.folder / "tensorrt-copy.json");
  EXPECT_EQ(plans.taken(), "whole");
  ASSERT_EQ(plans.notes.size(), 3u);
  const auto says = [&](const char* text) {
    return std::count_if(plans.notes.begin(), plans.notes.end(),
                         [text](const std::string& note) { return note.find(text) != std::string::npos; });
  };
  EXPECT_EQ(says("is damaged, or not the one that was built"), 1);
  EXPECT_EQ(says("other.json is damaged"), 1);
  EXPECT_EQ(says("it is another plan's"), 1);
}

TEST(Plans, AFolderThatOthersMayWriteToIsRefused) {
  Plans plans;
  plans.keep(key(), "plan");
  std::filesystem::permissions(plans.folder, std::filesystem::perms::group_write, std::filesystem::perm_options::add);
  const golden::Outcome found = outcome([&] { plans.taken(); });
  EXPECT_EQ(found.status, SEGGD_ENGINE);
  EXPECT_NE(found.message.find("others than you may write there"), std::string::npos);
}

TEST(Plans, WhereTheyRun) {
  struct Case {
    const char *flag, *built_by, *version;
    Gpu gpu;
    bool runs;
  };
  for (const Case& one : std::vector<Case>{{"", "11.1.0", "11.1.0", kAda, true},
                                           {"", "11.1.0", "11.1.0", kAmpere, false},
                                           {"hardware_compatible", "11.1.0", "11.1.0", kAmpere, true},
                                           {"hardware_compatible", "11.1.0", "11.1.0", kTuring, false},
                                           {"", "11.1.0", "11.2.0", kAda, false},
                                           {"version_compatible", "11.1.0", "11.2.0", kAda, true},
                                           {"version_compatible", "11.1.0", "11.0.9", kAda, false},
                                           {"version_compatible", "11.1.0", "12.0.0", kAda, false}}) {
    Plans plans;
    plans.keep(key([&](auto& other) {
                 other["version"] = one.built_by;
                 if (*one.flag) other[one.flag] = true;
               }),
               "plan");
    EXPECT_EQ(plans.taken(one.gpu, one.version), one.runs ? "plan" : "") << one.flag << one.version << one.gpu.name;
  }
  Plans plans;
  plans.keep(key([](auto& other) { other["platform"] = "Darwin-arm64"; }), "of another system");
  EXPECT_EQ(plans.taken(), "");
}

TEST(Plans, TheApplicationMayNameOne) {
  Plans plans, others;
  plans.keep(key(), "of this user");
  const std::string named = others.keep(key(), "of the application").string();
  EXPECT_EQ(plans.taken(kAda, "11.1.0.106", named), "of the application");
  EXPECT_EQ(plans.taken(kAmpere, "11.1.0.106", named), "");
  ASSERT_EQ(plans.notes.size(), 1u);
  EXPECT_NE(plans.notes[0].find("was built for another GPU"), std::string::npos);
  golden::write(named, "changed");
  EXPECT_EQ(outcome([&] { plans.taken(kAda, "11.1.0.106", named); }).status, SEGGD_DATA);
  EXPECT_EQ(outcome([&] { plans.taken(kAda, "11.1.0.106", "no such plan"); }).status, SEGGD_DATA);
}

TEST(Plans, TheUsersFolderIsPythons) {
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string kept = before ? before : "";
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(user_plan_folder(), "/somewhere/seggd-rt/plans");
  unsetenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (home) {
    EXPECT_EQ(user_plan_folder(), std::filesystem::path(home) / ".cache/seggd-rt/plans");
  }
  if (before) setenv("XDG_CACHE_HOME", kept.c_str(), 1);
}

TEST(TensorRt, ReportsOfLayersMustNameThePrecision) {
  check_inspected("", Precision::kFp16);
  check_inspected(R"({"Layers": ["a", "b"]})", Precision::kFp16);
  check_inspected(R"("Half", "FP32", "Float")", Precision::kFp16);
  EXPECT_EQ(outcome([] { check_inspected(R"("FP32")", Precision::kFp16); }).status, SEGGD_ENGINE);
  EXPECT_EQ(outcome([] { check_inspected(R"("Half" "Float")", Precision::kFp32); }).status, SEGGD_ENGINE);
  EXPECT_EQ(outcome([] { check_inspected(R"("BFloat16" "Half")", Precision::kFp16); }).status, SEGGD_ENGINE);
  check_inspected(R"("BFloat16", "BF16")", Precision::kBf16);  // which is no Float
}

#ifdef FAKE_TENSORRT
TensorRt& fake() { return load_tensorrt(FAKE_TENSORRT); }

EngineInfo info() { return {"tensorrt", fake().version(), "cuda:0", kAda.name, Precision::kFp32, ""}; }

TensorRtEngine fake_engine(const std::filesystem::path& folder) {
  return {fake, [](int) { return std::make_unique<emulated::EmulatedStream>(); }, folder, ""};
}

TEST(TensorRt, APlanDrawsWhatItsNetworkDraws) {
  const Plans plans;
  plans.keep(key(), "sum");
  const TensorRtEngine engine = fake_engine(plans.folder);
  const Availability there = engine.availability_on(kAda);
  EXPECT_EQ(there.version, "11.1.0.106");
  EXPECT_EQ(there.precisions.size(), 3u);
  std::vector<std::string> notes;
  const std::unique_ptr<Network> network =
      engine.open_plan(engine.plan(kGraph, info(), kAda, notes).value(), {1, 1, 2, 3}, info());
  EXPECT_EQ(network->max_batch(), 4);
  seggd::core::Run run = sum::two_steps();
  run.table.rows.back() = {0, 0.02f, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
  std::vector<float> found(12), expected(12);
  network->session(2)->run(run, {found.data(), sizeof(float) * 12, SEGGD_FLOAT32}, {});
  sum::Sum().session(2)->run(run, {expected.data(), sizeof(float) * 12, SEGGD_FLOAT32}, {});
  EXPECT_EQ(found, expected);
  EXPECT_GT(found[0], 0.5f);
  EXPECT_LT(found[0], 1.0f);
}

TEST(TensorRt, WhatAPlanCannot) {
  const auto opened = [](const char* data, const NetworkShape& shape) {
    PlanRecord record;
    return fake_engine("").open_plan({record, "it.plan", data}, shape, info());
  };
  const golden::Outcome broken = outcome([&] { opened("broken", {1, 1, 2, 3}); });
  EXPECT_EQ(broken.status, SEGGD_ENGINE);
  EXPECT_EQ(broken.message, "TensorRT cannot load the plan: the magic tag does not match");
  EXPECT_EQ(outcome([&] { opened("brings code", {1, 1, 2, 3}); }).status, SEGGD_ENGINE) << "unasked";
  EXPECT_TRUE(fake().load("brings code", true));
  for (const golden::Outcome& other : {outcome([&] {
                                         opened("sum", {1, 2, 2, 3});
                                       }),
                                       outcome([&] {
                                         opened("half", {1, 1, 2, 3});
                                       })})
    EXPECT_NE(other.message.find("is not the network of this manifest"), std::string::npos) << other.message;
  const auto network = opened("sum", {1, 1, 2, 3});
  const golden::Outcome many = outcome([&] { network->session(5); });
  EXPECT_NE(many.message.find("--batch 1:5:5"), std::string::npos) << many.message;
}

TEST(TensorRt, GpusAndLibrariesThatWillNotDo) {
  const golden::Outcome old = outcome([] { fake_engine("").availability_on({"NVIDIA GTX 1080", {6, 1}}); });
  EXPECT_EQ(old.status, SEGGD_ENGINE_UNAVAILABLE);
  for (const char* path : {"/no/such/library", "libm.so.6", FAKE_OLD_TENSORRT}) {
    const golden::Outcome found = outcome([path] { load_tensorrt(path); });
    EXPECT_EQ(found.status, SEGGD_ENGINE_UNAVAILABLE);
    EXPECT_NE(found.message.find("SEGGD_TENSORRT"), std::string::npos) << found.message;
  }
}
#endif

}  // namespace
