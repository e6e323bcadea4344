#include "tests/golden.h"

#include <atomic>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>

#include "bundle/sha256.h"
#include "core/names.h"

namespace golden {

namespace fs = std::filesystem;

fs::path folder() { return GOLDEN_FOLDER; }

std::string bundle(const std::string& name) { return (folder() / (name + ".seggd")).string(); }

const Json& vectors() {
  static const Json all = Json::parse(read(folder() / "vectors.json"));
  return all;
}

seggd::core::NoiseSchedule schedule(const std::string& name) {
  const Json& s = vectors().at("schedules").at(name).at("schedule");
  using namespace seggd::core;
  const Json& clip = s.at("clip_x0");
  return {s.at("train_steps"),
          kBetaCurves.require(s.at("beta_curve")),
          s.at("beta_start"),
          s.at("beta_end"),
          kPredictions.require(s.at("prediction")),
          kSpacings.require(s.at("spacing")),
          s.at("steps_offset"),
          clip.is_null() ? std::nullopt : std::optional<double>(clip.get<double>()),
          s.at("zero_terminal_snr"),
          s.at("final_alpha_bar_one")};
}

float number(const Json& json) { return json.is_null() ? std::numeric_limits<float>::infinity() : json.get<float>(); }

std::vector<float> numbers(const Json& json) {
  if (!json.is_array()) return {number(json)};
  std::vector<float> all;
  for (const Json& part : json)
    for (const float one : numbers(part)) all.push_back(one);
  return all;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& data) { std::ofstream(path, std::ios::binary) << data; }

Copy::Copy(const std::string& name) {
  static std::atomic<int> count{0};
  const std::string unique = std::to_string(std::random_device{}()) + "-" + std::to_string(count++);
  folder_ = fs::temp_directory_path() / ("seggd-test-" + unique);
  path_ = folder_ / (name + ".seggd");
  fs::create_directories(folder_);
  fs::copy(bundle(name), path_);
}

Copy::~Copy() { fs::remove_all(folder_); }

void Copy::edit(const std::function<void(Json&)>& change) const {
  Json manifest = Json::parse(read(file("bundle.json")));
  change(manifest);
  write(file("bundle.json"), manifest.dump());
}

void Copy::reseal() const {
  const auto state = [this](Json& ref) {
    const fs::path path = file(ref.at("path"));
    ref["sha256"] = seggd::core::sha256_of(path);
    ref["size"] = fs::file_size(path);
  };
  edit([&](Json& manifest) {
    state(manifest["graphs"][0]["files"][0]);
    state(manifest["check"]["file"]);
  });
}

Outcome outcome(const std::function<void()>& call) {
  try {
    call();
    return {SEGGD_OK, ""};
  } catch (const seggd::core::Error& error) {
    return {error.status(), error.what()};
  }
}

}  // namespace golden
