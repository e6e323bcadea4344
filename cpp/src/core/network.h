// The contracts between what executes a network and what draws with it: seggd_rt/engine/contract.py.
#pragma once

#include <climits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/precision.h"

namespace seggd::core {

// The sizes a network is built for; the batch is free.
struct NetworkShape {
  int image_channels, mask_channels, height, width;

  int channels() const { return image_channels + mask_channels; }
  size_t pixels() const { return static_cast<size_t>(height) * static_cast<size_t>(width); }
  size_t elements() const { return pixels() * static_cast<size_t>(image_channels); }  // of an image
};

// What really runs.
struct EngineInfo {
  std::string engine, version, device, device_name;
  Precision precision = Precision::kFp32;
  std::string notes;  // what was passed over on the way to it, and why
};

class Session;

// A UNet on one device, ready to run: host.h's or cuda.h's.
class Network {
 public:
  virtual ~Network() = default;
  virtual const EngineInfo& info() const = 0;
  virtual const NetworkShape& shape() const = 0;
  virtual int max_batch() const { return INT_MAX; }

  // Buffers for a batch of images, where the network runs. SEGGD_ENGINE where it cannot run this batch.
  virtual std::unique_ptr<Session> session(int batch) const = 0;
};

// Whether an engine can run on a device here; if not, why, and what to do.
struct Availability {
  bool usable = false;
  std::string version, device_name;
  std::vector<Precision> precisions;  // what it can compute in, its own choice first
  std::string reason;
};

// A graph in memory: the bytes that were verified, and one hash over all its files, graph_digest of bundle.h.
struct GraphFile {
  using Bytes = std::shared_ptr<const std::string>;
  std::string name;  // of the ONNX file
  Bytes model;
  std::map<std::string, Bytes> external;  // by the locations that it names
  std::string digest;
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

  // Why it cannot open a graph of this digest, though it could open others: a plan of it was not built. Else "".
  virtual std::string lacks(const std::string& /*digest*/, const EngineInfo& /*info*/) const { return ""; }

  // Opens a graph on a device where it is available. SEGGD_ENGINE where the graph cannot be read or built.
  virtual std::unique_ptr<Network> open(const GraphFile& graph, const NetworkShape& shape, const EngineInfo& info,
                                        int threads) const = 0;
};

}  // namespace seggd::core
