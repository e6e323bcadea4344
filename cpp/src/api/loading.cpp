#include "api/loading.h"

#include <algorithm>
#include <thread>

#include "core/error.h"
#include "core/names.h"
#include "core/session.h"
#include "engines/devices.h"
#include "engines/self_check.h"

namespace seggd::core {
namespace {

constexpr const char* kAuto = "auto";
constexpr const char* kFirstGpu = "cuda:0";

// Devices that may be used, the best first.
std::vector<std::string> devices(const std::string& device) {
  if (device == kAuto)
    return gpus().empty() ? std::vector<std::string>{"cpu"} : std::vector<std::string>{kFirstGpu, "cpu"};
  if (device == "cpu") return {device};
  if (device == "cuda") return {kFirstGpu};
  const std::string prefix = "cuda:";
  const bool numbered = device.compare(0, prefix.size(), prefix) == 0 && device.size() > prefix.size() &&
                        device.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
  if (!numbered)
    throw Error(SEGGD_OPTION, "there is no device '" + device + "': there are cpu, cuda:0 (and so on) and auto");
  return {device};
}

// 0 is the engine's own choice.
void check_threads(int threads) {
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());  // which is 0 where it is not known
  if (threads >= 0 && static_cast<unsigned>(threads) <= cores) return;
  throw Error(SEGGD_OPTION, "threads is " + std::to_string(threads) + ": this machine has " + std::to_string(cores) +
                                (cores == 1 ? " core" : " cores") + "; give 1 to " + std::to_string(cores));
}

bool is_place_of(const Engine& engine, const std::string& device) { return engine.on_gpu() == (device != "cpu"); }

// Where an engine that was chosen by name runs; where it cannot, it says why.
std::string place(const Engine& engine, const std::string& device) {
  for (const std::string& one : devices(device))
    if (is_place_of(engine, one)) return one;
  return device == kAuto ? kFirstGpu : devices(device).front();
}

// Why an engine is passed over, or "".
std::string unfit(const Availability& there, std::optional<Precision> precision) {
  if (!there.usable) return there.reason;
  if (!precision || std::count(there.precisions.begin(), there.precisions.end(), *precision)) return "";
  std::vector<std::string> names;
  for (const Precision one : there.precisions) names.emplace_back(kPrecisions.name(one));
  return "it computes in " + joined(names) + " here, not in " + std::string(kPrecisions.name(*precision));
}

EngineInfo info_of(const Engine& engine, const Availability& there, const std::string& device, Precision precision) {
  return {engine.name(), there.version, device, there.device_name, precision, ""};
}

// The precisions to try in turn: the one asked for, or the engine's own that the bundle has graphs for.
std::vector<Precision> candidates(const Bundle& bundle, const Engine& engine, const Availability& there,
                                  std::optional<Precision> precision) {
  if (precision) return {*precision};
  std::vector<Precision> own;
  for (const Precision choice : there.precisions)
    for (const Graph& graph : bundle.manifest().graphs)
      if (graph.precision == engine.graph_precision(choice)) own.push_back(choice);
  if (own.empty()) own.push_back(there.precisions.front());  // its graph is missing, which an error will say
  return own;
}

std::string lacks(const Bundle& bundle, const Engine& engine, const EngineInfo& info) {
  return engine.lacks(graph_digest(bundle.graph(engine.graph_precision(info.precision))), info);
}

// Why "auto" passes over an engine that can run here: it lacks what this bundle needs, in every precision. Else "".
std::string unready(const Bundle& bundle, const Engine& engine, const Availability& there,
                    std::optional<Precision> precision, const std::string& device) {
  std::vector<std::string> reasons;
  for (const Precision candidate : candidates(bundle, engine, there, precision)) {
    const std::string reason = lacks(bundle, engine, info_of(engine, there, device, candidate));
    if (reason.empty()) return "";
    reasons.push_back(reason);
  }
  return joined(reasons, "; ");
}

std::unique_ptr<Network> open_network(const Bundle& bundle, const Engine& engine, const EngineInfo& info, int threads) {
  const Manifest& manifest = bundle.manifest();
  const Graph& graph = bundle.graph(engine.graph_precision(info.precision));
  const ImageSpec& image = manifest.image;
  const NetworkShape shape{image.channels, manifest.mask_channels(), image.height, image.width};
  return engine.open(bundle.graph_file(graph), shape, info, threads);
}

// Opens a bundle with one engine, in one precision or in its own choice of them.
std::unique_ptr<Network> open(const Bundle& bundle, const Engine& engine, const Availability& there,
                              std::optional<Precision> precision, const std::string& device, int threads,
                              std::vector<std::string> notes) {
  const Golden golden = bundle.golden();
  const SelfCheck check(bundle.manifest(), golden);
  for (const Precision candidate : candidates(bundle, engine, there, precision)) {
    EngineInfo info = info_of(engine, there, device, candidate);
    info.notes = joined(notes, "; ");
    std::string flaw = lacks(bundle, engine, info);
    if (flaw.empty()) {
      std::unique_ptr<Network> network = open_network(bundle, engine, info, threads);
      const std::unique_ptr<Session> session = network->session(1);
      if (precision || candidate == Precision::kFp32) {
        check.require_states(*session, info);
      } else {
        flaw = check.flaw(*session, info);
      }
      if (flaw.empty() && engine.on_gpu() && network->max_batch() > 1)
        check.require_equal_rows(*network->session(2), info);
      if (flaw.empty()) return network;
    }
    notes.push_back(engine.name() + " in " + std::string(kPrecisions.name(candidate)) + ": " + flaw);
  }
  throw Error(SEGGD_ENGINE_UNAVAILABLE,
              "engine " + engine.name() + " can use none of its precisions: " + joined(notes, "; "));
}

}  // namespace

