// What this machine has: its CPU, and its NVIDIA GPUs as the driver lists them.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace seggd::core {

std::string cpu_name();

// Whether the CPU multiplies in bfloat16.
bool cpu_has_bf16();

struct Gpu {
  std::string name;
  std::pair<int, int> capability;  // major and minor

  std::string capability_text() const {
    return std::to_string(capability.first) + "." + std::to_string(capability.second);
  }
};

// The GPUs that CUDA programs can use here; empty where there is no driver, or no GPU.
const std::vector<Gpu>& gpus();

// The number of "cuda:1"; SEGGD_ENGINE_UNAVAILABLE where it is none.
int ordinal(const std::string& device);

// The GPU of a device; SEGGD_ENGINE_UNAVAILABLE where it is not there.
const Gpu& find_gpu(const std::string& device);

}  // namespace seggd::core
