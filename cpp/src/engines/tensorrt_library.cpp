#include "engines/tensorrt_library.h"

#include <NvInferRuntime.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "core/error.h"
#include "core/library.h"
#include "core/wording.h"

namespace seggd::core {
namespace {

using nvinfer1::ILogger;

static_assert(NV_TENSORRT_MAJOR >= 10, "TensorRT 10 or newer is needed");

#ifdef _WIN32
const std::string kSystemLibrary = "nvinfer_" + std::to_string(NV_TENSORRT_MAJOR) + ".dll";
#else
const std::string kSystemLibrary = "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
#endif
constexpr std::pair kOldest{10, 12};  // as in Python: plans of strongly typed networks, which can be captured

// Errors that TensorRT told in the calling thread since it was last asked.
class Messages : public ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    try {
      if (severity == Severity::kERROR || severity == Severity::kINTERNAL_ERROR) said().push_back(text ? text : "");
    } catch (const std::bad_alloc&) {  // then it stays unsaid: TensorRT must not see an exception
    }
  }

  // An error of what failed, with what TensorRT said of it.
  static Error failure(const std::string& what) {
    const std::string why = joined(said(), "; ");
    said().clear();
    return Error(SEGGD_ENGINE, "TensorRT " + what + ": " + (why.empty() ? "it does not say why" : why));
  }

  static void forget() { said().clear(); }

 private:
  static std::vector<std::string>& said() {
    thread_local std::vector<std::string> lines;
    return lines;
  }
};

Axes axes_of(const nvinfer1::Dims& sizes) { return {sizes.d, sizes.d + std::max(sizes.nbDims, 0)}; }

nvinfer1::Dims dims_of(std::initializer_list<int64_t> sizes) {
  nvinfer1::Dims made{};
  for (const int64_t size : sizes) made.d[made.nbDims++] = size;
  return made;
}

class Context : public TensorRtContext {
 public:
  explicit Context(std::unique_ptr<nvinfer1::IExecutionContext> context) : context_(std::move(context)) {}

  void enqueue(void* stream) override {
    Messages::forget();
    if (!context_->enqueueV3(static_cast<cudaStream_t>(stream))) throw Messages::failure("failed");
  }

 private:
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

class Plan : public TensorRtPlan {
 public:
  Plan(std::unique_ptr<nvinfer1::IRuntime> runtime, std::unique_ptr<nvinfer1::ICudaEngine> engine)
      : runtime_(std::move(runtime)), engine_(std::move(engine)) {}

  Ports ports() const override {
    Ports found;
    for (int32_t index = 0; index < engine_->getNbIOTensors(); ++index) {
      const char* name = engine_->getIOTensorName(index);
      const bool floats = engine_->getTensorDataType(name) == nvinfer1::DataType::kFLOAT;
      found[name] = floats ? axes_of(engine_->getTensorShape(name)) : Axes{0};
    }
    return found;
  }

  std::pair<int, int> batches() const override {
    using Select = nvinfer1::OptProfileSelector;
    const auto size = [this](Select select) {
      return static_cast<int>(engine_->getProfileShape("sample", 0, select).d[0]);
    };
    return {size(Select::kMIN), size(Select::kMAX)};
  }

  std::string report() const override {
    const std::unique_ptr<nvinfer1::IEngineInspector> inspector(engine_->createEngineInspector());
    const char* text = inspector ? inspector->getEngineInformation(nvinfer1::LayerInformationFormat::kJSON) : nullptr;
    return text ? text : "";
  }

  std::unique_ptr<TensorRtContext> context(const Buffers& buffers, const NetworkShape& shape,
                                           const std::function<void*(size_t)>& allocate) const override {
    const std::lock_guard lock(mutex_);
    Messages::forget();
    std::unique_ptr<nvinfer1::IExecutionContext> made(
        engine_->createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
    if (!made) throw Messages::failure("cannot make an execution context");
    const int64_t batch = buffers.batch, height = shape.height, width = shape.width;
    if (!made->setInputShape("sample", dims_of({batch, shape.channels(), height, width})) ||
        !made->setInputShape("timestep", dims_of({batch})))
      throw Messages::failure("refuses a batch of " + std::to_string(batch));
    const size_t size = made->updateDeviceMemorySizeForShapes();
    made->setDeviceMemoryV2(allocate(size), static_cast<int64_t>(size));
    if (!made->setTensorAddress("sample", buffers.sample) || !made->setTensorAddress("timestep", buffers.timestep) ||
        !made->setTensorAddress("out", buffers.out))
      throw Messages::failure("refuses a buffer");
    return std::make_unique<Context>(std::move(made));
  }

 private:
  std::unique_ptr<nvinfer1::IRuntime> runtime_;  // outlives what it made
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  mutable std::mutex mutex_;
};

class Loaded : public TensorRt {
 public:
  explicit Loaded(const std::string& path) : library_(std::filesystem::u8path(path)) {
    create_ = library_.find<decltype(createInferRuntime_INTERNAL)>("createInferRuntime_INTERNAL");
    auto* major = library_.find<int32_t()>("getInferLibMajorVersion");
    auto* minor = library_.find<int32_t()>("getInferLibMinorVersion");
    auto* patch = library_.find<int32_t()>("getInferLibPatchVersion");
    auto* build = library_.find<int32_t()>("getInferLibBuildVersion");
    if (!create_ || !major || !minor || !patch || !build)
      throw Error(SEGGD_ENGINE_UNAVAILABLE, "it is another library");
    version_ = std::to_string(major()) + "." + std::to_string(minor()) + "." + std::to_string(patch()) + "." +
               std::to_string(build());
    if (major() != NV_TENSORRT_MAJOR)
      throw Error(SEGGD_ENGINE_UNAVAILABLE,
                  "it is version " + version_ + ", and this build was made for " + std::to_string(NV_TENSORRT_MAJOR));
    if (std::pair<int, int>(major(), minor()) < kOldest)
      throw Error(SEGGD_ENGINE_UNAVAILABLE, "it is version " + version_ + ", and at least 10.12 is needed");
  }

  const std::string& version() const override { return version_; }

  std::unique_ptr<TensorRtPlan> load(const std::string& plan, bool host_code) const override {
    Messages::forget();
    std::unique_ptr<nvinfer1::IRuntime> runtime(
        static_cast<nvinfer1::IRuntime*>(create_(static_cast<ILogger*>(&logger_), NV_TENSORRT_VERSION)));
    if (!runtime) throw Messages::failure("cannot start");
    runtime->setEngineHostCodeAllowed(host_code);
    std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine) throw Messages::failure("cannot load the plan");
    return std::make_unique<Plan>(std::move(runtime), std::move(engine));
  }

 private:
  Library library_;
  decltype(createInferRuntime_INTERNAL)* create_ = nullptr;
  std::string version_;
  mutable Messages logger_;
};

}  // namespace

TensorRt& load_tensorrt(const std::string& given) {
  std::string path = given.empty() ? environment("SEGGD_TENSORRT") : given;
  if (path.empty()) path = kSystemLibrary;
  // Never given back, as ONNX Runtime: its threads end with the process.
  static auto* loaded = new std::map<std::string, std::unique_ptr<Loaded>>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::unique_ptr<Loaded>& library = (*loaded)[path];
  try {
    if (!library) library = std::make_unique<Loaded>(path);
  } catch (const Error& error) {
    throw Error(SEGGD_ENGINE_UNAVAILABLE, "TensorRT, '" + path + "': " + error.what() +
                                              "; name its library in the option tensorrt or in SEGGD_TENSORRT");
  }
  return *library;
}

}  // namespace seggd::core
