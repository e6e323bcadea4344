#include "engines/plan_key.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "bundle/fields.h"
#include "bundle/sha256.h"

namespace seggd::core {
namespace {

constexpr const char* kSchema = "seggd-plan/1";
constexpr std::pair kHardwareCompatible{8, 0};  // the oldest GPU that such plans run on
constexpr size_t kDigits = 24;                  // of the key's hash in a file's name

// As Python's platform names it.
#if defined(_WIN32)
constexpr const char* kPlatform = "Windows-AMD64";
#elif defined(__aarch64__)
constexpr const char* kPlatform = "Linux-aarch64";
#else
constexpr const char* kPlatform = "Linux-x86_64";
#endif

std::array<int, 3> parts(const std::string& version) {
  std::array<int, 3> found{};
  std::sscanf(version.c_str(), "%d.%d.%d", &found[0], &found[1], &found[2]);
  return found;
}

// Whether a version is the same or later, within one major version.
bool is_later(const std::string& version, const std::string& than) {
  return parts(version)[0] == parts(than)[0] && parts(version) >= parts(than);
}

std::optional<std::string> text_or_none(Fields& fields, const std::string& key) {
  const Json& value = fields.require(key);
  return value.is_null() ? std::nullopt : std::optional(Fields::text_of(value, fields.at(key)));
}

PlanKey read_key(const Json& json) {
  Fields fields(json, "key");
  if (fields.text("schema") != kSchema) throw Invalid("it follows another schema");
  PlanKey key;
  key.graph_sha256 = fields.text("graph_sha256");
  key.precision = fields.choice("precision", kPrecisions);
  fields.text("batch");
  key.flavour = fields.text("flavour"), key.version = fields.text("version");
  key.gpu = text_or_none(fields, "gpu"), key.capability = text_or_none(fields, "capability");
  key.platform = text_or_none(fields, "platform");
  const std::string listed = "compute_capabilities";
  for (const Json& one : Fields::list_of(fields.require(listed), fields.at(listed)))
    key.compute_capabilities.push_back(Fields::text_of(one, fields.at(listed)));
  key.hardware_compatible = fields.truth("hardware_compatible");
  key.version_compatible = fields.truth("version_compatible");
  key.strip_weights = fields.truth("strip_weights");
  fields.whole("optimisation_level");
  fields.finish();
  return key;
}

}  // namespace

bool PlanKey::runs(const std::string& on_version, const Gpu& on_gpu) const {
  if (platform && *platform != kPlatform) return false;
  if (version != on_version && !(version_compatible && is_later(on_version, version))) return false;
  const std::string here = on_gpu.capability_text();
  if (gpu)
    return (*gpu == on_gpu.name && capability == here) ||
           (hardware_compatible && on_gpu.capability >= kHardwareCompatible);
  return compute_capabilities.empty() ||
         std::find(compute_capabilities.begin(), compute_capabilities.end(), here) != compute_capabilities.end();
}

PlanRecord parse_plan_record(std::string_view data) {
  const Json json = read_json(data);
  // In the order of the file, in which the key is hashed.
  const auto ordered = nlohmann::ordered_json::parse(data);
  Fields fields(json, "record");
  PlanRecord record;
  record.key = read_key(fields.require("key"));
  fields.text("name");
  record.path = fields.text("path"), record.sha256 = fields.text("sha256");
  const Json& size = fields.require("size");
  if (!size.is_number_unsigned()) throw Invalid("its size is not a whole number");
  record.size = size.get<uint64_t>(), record.asked = fields.number("asked");
  fields.finish();
  record.stem = record.key.flavour + "-" + std::string(kPrecisions.name(record.key.precision)) + "-" +
                core::sha256(ordered.at("key").dump()).substr(0, kDigits);
  return record;
}

}  // namespace seggd::core
