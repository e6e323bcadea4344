// The contracts between what executes a network and what draws with it: engines/seggd_engines/network.py.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "precision.h"

namespace seggd::core {

// The sizes a network is built for; the batch is free.
struct NetworkShape {
  int image_channels, mask_channels, height, width;

  int channels() const { return image_channels + mask_channels; }
  size_t pixels() const { return static_cast<size_t>(height) * static_cast<size_t>(width); }
};

// What really runs.
struct EngineInfo {
  std::string engine, version, device, device_name;
  Precision precision = Precision::kFp32;
  std::string notes;  // what was passed over on the way to it, and why
};

// A UNet on one device, ready to run. Any number of threads may bind and call it.
class Network {
 public:
  virtual ~Network() = default;
  virtual const EngineInfo& info() const = 0;
  virtual const NetworkShape& shape() const = 0;

  // A call that evaluates o = unet(sample, timestep) on host memory that outlives it: sample is [x | mask],
  // (batch, channels, H, W); timestep (batch); out (batch, image_channels, H, W). SEGGD_ENGINE where it fails.
  virtual std::function<void()> bind(int batch, float* sample, float* timestep, float* out) const = 0;
};

// Whether an engine can run on a device here; if not, why, and what to do.
struct Availability {
  bool usable = false;
  std::string version, device_name;
  std::vector<Precision> precisions;  // what it can compute in, its own choice first
  std::string reason;
};

// A way of running graphs.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const std::string& name() const = 0;
  virtual bool on_gpu() const = 0;
  virtual Availability availability(const std::string& device) const = 0;

  // The precision of the graph it wants in order to compute in `precision`.
  virtual Precision graph_precision(Precision precision) const = 0;

  // Opens a graph on a device where it is available. SEGGD_ENGINE where the graph cannot be read or built.
  virtual std::unique_ptr<Network> open(const std::filesystem::path& graph, const NetworkShape& shape,
                                        const EngineInfo& info, int threads) const = 0;
};

}  // namespace seggd::core
