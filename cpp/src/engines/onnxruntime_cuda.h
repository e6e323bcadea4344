// ONNX Runtime's CUDA provider on a session's own stream and device memory: engines/seggd_engines/onnxruntime/cuda.py.
//
// A session of ONNX Runtime has one stream, fixed when it is made, and its runs cannot be recorded into a graph of the
// caller's (microsoft/onnxruntime#32081). So each bound call has a session of its own on the caller's stream, which
// captures its own graph, one a step; N of them hold N copies of the weights.
#pragma once

#include "engines/cuda.h"
#include "engines/onnxruntime.h"
#include "engines/onnxruntime_engine.h"

namespace seggd::core {

// Opens the graph anew for each stream and batch that it is bound to.
class OnnxRuntimeCudaNetwork : public CudaNetwork {
 public:
  OnnxRuntimeCudaNetwork(OnnxRuntime& ort, GraphFile graph, ProviderOptions options, const NetworkShape& shape,
                         EngineInfo info, MakeStream make_stream);

  const EngineInfo& info() const override { return info_; }
  const NetworkShape& shape() const override { return shape_; }
  bool capturable() const override { return false; }
  std::function<void()> bind(const Buffers& buffers, DeviceStream& stream) const override;

 private:
  OrtOwned<OrtSession> open(int batch, void* stream) const;

  OnnxRuntime& ort_;
  GraphFile graph_;
  ProviderOptions options_;
  NetworkShape shape_;
  EngineInfo info_;
};

// OnnxRuntimeEngine's availability, another way to open.
class OnnxRuntimeCudaEngine : public OnnxRuntimeEngine {
 public:
  OnnxRuntimeCudaEngine(Provider provider, std::string library, MakeStream make_stream)
      : OnnxRuntimeEngine(std::move(provider), std::move(library), ""), make_stream_(std::move(make_stream)) {}

  std::unique_ptr<Network> open(const GraphFile& graph, const NetworkShape& shape, const EngineInfo& info,
                                int threads) const override;

 private:
  MakeStream make_stream_;
};

}  // namespace seggd::core