std::vector<EngineState> list_engines(const LoadOptions& options) {
  std::vector<EngineState> all;
  for (const auto& engine : engines(options.libraries)) {
    const std::string device = place(*engine, options.device);
    all.push_back({engine->name(), device, engine->availability(device)});
  }
  return all;
}

std::unique_ptr<Network> load(const Bundle& bundle, const LoadOptions& options) {
  return load(bundle, options, engines(options.libraries));
}

std::unique_ptr<Network> load(const Bundle& bundle, const LoadOptions& options,
                              const std::vector<std::unique_ptr<Engine>>& all) {
  const std::vector<std::string> places = devices(options.device);
  check_threads(options.threads);
  std::optional<Precision> precision;
  if (options.precision != kAuto) precision = kPrecisions.require(options.precision);
  if (options.engine != kAuto) {
    std::vector<std::string> names;
    for (const auto& engine : all) {
      names.push_back(engine->name());
      if (engine->name() != options.engine) continue;
      const std::string device = place(*engine, options.device);
      const Availability there = engine->availability(device);
      const std::string reason = unfit(there, precision);
      if (!reason.empty()) throw Error(SEGGD_ENGINE_UNAVAILABLE, "engine " + engine->name() + ": " + reason);
      return open(bundle, *engine, there, precision, device, options.threads, {});
    }
    throw Error(SEGGD_OPTION, "there is no engine '" + options.engine + "': " + hint(options.engine, names));
  }
  std::vector<std::string> passed_over;
  for (const std::string& device : places) {
    for (const auto& engine : all) {
      if (!is_place_of(*engine, device)) continue;
      const Availability there = engine->availability(device);
      std::string reason = unfit(there, precision);
      if (reason.empty()) reason = unready(bundle, *engine, there, precision, device);
      if (reason.empty()) return open(bundle, *engine, there, precision, device, options.threads, passed_over);
      passed_over.push_back(engine->name() + ": " + reason);
    }
  }
  throw Error(SEGGD_ENGINE_UNAVAILABLE,
              "no engine can run on " + joined(places, " or ") + ": " + joined(passed_over, "; "));
}

}  // namespace seggd::core
