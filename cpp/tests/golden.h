// The bundles and vectors of tests/golden, and broken copies of those bundles.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/samplers.h"

namespace golden {

using Json = nlohmann::json;

std::filesystem::path folder();
std::string bundle(const std::string& name);  // path of "tiny"
const Json& vectors();                        // vectors.json
seggd::core::NoiseSchedule schedule(const std::string& name);

// JSON's null is what it lacks: infinity.
float number(const Json& json);
std::vector<float> numbers(const Json& json);

std::string read(const std::filesystem::path& path);
void write(const std::filesystem::path& path, const std::string& data);

// A copy of a bundle in a folder that goes with it.
class Copy {
 public:
  explicit Copy(const std::string& name = "tiny");
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;
  ~Copy();

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path file(const std::string& name) const { return path_ / name; }

  // Changes the manifest.
  void edit(const std::function<void(Json&)>& change) const;

  // States a file's present size and hash in the manifest, as a malicious bundle would.
  void reseal() const;

 private:
  std::filesystem::path folder_, path_;
};

// The status of the seggd::core::Error that a call throws, and its message; SEGGD_OK where it throws none.
struct Outcome {
  seggd_status status;
  std::string message;
};
Outcome outcome(const std::function<void()>& call);

}  // namespace golden
