// Built plans and whom they are trusted by: engines/seggd_engines/tensorrt/plan_cache.py. Plans are read here, never
// built.
//
// A plan is code. So a plan is loaded only where a record in the user's own cache folder, which nobody else may enter,
// holds its SHA-256: this user built it here, or added it (`seggd-rt cache add`); or where the application itself names
// it, which then answers for the folder it lies in. The record beside it still binds it to its graph.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engines/plan_key.h"

namespace seggd::core {

// A plan whose bytes are what its record says.
struct StoredPlan {
  PlanRecord record;
  std::filesystem::path path;
  std::string data;
};

// The user's own, as Python finds it: XDG_CACHE_HOME or ~/.cache, on Windows the local application data. Empty where
// the environment names none.
std::filesystem::path user_plan_folder();

// The plan that was asked for last among those that fit; `notes` is told of those that were passed over. Nothing
// where there is none. SEGGD_ENGINE where others may write to the folder.
std::optional<StoredPlan> find_plan(const std::filesystem::path& folder,
                                    const std::function<bool(const PlanKey&)>& fits, std::vector<std::string>& notes);

// A plan that the application names, with its record (.json) beside it. SEGGD_DATA where it is not what its record
// says, or has none.
StoredPlan named_plan(const std::filesystem::path& path);

}  // namespace seggd::core
