// What a built plan depends on, and what is recorded of it: engines/seggd_engines/tensorrt/plan_key.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/precision.h"
#include "engines/devices.h"

namespace seggd::core {

struct PlanKey {
  std::string graph_sha256;
  Precision precision = Precision::kFp32;
  std::string flavour, version;
  std::optional<std::string> gpu, capability, platform;  // none where the build needed no GPU
  std::vector<std::string> compute_capabilities;
  bool hardware_compatible = false, version_compatible = false, strip_weights = false;

  // Whether such a plan may be loaded by a version of its flavour, on a GPU.
  bool runs(const std::string& on_version, const Gpu& on_gpu) const;
};

struct PlanRecord {
  PlanKey key;
  std::string stem;  // the name of its files, without suffix, by what the key says
  std::string path;  // of the plan: absolute, or a file name beside the record
  std::string sha256;
  uint64_t size = 0;
  double asked = 0;  // when it was last asked for
};

// Throws std::exception where it is no record of this schema.
PlanRecord parse_plan_record(std::string_view data);

}  // namespace seggd::core
