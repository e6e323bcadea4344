// What every graph takes and gives, checked before buffers are bound to it by address.
#pragma once

#include <string>

#include "network.h"
#include "onnxruntime.h"

namespace seggd::core {

// SEGGD_ENGINE where a name is missing or too many, a type is not float32, or a size is another.
void check_signature(const OnnxRuntime& ort, OrtSession* session, const NetworkShape& shape, const std::string& graph);

}  // namespace seggd::core
