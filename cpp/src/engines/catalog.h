// The engines there are, in the order in which "auto" tries them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/network.h"

namespace seggd::core {

// Paths of libraries, "" for those of the environment; and of a plan of the application's own, or "".
struct Libraries {
  std::string onnxruntime, openvino_plugin, tensorrt_rtx_plugin, tensorrt, tensorrt_plan;
};

std::vector<std::unique_ptr<Engine>> engines(const Libraries& libraries);

}  // namespace seggd::core
