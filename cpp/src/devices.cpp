#include "devices.h"

#include <fstream>

#include "error.h"
#include "library.h"

namespace seggd::core {
namespace {

#ifdef _WIN32
constexpr const char* kDriver = "nvcuda.dll";
#else
constexpr const char* kDriver = "libcuda.so.1";
#endif

std::vector<std::string> ask_driver() {
  std::vector<std::string> names;
  try {
    const Library driver(kDriver);
    // Of the driver's stable C interface, whose calls return 0 where they succeed.
    auto* init = driver.find<int(unsigned)>("cuInit");
    auto* count = driver.find<int(int*)>("cuDeviceGetCount");
    auto* name = driver.find<int(char*, int, int)>("cuDeviceGetName");
    int gpus = 0;
    if (!init || !count || !name || init(0) != 0 || count(&gpus) != 0) return names;
    for (int gpu = 0; gpu < gpus; ++gpu) {
      char text[256] = "";
      names.emplace_back(name(text, static_cast<int>(sizeof text), gpu) == 0 ? text : "GPU");
    }
  } catch (const Error&) {  // there is no driver
  }
  return names;
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

const std::vector<std::string>& gpu_names() {
  static const std::vector<std::string> names = ask_driver();
  return names;
}

}  // namespace seggd::core
