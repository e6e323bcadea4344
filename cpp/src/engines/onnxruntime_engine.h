// Engines that run graphs by an execution provider of ONNX Runtime.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/network.h"

namespace seggd::core {

using ProviderOptions = std::map<std::string, std::string>;

// An execution provider, and what is asked of it.
struct Provider {
  std::string engine;  // our name of it
  std::string name;    // ONNX Runtime's
  enum class Form { kCpu, kCuda, kTensorRT, kPlugin } form;
  bool on_gpu;
  std::vector<Precision> precisions;  // what it can compute in, its own choice first
  bool lowers;                        // whether it takes the fp32 graph and lowers it itself
  std::string plugin;                 // where a caller names its plugin, "" where it needs none
  std::function<ProviderOptions(const EngineInfo&, int threads)> options;
};

// A provider's options as two arrays, which refer to them.
struct KeysAndValues {
  std::vector<const char*> keys, values;

  explicit KeysAndValues(const ProviderOptions& options) {
    for (const auto& [key, value] : options) keys.push_back(key.c_str()), values.push_back(value.c_str());
  }
};

class OnnxRuntimeEngine : public Engine {
 public:
  // `library` and `plugin` are paths, "" for those of the environment.
  OnnxRuntimeEngine(Provider provider, std::string library, std::string plugin)
      : provider_(std::move(provider)), library_(std::move(library)), plugin_(std::move(plugin)) {}

  const std::string& name() const override { return provider_.engine; }
  bool on_gpu() const override { return provider_.on_gpu; }
  Availability availability(const std::string& device) const override;
  Precision graph_precision(Precision precision) const override;
  std::unique_ptr<Network> open(const GraphFile& graph, const NetworkShape& shape, const EngineInfo& info,
                                int threads) const override;

 protected:
  Provider provider_;
  std::string library_, plugin_;
};

}  // namespace seggd::core
