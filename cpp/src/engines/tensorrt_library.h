// TensorRT's own library, loaded at run time: nothing of it is linked.
#pragma once

#include <string>

#include "engines/tensorrt.h"

namespace seggd::core {

// The library at a path, loaded at its first use; "" is what SEGGD_TENSORRT names, else what the system finds.
// SEGGD_ENGINE_UNAVAILABLE where it cannot be loaded, or is of another major version than the headers of this build.
TensorRt& load_tensorrt(const std::string& path);

}  // namespace seggd::core
