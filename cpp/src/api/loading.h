// From a bundle to a network: which engine, on which device, in which precision; nothing unchecked:
// seggd_rt/inference/loading.py.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle/bundle.h"
#include "core/network.h"
#include "engines/catalog.h"

namespace seggd::core {

struct LoadOptions {
  std::string engine = "auto", precision = "auto", device = "auto";
  int threads = 0;
  Libraries libraries;
};

struct EngineState {
  std::string name, device;
  Availability there;
};

// Every engine in the order of "auto", on the device it would be given.
std::vector<EngineState> list_engines(const LoadOptions& options);

// SEGGD_OPTION where a name is unknown; SEGGD_ENGINE_UNAVAILABLE where no engine can run here as asked;
// SEGGD_ENGINE_CHECK where its outputs miss the golden states; and what is wrong with the bundle.
std::unique_ptr<Network> load(const Bundle& bundle, const LoadOptions& options);

// The same, of these engines.
std::unique_ptr<Network> load(const Bundle& bundle, const LoadOptions& options,
                              const std::vector<std::unique_ptr<Engine>>& all);

}  // namespace seggd::core
