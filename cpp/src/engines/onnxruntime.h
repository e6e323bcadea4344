// ONNX Runtime's C API, from a library that is loaded at run time.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "bundle/signature.h"
#include "core/library.h"

struct OrtEpDevice;  // which headers before 1.22 lack

namespace seggd::core {

// Whether this build's headers have plugins of execution providers.
constexpr bool kHasPlugins = ORT_API_VERSION >= 22;

// Gives back what ONNX Runtime made.
template <class Thing>
using OrtOwned = std::unique_ptr<Thing, void(ORT_API_CALL*)(Thing*)>;

class OnnxRuntime {
 public:
  // The library at a path, loaded at its first use; "" is what SEGGD_ONNXRUNTIME names, else what the system finds.
  // SEGGD_ENGINE_UNAVAILABLE where it cannot be loaded, or is older than the headers of this build.
  static OnnxRuntime& load(const std::string& path);

  const OrtApi& api() const { return *api_; }
  OrtEnv* env() const { return env_; }
  const std::string& version() const { return version_; }

  // SEGGD_ENGINE with ONNX Runtime's message where a call failed.
  void require(OrtStatus* status, const char* what) const;

  // Names of the execution providers that were built into it.
  std::vector<std::string> providers() const;

  // Devices of an execution provider, on GPUs or on the CPU, after loading the plugin at a path that brings it.
  std::vector<const OrtEpDevice*> plugin_devices(const std::string& plugin, const std::string& provider, bool on_gpu);

  // Returns options of a session that logs nothing and reads only ONNX. Given a file name, ONNX Runtime would also read
  // its own format, which onnx_data.h does not check.
  OrtOwned<OrtSessionOptions> session_options() const;

  // A session of a graph in memory; nothing is read from files.
  OrtOwned<OrtSession> open(const GraphFile& graph, OrtSessionOptions* options, const char* what) const;

  // What a session takes and gives.
  Ports ports(OrtSession* session) const;

  // A tensor of floats over memory of a caller, described by `place`.
  OrtOwned<OrtValue> tensor(const OrtMemoryInfo* place, float* data, const std::vector<int64_t>& axes) const;

  // Takes a pointer that a creating call filled.
  template <class Thing>
  OrtOwned<Thing> own(Thing* thing, void(ORT_API_CALL* release)(Thing*)) const {
    return {thing, release};
  }

 private:
  explicit OnnxRuntime(const std::string& path);

  Library library_;
  const OrtApi* api_ = nullptr;
  OrtEnv* env_ = nullptr;
  std::string version_;
  std::mutex mutex_;
  std::set<std::string> plugins_;
};

}  // namespace seggd::core
