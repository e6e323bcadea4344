// What of a manifest decides how masks become images, as a digest: check.safetensors keeps the one of the export, so
// that an edited schedule or swapped names are an error, not wrong images.
#pragma once

#include <string>
#include <string_view>

#include "bundle/manifest.h"

namespace seggd::core {

// Where check.safetensors keeps it, in its metadata.
inline constexpr std::string_view kMeaningKey = "seggd-meaning-sha256";

// The JSON that is hashed: byte for byte what msgspec writes of seggd_rt.bundle.bundle.Meaning.
std::string meaning_json(const Manifest& manifest);

std::string meaning_sha256(const Manifest& manifest);

// A number as msgspec writes it: the shortest digits, a point in them from 1e-5 to below 1e16.
std::string json_number(double number);

}  // namespace seggd::core
