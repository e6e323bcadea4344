// TensorRT itself: plans that `seggd-rt build` made, run on a GPU: engines/seggd_engines/tensorrt/engine.py.
//
// Each bound call has an execution context of its own with the memory that its batch needs, so a call is one enqueue,
// and the whole loop is captured in one CUDA graph.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bundle/signature.h"
#include "engines/cuda.h"
#include "engines/plan_cache.h"

namespace seggd::core {

// What is asked of TensorRT's library; tensorrt_library.cpp has the real one. SEGGD_ENGINE with TensorRT's own message
// where it fails.
class TensorRtContext {
 public:
  virtual ~TensorRtContext() = default;
  virtual void enqueue(void* stream) = 0;
};

class TensorRtPlan {
 public:
  virtual ~TensorRtPlan() = default;
  virtual Ports ports() const = 0;
  virtual std::pair<int, int> batches() const = 0;  // the least and the most of its profile
  virtual std::string report() const = 0;           // what its inspector tells of the layers, in JSON; or ""

  // A context on buffers, with memory for its activations from `allocate`, a multiple of 256.
  virtual std::unique_ptr<TensorRtContext> context(const Buffers& buffers, const NetworkShape& shape,
                                                   const std::function<void*(size_t)>& allocate) const = 0;
};

class TensorRt {
 public:
  virtual ~TensorRt() = default;
  virtual const std::string& version() const = 0;

  // `host_code`: whether the plan may bring a runtime of its own, as those do that run with later versions.
  virtual std::unique_ptr<TensorRtPlan> load(const std::string& plan, bool host_code) const = 0;
};

// Loads TensorRT; SEGGD_ENGINE_UNAVAILABLE where it cannot be loaded, or is too old.
using LoadTensorRt = std::function<TensorRt&()>;

class TensorRtNetwork : public CudaNetwork {
 public:
  // SEGGD_ENGINE where the plan is not the network of this shape, or computes in another precision.
  TensorRtNetwork(std::unique_ptr<TensorRtPlan> plan, const std::string& name, const NetworkShape& shape,
                  EngineInfo info, MakeStream make_stream);

  const EngineInfo& info() const override { return info_; }
  const NetworkShape& shape() const override { return shape_; }
  int max_batch() const override { return batches_.second; }
  bool capturable() const override { return true; }
  std::function<void()> bind(const Buffers& buffers, DeviceStream& stream) const override;
  std::unique_ptr<Session> session(int batch) const override;

 private:
  std::unique_ptr<TensorRtPlan> plan_;
  NetworkShape shape_;
  EngineInfo info_;
  std::pair<int, int> batches_;
};

class TensorRtEngine : public Engine {
 public:
  // `named` is a plan of the application's own, or ""; else plans come from the folder.
  TensorRtEngine(LoadTensorRt load, MakeStream make_stream, std::filesystem::path folder, std::string named)
      : load_(std::move(load)),
        make_stream_(std::move(make_stream)),
        folder_(std::move(folder)),
        named_(std::move(named)) {}

  const std::string& name() const override { return name_; }
  bool on_gpu() const override { return true; }
  Availability availability(const std::string& device) const override;
  Precision graph_precision(Precision precision) const override { return precision; }
  std::string lacks(const std::string& digest, const EngineInfo& info) const override;
  std::unique_ptr<Network> open(const GraphFile& graph, const NetworkShape& shape, const EngineInfo& info,
                                int threads) const override;

  // The parts of the two above, for a GPU that is described.
  Availability availability_on(const Gpu& gpu) const;
  std::optional<StoredPlan> plan(const std::string& digest, const EngineInfo& info, const Gpu& gpu,
                                 std::vector<std::string>& notes) const;
  std::unique_ptr<Network> open_plan(const StoredPlan& plan, const NetworkShape& shape, const EngineInfo& info) const;

 private:
  const std::string name_ = "tensorrt";
  LoadTensorRt load_;
  MakeStream make_stream_;
  std::filesystem::path folder_;
  std::string named_;
};

// SEGGD_ENGINE where a report of layers names data types, but not those of the precision.
void check_inspected(const std::string& report, Precision precision);

}  // namespace seggd::core
