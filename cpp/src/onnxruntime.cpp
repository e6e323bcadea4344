#include "onnxruntime.h"

#include <map>

#include "error.h"

namespace seggd::core {
namespace {

#ifdef _WIN32
constexpr const char* kSystemLibrary = "onnxruntime.dll";
#else
constexpr const char* kSystemLibrary = "libonnxruntime.so.1";
#endif

// The function table that is asked for: no newer than what is called here, so that older libraries serve too.
constexpr uint32_t kApiVersion = kHasPlugins ? 22 : ORT_API_VERSION;

}  // namespace

OnnxRuntime& OnnxRuntime::load(const std::string& given) {
  std::string path = given.empty() ? environment("SEGGD_ONNXRUNTIME") : given;
  if (path.empty()) path = kSystemLibrary;
  // Never given back: its threads end with the process, in no order that is known here.
  static auto* loaded = new std::map<std::string, std::unique_ptr<OnnxRuntime>>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::unique_ptr<OnnxRuntime>& runtime = (*loaded)[path];
  try {
    if (!runtime) runtime.reset(new OnnxRuntime(path));
  } catch (const Error& error) {
    throw Error(SEGGD_ENGINE_UNAVAILABLE, "ONNX Runtime, '" + path + "': " + error.what() +
                                              "; name its library in the load options or in SEGGD_ONNXRUNTIME");
  }
  return *runtime;
}

OnnxRuntime::OnnxRuntime(const std::string& path) : library_(std::filesystem::u8path(path)) {
  auto* base = library_.find<decltype(OrtGetApiBase)>("OrtGetApiBase");
  if (!base) throw Error(SEGGD_ENGINE_UNAVAILABLE, "it is another library");
  version_ = base()->GetVersionString();
  api_ = base()->GetApi(kApiVersion);
  if (!api_)
    throw Error(SEGGD_ENGINE_UNAVAILABLE,
                "it is version " + version_ + ", and this build needs at least 1." + std::to_string(kApiVersion));
  require(api_->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "seggd", &env_), "start");
}

void OnnxRuntime::require(OrtStatus* status, const char* what) const {
  if (!status) return;
  const std::string message = api_->GetErrorMessage(status);
  api_->ReleaseStatus(status);
  throw Error(SEGGD_ENGINE, std::string("ONNX Runtime cannot ") + what + ": " + message);
}

std::vector<std::string> OnnxRuntime::providers() const {
  char** names = nullptr;
  int count = 0;
  require(api_->GetAvailableProviders(&names, &count), "list its execution providers");
  std::vector<std::string> all(names, names + count);
  require(api_->ReleaseAvailableProviders(names, count), "free its list of execution providers");
  return all;
}

std::vector<const OrtEpDevice*> OnnxRuntime::plugin_devices(const std::string& plugin, const std::string& provider,
                                                            bool on_gpu) {
#if ORT_API_VERSION >= 22
  const std::lock_guard lock(mutex_);
  if (!plugins_.count(plugin)) {
    const std::filesystem::path path = std::filesystem::u8path(plugin);
    require(api_->RegisterExecutionProviderLibrary(env_, plugin.c_str(), path.c_str()), "load the plugin");
    plugins_.insert(plugin);
  }
  const OrtEpDevice* const* devices = nullptr;
  size_t count = 0;
  require(api_->GetEpDevices(env_, &devices, &count), "list devices");
  std::vector<const OrtEpDevice*> found;
  for (size_t i = 0; i < count; ++i) {
    const OrtHardwareDeviceType type = api_->HardwareDevice_Type(api_->EpDevice_Device(devices[i]));
    if (provider == api_->EpDevice_EpName(devices[i]) &&
        type == (on_gpu ? OrtHardwareDeviceType_GPU : OrtHardwareDeviceType_CPU))
      found.push_back(devices[i]);
  }
  return found;
#else
  static_cast<void>(plugin), static_cast<void>(provider), static_cast<void>(on_gpu);
  return {};
#endif
}

}  // namespace seggd::core
