// What tensorrt_library.cpp uses of TensorRT, as interfaces of its own, for a library that is a fake:
// fake_tensorrt.cpp. Whether the real headers have it all is found out where they are given: SEGGD_TENSORRT.
#pragma once

#include <cstddef>
#include <cstdint>

#define NV_TENSORRT_MAJOR 11
#define NV_TENSORRT_VERSION 110100L

using cudaStream_t = struct CUstream_st*;

namespace nvinfer1 {

enum class DataType { kFLOAT, kHALF };
enum class OptProfileSelector { kMIN, kOPT, kMAX };
enum class ExecutionContextAllocationStrategy { kSTATIC, kUSER_MANAGED };
enum class LayerInformationFormat { kONELINE, kJSON };

struct Dims {
  int32_t nbDims;
  int64_t d[8];
};

class ILogger {
 public:
  enum class Severity { kINTERNAL_ERROR, kERROR, kWARNING, kINFO };
  virtual void log(Severity severity, const char* text) noexcept = 0;

 protected:
  ~ILogger() = default;
};

class IExecutionContext {
 public:
  virtual ~IExecutionContext() = default;
  virtual bool setInputShape(const char* name, const Dims& dims) noexcept = 0;
  virtual size_t updateDeviceMemorySizeForShapes() noexcept = 0;
  virtual void setDeviceMemoryV2(void* memory, int64_t size) noexcept = 0;
  virtual bool setTensorAddress(const char* name, void* data) noexcept = 0;
  virtual bool enqueueV3(cudaStream_t stream) noexcept = 0;
};

class IEngineInspector {
 public:
  virtual ~IEngineInspector() = default;
  virtual const char* getEngineInformation(LayerInformationFormat format) const noexcept = 0;
};

class ICudaEngine {
 public:
  virtual ~ICudaEngine() = default;
  virtual int32_t getNbIOTensors() const noexcept = 0;
  virtual const char* getIOTensorName(int32_t index) const noexcept = 0;
  virtual DataType getTensorDataType(const char* name) const noexcept = 0;
  virtual Dims getTensorShape(const char* name) const noexcept = 0;
  virtual Dims getProfileShape(const char* name, int32_t profile, OptProfileSelector select) const noexcept = 0;
  virtual IEngineInspector* createEngineInspector() const noexcept = 0;
  virtual IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept = 0;
};

class IRuntime {
 public:
  virtual ~IRuntime() = default;
  virtual void setEngineHostCodeAllowed(bool allowed) noexcept = 0;
  virtual ICudaEngine* deserializeCudaEngine(const void* data, size_t size) noexcept = 0;
};

}  // namespace nvinfer1

extern "C" void* createInferRuntime_INTERNAL(void* logger, int32_t version) noexcept;
