#include "engines/onnxruntime_engine.h"

#include <algorithm>

#include "bundle/signature.h"
#include "core/error.h"
#include "core/names.h"
#include "engines/devices.h"
#include "engines/host.h"
#include "engines/onnxruntime.h"

namespace seggd::core {
namespace {

using Form = Provider::Form;

void append_provider(OnnxRuntime& ort, OrtSessionOptions* session, const Provider& provider, const std::string& plugin,
                     const ProviderOptions& options) {
  const OrtApi& api = ort.api();
  const KeysAndValues all(options);
  const char* what = "take the execution provider";
  switch (provider.form) {
    case Form::kCpu:
      return;
    case Form::kCuda: {
      OrtCUDAProviderOptionsV2* made = nullptr;
      ort.require(api.CreateCUDAProviderOptions(&made), what);
      const auto cuda = ort.own(made, api.ReleaseCUDAProviderOptions);
      ort.require(api.UpdateCUDAProviderOptions(made, all.keys.data(), all.values.data(), all.keys.size()), what);
      ort.require(api.SessionOptionsAppendExecutionProvider_CUDA_V2(session, made), what);
      return;
    }
    case Form::kTensorRT: {
      OrtTensorRTProviderOptionsV2* made = nullptr;
      ort.require(api.CreateTensorRTProviderOptions(&made), what);
      const auto tensorrt = ort.own(made, api.ReleaseTensorRTProviderOptions);
      ort.require(api.UpdateTensorRTProviderOptions(made, all.keys.data(), all.values.data(), all.keys.size()), what);
      ort.require(api.SessionOptionsAppendExecutionProvider_TensorRT_V2(session, made), what);
      return;
    }
    case Form::kPlugin:
      break;
  }
#if ORT_API_VERSION >= 22
  const std::vector<const OrtEpDevice*> devices = ort.plugin_devices(plugin, provider.name, provider.on_gpu);
  ort.require(api.SessionOptionsAppendExecutionProvider_V2(session, ort.env(), devices.data(), 1, all.keys.data(),
                                                           all.values.data(), all.keys.size()),
              what);
#else
  static_cast<void>(plugin);
#endif
}

// A graph in a session of ONNX Runtime.
class OnnxRuntimeNetwork : public HostNetwork {
 public:
  OnnxRuntimeNetwork(OnnxRuntime& ort, OrtOwned<OrtSession> session, const NetworkShape& shape, EngineInfo info)
      : ort_(ort), session_(std::move(session)), shape_(shape), info_(std::move(info)) {}

  const EngineInfo& info() const override { return info_; }
  const NetworkShape& shape() const override { return shape_; }

  std::function<void()> bind(int batch, float* sample, float* timestep, float* out) const override {
    const OrtApi& api = ort_.api();
    OrtIoBinding* made = nullptr;
    ort_.require(api.CreateIoBinding(session_.get(), &made), "bind buffers");
    const std::shared_ptr<OrtIoBinding> binding(made, api.ReleaseIoBinding);
    OrtMemoryInfo* memory = nullptr;
    ort_.require(api.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory), "bind buffers");
    const auto host = ort_.own(memory, api.ReleaseMemoryInfo);
    const auto in = ort_.tensor(memory, sample, {batch, shape_.channels(), shape_.height, shape_.width});
    const auto time = ort_.tensor(memory, timestep, {batch});
    const auto result = ort_.tensor(memory, out, {batch, shape_.image_channels, shape_.height, shape_.width});
    ort_.require(api.BindInput(made, "sample", in.get()), "bind buffers");
    ort_.require(api.BindInput(made, "timestep", time.get()), "bind buffers");
    ort_.require(api.BindOutput(made, "out", result.get()), "bind buffers");
    return [this, binding] {
      ort_.require(ort_.api().RunWithBinding(session_.get(), nullptr, binding.get()), "run the network");
    };
  }

 private:
  OnnxRuntime& ort_;
  OrtOwned<OrtSession> session_;
  NetworkShape shape_;
  EngineInfo info_;
};

}  // namespace

Availability OnnxRuntimeEngine::availability(const std::string& device) const {
  const auto unusable = [](const std::string& reason) { return Availability{false, "", "", {}, reason}; };
  const bool gpu = device != "cpu";
  if (gpu != provider_.on_gpu)
    return unusable("this engine runs on " + std::string(provider_.on_gpu ? "a GPU" : "the CPU") + ", not on " +
                    device);
  if (provider_.form == Form::kPlugin && !kHasPlugins)
    return unusable("not in this build, which was made with ONNX Runtime's headers 1." +
                    std::to_string(ORT_API_VERSION) + ": those of 1.22 and later have plugins");
  if (provider_.form == Form::kPlugin && plugin_.empty())
    return unusable("its plugin is not named: give its path in " + provider_.plugin);
  try {
    const std::string device_name = gpu ? find_gpu(device).name : cpu_name();
    OnnxRuntime& ort = OnnxRuntime::load(library_);
    if (provider_.form == Form::kPlugin) {
      if (gpu && ordinal(device) != 0) return unusable("by its plugin it runs on cuda:0 alone");
      if (ort.plugin_devices(plugin_, provider_.name, gpu).empty())
        return unusable("its plugin finds no device it can use in " + device_name);
    } else {
      const std::vector<std::string> there = ort.providers();
      if (std::find(there.begin(), there.end(), provider_.name) == there.end())
        return unusable("this build of ONNX Runtime has no " + provider_.name);
    }
    return {true, ort.version(), device_name, provider_.precisions, ""};
  } catch (const Error& error) {
    return unusable(error.what());
  }
}

Precision OnnxRuntimeEngine::graph_precision(Precision precision) const {
  return provider_.lowers ? Precision::kFp32 : precision;
}

std::unique_ptr<Network> OnnxRuntimeEngine::open(const GraphFile& graph, const NetworkShape& shape,
                                                 const EngineInfo& info, int threads) const {
  OnnxRuntime& ort = OnnxRuntime::load(library_);
  const OrtApi& api = ort.api();
  const auto owned = ort.session_options();
  OrtSessionOptions* options = owned.get();
  ort.require(api.SetIntraOpNumThreads(options, threads), "set its threads");
  if (provider_.form != Form::kCpu) {
    // What a provider cannot run would else run on the CPU, unasked.
    ort.require(api.AddSessionConfigEntry(options, "session.disable_cpu_ep_fallback", "1"), "set an option");
    append_provider(ort, options, provider_, plugin_, provider_.options(info, threads));
  }
  auto session = ort.open(graph, options, "open the graph");
  check_signature(ort.ports(session.get()), shape, graph.name);
  return std::make_unique<OnnxRuntimeNetwork>(ort, std::move(session), shape, info);
}

}  // namespace seggd::core
