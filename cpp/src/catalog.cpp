#include "catalog.h"

#include "devices.h"
#include "library.h"
#include "onnxruntime_engine.h"

namespace seggd::core {
namespace {

using Form = Provider::Form;

ProviderOptions none(Precision, const std::string&, int) { return {}; }

// TensorRT before 11 takes a half graph only where half is on.
ProviderOptions tensorrt(Precision precision, const std::string& gpu, int) {
  return {{"device_id", gpu}, {"trt_fp16_enable", precision == Precision::kFp16 ? "1" : "0"}};
}

// fp32 means TF32 off. The rest as in onnxruntime_cuda.py.
ProviderOptions cuda(Precision, const std::string& gpu, int) {
  return {{"device_id", gpu},
          {"use_tf32", "0"},
          {"cudnn_conv_algo_search", "EXHAUSTIVE"},
          {"cudnn_conv_use_max_workspace", "1"},
          {"prefer_nhwc", "1"},
          {"arena_extend_strategy", "kSameAsRequested"}};
}

// The plugin ignores `precision`; `load_config` it heeds.
ProviderOptions openvino(Precision precision, const std::string&, int threads) {
  std::string config = "{\"CPU\":{\"INFERENCE_PRECISION_HINT\":\"";
  config += precision == Precision::kBf16 ? "bf16" : "f32";
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
  add({"tensorrt", "TensorrtExecutionProvider", Form::kTensorRT, true, half_first, false, "", tensorrt}, "");
  add({"tensorrt-rtx", "NvTensorRTRTXExecutionProvider", Form::kPlugin, true, half_first, false, rtx_plugin, none},
      rtx);
  add({"onnxruntime-cuda", "CUDAExecutionProvider", Form::kCuda, true, half_first, false, "", cuda}, "");
  add({"openvino", "OpenVINOExecutionProvider", Form::kPlugin, false, openvino_precisions, true, vino_plugin, openvino},
      vino);
  // Its CPU kernels compute in fp32 alone: a half graph would be cast back.
  add({"onnxruntime", "CPUExecutionProvider", Form::kCpu, false, single, false, "", none}, "");
  return all;
}

}  // namespace seggd::core
