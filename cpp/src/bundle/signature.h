// What every graph takes and gives, checked before buffers are bound to it by address.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/network.h"

namespace seggd::core {

using Axes = std::vector<int64_t>;  // -1 for one that is free; {0} of what is not float32, which fits nothing
using Ports = std::map<std::string, Axes>;

// SEGGD_ENGINE where a name is missing or too many, a type is not float32, or a size is another.
void check_signature(const Ports& found, const NetworkShape& shape, const std::string& graph);

}  // namespace seggd::core
