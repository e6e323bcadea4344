// A TensorRT whose plans are the network of sum.h, (1 + 1, 2, 3), in batches of 1 to 4: "sum", or a reason to fail.
#include <NvInferRuntime.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "tests/engines/emulated.h"

using namespace nvinfer1;

namespace {

constexpr int64_t kMost = 4;
constexpr size_t kActivations = 1000;

Dims dims_of(const std::string& name, int64_t batch) {
  if (name == "timestep") return {1, {batch}};
  return {4, {batch, name == "sample" ? 2 : 1, 2, 3}};
}

class Context : public IExecutionContext {
 public:
  explicit Context(ILogger& logger) : logger_(logger) {}

  bool setInputShape(const char* name, const Dims& dims) noexcept override {
    const Dims wanted = dims_of(name, dims.d[0]);
    batch_ = dims.d[0];
    return dims.nbDims == wanted.nbDims && std::memcmp(dims.d, wanted.d, sizeof(int64_t) * dims.nbDims) == 0;
  }

  size_t updateDeviceMemorySizeForShapes() noexcept override { return batch_ ? kActivations : 0; }
  void setDeviceMemoryV2(void* memory, int64_t size) noexcept override {
    ready_ = memory && size == static_cast<int64_t>(kActivations);
  }

  bool setTensorAddress(const char* name, void* data) noexcept override {
    addresses_[name] = static_cast<float*>(data);
    return data != nullptr;
  }

  bool enqueueV3(cudaStream_t stream) noexcept override {
    if (!ready_ || addresses_.size() != 3) {
      logger_.log(ILogger::Severity::kWARNING, "not of interest");
      logger_.log(ILogger::Severity::kERROR, "no memory was set");
      return false;
    }
    float *sample = addresses_["sample"], *timestep = addresses_["timestep"], *out = addresses_["out"];
    reinterpret_cast<emulated::Queue*>(stream)->enqueue([=, batch = batch_] {
      for (int64_t i = 0; i < batch; ++i)
        for (int64_t k = 0; k < 6; ++k) out[i * 6 + k] = sample[i * 12 + k] + timestep[i];
    });
    return true;
  }

 private:
  ILogger& logger_;
  int64_t batch_ = 0;
  bool ready_ = false;
  std::map<std::string, float*> addresses_;
};

class Inspector : public IEngineInspector {
 public:
  const char* getEngineInformation(LayerInformationFormat) const noexcept override {
    return "{\"Layers\": [{\"Name\": \"add\", \"Precision\": \"FP32\"}]}";
  }
};

class CudaEngine : public ICudaEngine {
 public:
  CudaEngine(ILogger& logger, bool half) : logger_(logger), half_(half) {}

  int32_t getNbIOTensors() const noexcept override { return 3; }
  const char* getIOTensorName(int32_t index) const noexcept override {
    return index == 0 ? "sample" : index == 1 ? "timestep" : "out";
  }
  DataType getTensorDataType(const char*) const noexcept override { return half_ ? DataType::kHALF : DataType::kFLOAT; }
  Dims getTensorShape(const char* name) const noexcept override { return dims_of(name, -1); }
  Dims getProfileShape(const char* name, int32_t, OptProfileSelector select) const noexcept override {
    return dims_of(name, select == OptProfileSelector::kMAX ? kMost : 1);
  }
  IEngineInspector* createEngineInspector() const noexcept override { return new Inspector; }
  IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept override {
    return strategy == ExecutionContextAllocationStrategy::kUSER_MANAGED ? new Context(logger_) : nullptr;
  }

 private:
  ILogger& logger_;
  bool half_;
};

class Runtime : public IRuntime {
 public:
  explicit Runtime(ILogger& logger) : logger_(logger) {}

  void setEngineHostCodeAllowed(bool allowed) noexcept override { host_code_ = allowed; }

  ICudaEngine* deserializeCudaEngine(const void* data, size_t size) noexcept override {
    const std::string plan(static_cast<const char*>(data), size);
    if (plan == "sum" || plan == "half" || (plan == "brings code" && host_code_))
      return new CudaEngine(logger_, plan == "half");
    logger_.log(ILogger::Severity::kERROR, "the magic tag does not match");
    return nullptr;
  }

 private:
  ILogger& logger_;
  bool host_code_ = false;
};

}  // namespace

extern "C" {

void* createInferRuntime_INTERNAL(void* logger, int32_t version) noexcept {
  return version == NV_TENSORRT_VERSION ? static_cast<IRuntime*>(new Runtime(*static_cast<ILogger*>(logger))) : nullptr;
}

int32_t getInferLibMajorVersion() { return FAKE_MAJOR; }
int32_t getInferLibMinorVersion() { return 1; }
int32_t getInferLibPatchVersion() { return 0; }
int32_t getInferLibBuildVersion() { return 106; }
}
