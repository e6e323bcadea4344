#include "engines/catalog.h"

#include "core/library.h"
#include "engines/devices.h"
#include "engines/onnxruntime_engine.h"

// Parts of the library that a build may lack: CMakeLists.txt.
#ifdef SEGGD_CUDA
#include "engines/cuda_stream.h"
#include "engines/onnxruntime_cuda.h"
#endif
#ifdef SEGGD_TENSORRT
#include "engines/tensorrt_library.h"
#endif

namespace seggd::core {
namespace {

using Form = Provider::Form;

ProviderOptions none(const EngineInfo&, int) { return {}; }

// TensorRT before 11 takes a half graph only where half is on.
[[maybe_unused]] ProviderOptions tensorrt(const EngineInfo& info, int) {
  return {{"device_id", std::to_string(ordinal(info.device))},
          {"trt_fp16_enable", info.precision == Precision::kFp16 ? "1" : "0"}};
}

// fp32 means TF32 off. The rest as in onnxruntime_cuda.py.
ProviderOptions cuda(const EngineInfo& info, int) {
  return {{"device_id", std::to_string(ordinal(info.device))},
          {"use_tf32", "0"},
          {"cudnn_conv_algo_search", "EXHAUSTIVE"},
          {"cudnn_conv_use_max_workspace", "1"},
          {"prefer_nhwc", "1"},
          {"arena_extend_strategy", "kSameAsRequested"}};
}

// The plugin ignores `precision`; `load_config` it heeds.
ProviderOptions openvino(const EngineInfo& info, int threads) {
  std::string config = "{\"CPU\":{\"INFERENCE_PRECISION_HINT\":\"";
  config += info.precision == Precision::kBf16 ? "bf16" : "f32";
  config += "\",\"PERFORMANCE_HINT\":\"LATENCY\"";
  if (threads > 0) config += ",\"INFERENCE_NUM_THREADS\":\"" + std::to_string(threads) + "\"";
  return {{"load_config", config + "}}"}};
}

}  // namespace

std::vector<std::unique_ptr<Engine>> engines(const Libraries& libraries) {
  const std::vector<Precision> half_first{Precision::kFp16, Precision::kFp32}, single{Precision::kFp32};
  const std::vector<Precision> openvino_precisions =
      cpu_has_bf16() ? std::vector{Precision::kBf16, Precision::kFp32} : single;
  const auto or_environment = [](const std::string& path, const char* name) {
    return path.empty() ? environment(name) : path;
  };
  const std::string rtx = or_environment(libraries.tensorrt_rtx_plugin, "SEGGD_TENSORRT_RTX_PLUGIN");
  const std::string vino = or_environment(libraries.openvino_plugin, "SEGGD_OPENVINO_PLUGIN");
  const std::string rtx_plugin = "the option tensorrt_rtx_plugin or in SEGGD_TENSORRT_RTX_PLUGIN";
  const std::string vino_plugin = "the option openvino_plugin or in SEGGD_OPENVINO_PLUGIN";
  std::vector<std::unique_ptr<Engine>> all;
  const auto add = [&](Provider provider, const std::string& plugin) {
    all.push_back(std::make_unique<OnnxRuntimeEngine>(std::move(provider), libraries.onnxruntime, plugin));
  };
#ifdef SEGGD_TENSORRT
  all.push_back(std::make_unique<TensorRtEngine>(
      [path = libraries.tensorrt]() -> TensorRt& { return load_tensorrt(path); }, make_cuda_stream, user_plan_folder(),
      or_environment(libraries.tensorrt_plan, "SEGGD_TENSORRT_PLAN")));
#else
  add({"tensorrt", "TensorrtExecutionProvider", Form::kTensorRT, true, half_first, false, "", tensorrt}, "");
#endif
  add({"tensorrt-rtx", "NvTensorRTRTXExecutionProvider", Form::kPlugin, true, half_first, false, rtx_plugin, none},
      rtx);
  Provider on_cuda{"onnxruntime-cuda", "CUDAExecutionProvider", Form::kCuda, true, half_first, false, "", cuda};
#ifdef SEGGD_CUDA
  all.push_back(std::make_unique<OnnxRuntimeCudaEngine>(std::move(on_cuda), libraries.onnxruntime, make_cuda_stream));
#else
  add(std::move(on_cuda), "");
#endif
  add({"openvino", "OpenVINOExecutionProvider", Form::kPlugin, false, openvino_precisions, true, vino_plugin, openvino},
      vino);
  // Its CPU kernels compute in fp32 alone: a half graph would be cast back.
  add({"onnxruntime", "CPUExecutionProvider", Form::kCpu, false, single, false, "", none}, "");
  return all;
}

}  // namespace seggd::core
