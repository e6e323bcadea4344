#include "engines/onnxruntime.h"

#include <map>

#include "core/error.h"

namespace seggd::core {
namespace {

#ifdef _WIN32
constexpr const char* kSystemLibrary = "onnxruntime.dll";
#else
constexpr const char* kSystemLibrary = "libonnxruntime.so.1";
#endif

// The function table that is asked for: no newer than what is called here, so that older libraries serve too.
constexpr uint32_t kApiVersion = kHasPlugins ? 22 : ORT_API_VERSION;

// ONNX Runtime writes its log to stderr with the names of a graph's nodes as they are, by which a hostile graph would
// steer the terminal. Errors arrive as statuses too, so that nothing below this is logged.
constexpr OrtLoggingLevel kLogged = ORT_LOGGING_LEVEL_FATAL;

Axes axes_of(const OnnxRuntime& ort, OrtTypeInfo* info) {
  const OrtApi& api = ort.api();
  const auto owned = ort.own(info, api.ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  ort.require(api.CastTypeInfoToTensorInfo(info, &tensor), "read the graph");
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  if (tensor) ort.require(api.GetTensorElementType(tensor, &type), "read the graph");
  if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) return {0};
  size_t count = 0;
  ort.require(api.GetDimensionsCount(tensor, &count), "read the graph");
  Axes axes(count);
  ort.require(api.GetDimensions(tensor, axes.data(), count), "read the graph");
  return axes;
}

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
  require(api_->CreateEnv(kLogged, "seggd", &env_), "start");
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

OrtOwned<OrtSessionOptions> OnnxRuntime::session_options() const {
  OrtSessionOptions* made = nullptr;
  require(api_->CreateSessionOptions(&made), "make options");
  auto options = own(made, api_->ReleaseSessionOptions);
  // Of its own, not the environment's: that is another's where the process made one before. Runs take the session's.
  require(api_->SetSessionLogSeverityLevel(made, kLogged), "set an option");
  require(api_->AddSessionConfigEntry(made, "session.load_model_format", "ONNX"), "set an option");
  return options;
}

OrtOwned<OrtSession> OnnxRuntime::open(const GraphFile& graph, OrtSessionOptions* options, const char* what) const {
  if (!graph.external.empty()) {
#if ORT_API_VERSION >= 18
    std::vector<std::basic_string<ORTCHAR_T>> names;
    std::vector<char*> buffers;
    std::vector<size_t> sizes;
    for (const auto& [location, bytes] : graph.external) {
      names.push_back(std::filesystem::u8path(location).native());
      buffers.push_back(const_cast<char*>(bytes->data()));  // which it reads alone
      sizes.push_back(bytes->size());
    }
    std::vector<const ORTCHAR_T*> named;
    for (const auto& name : names) named.push_back(name.c_str());
    require(api_->AddExternalInitializersFromFilesInMemory(options, named.data(), buffers.data(), sizes.data(),
                                                           named.size()),
            what);
#else
    throw Error(SEGGD_ENGINE, "ONNX Runtime cannot open " + graph.name +
                                  " (external data needs ONNX Runtime 1.18): build libseggd with newer headers");
#endif
  }
  OrtSession* made = nullptr;
  require(api_->CreateSessionFromArray(env_, graph.model->data(), graph.model->size(), options, &made), what);
  return own(made, api_->ReleaseSession);
}

Ports OnnxRuntime::ports(OrtSession* session) const {
  const OrtApi& api = *api_;
  OrtAllocator* allocator = nullptr;
  require(api.GetAllocatorWithDefaultOptions(&allocator), "read the graph");
  Ports found;
  const auto add = [&](size_t count, auto name_of, auto type_of) {
    for (size_t i = 0; i < count; ++i) {
      char* name = nullptr;
      OrtTypeInfo* info = nullptr;
      require(name_of(session, i, allocator, &name), "read the graph");
      const std::string copy(name);
      require(api.AllocatorFree(allocator, name), "read the graph");
      require(type_of(session, i, &info), "read the graph");
      found[copy] = axes_of(*this, info);
    }
  };
  size_t inputs = 0, outputs = 0;
  require(api.SessionGetInputCount(session, &inputs), "read the graph");
  require(api.SessionGetOutputCount(session, &outputs), "read the graph");
  add(inputs, api.SessionGetInputName, api.SessionGetInputTypeInfo);
  add(outputs, api.SessionGetOutputName, api.SessionGetOutputTypeInfo);
  return found;
}

OrtOwned<OrtValue> OnnxRuntime::tensor(const OrtMemoryInfo* place, float* data,
                                       const std::vector<int64_t>& axes) const {
  size_t bytes = sizeof(float);
  for (const int64_t axis : axes) bytes *= static_cast<size_t>(axis);
  OrtValue* value = nullptr;
  require(api_->CreateTensorWithDataAsOrtValue(place, data, bytes, axes.data(), axes.size(),
                                               ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value),
          "bind buffers");
  return own(value, api_->ReleaseValue);
}

}  // namespace seggd::core
