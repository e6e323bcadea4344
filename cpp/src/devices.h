// What this machine has: its CPU, and its NVIDIA GPUs as the driver lists them.
#pragma once

#include <string>
#include <vector>

namespace seggd::core {

std::string cpu_name();

// Whether the CPU multiplies in bfloat16.
bool cpu_has_bf16();

// Names of the GPUs that CUDA programs can use here; empty where there is no driver, or no GPU.
const std::vector<std::string>& gpu_names();

}  // namespace seggd::core
