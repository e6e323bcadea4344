// What of a manifest decides how masks become images. check.safetensors keeps it as JSON since the export, so that an
// edited schedule or swapped names are an error, not wrong images.
#pragma once

#include <string_view>

#include "bundle/json.h"
#include "bundle/manifest.h"

namespace seggd::core {

// Where check.safetensors keeps it, in its metadata.
inline constexpr std::string_view kMeaningKey = "seggd-meaning";

// Returns the values of seggd_rt.bundle.Meaning: equal values, not equal text, are what a manifest must have.
Json meaning(const Manifest& manifest);

}  // namespace seggd::core
