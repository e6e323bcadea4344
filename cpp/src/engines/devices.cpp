#include "engines/devices.h"

#include <algorithm>
#include <fstream>

#include "core/error.h"
#include "core/library.h"

namespace seggd::core {
namespace {

#ifdef _WIN32
constexpr const char* kDriver = "nvcuda.dll";
#else
constexpr const char* kDriver = "libcuda.so.1";
#endif

constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;  // the driver's numbers of these attributes
constexpr size_t kMostDigits = 3;                            // of a device's number

std::vector<Gpu> ask_driver() {
  std::vector<Gpu> found;
  try {
    const Library driver(kDriver);
    // Of the driver's stable C interface, whose calls return 0 where they succeed.
    auto* init = driver.find<int(unsigned)>("cuInit");
    auto* count = driver.find<int(int*)>("cuDeviceGetCount");
    auto* name = driver.find<int(char*, int, int)>("cuDeviceGetName");
    auto* attribute = driver.find<int(int*, int, int)>("cuDeviceGetAttribute");
    int there = 0;
    if (!init || !count || !name || !attribute || init(0) != 0 || count(&there) != 0) return found;
    for (int gpu = 0; gpu < there; ++gpu) {
      char text[256] = "";
      std::pair<int, int> capability{0, 0};
      attribute(&capability.first, kCapabilityMajor, gpu), attribute(&capability.second, kCapabilityMinor, gpu);
      found.push_back({name(text, static_cast<int>(sizeof text), gpu) == 0 ? text : "GPU", capability});
    }
  } catch (const Error&) {  // there is no driver
  }
  return found;
}

}  // namespace

std::string cpu_name() {
  std::ifstream cpus("/proc/cpuinfo");
  for (std::string line; std::getline(cpus, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

bool cpu_has_bf16() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

const std::vector<Gpu>& gpus() {
  static const std::vector<Gpu> found = ask_driver();
  return found;
}

int ordinal(const std::string& device) {
  const std::string prefix = "cuda:", digits = device.substr(std::min(device.size(), prefix.size()));
  if (device.compare(0, prefix.size(), prefix) != 0 || digits.empty() || digits.size() > kMostDigits ||
      digits.find_first_not_of("0123456789") != std::string::npos)
    throw Error(SEGGD_ENGINE_UNAVAILABLE, "there is no device " + device);
  return std::stoi(digits);
}

const Gpu& find_gpu(const std::string& device) {
  if (gpus().empty()) throw Error(SEGGD_ENGINE_UNAVAILABLE, "there is no NVIDIA GPU with a driver here");
  const size_t number = static_cast<size_t>(ordinal(device));
  if (number >= gpus().size()) throw Error(SEGGD_ENGINE_UNAVAILABLE, "there is no device " + device);
  return gpus()[number];
}

}  // namespace seggd::core
