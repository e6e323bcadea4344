#include "engines/tensorrt.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "core/names.h"
#include "engines/devices.h"

namespace seggd::core {
namespace {

constexpr std::pair kOldestGpu{7, 5}, kOldestBf16Gpu{8, 0};

struct TypeNames {
  Precision precision;
  const char *one, *other;
};

// How TensorRT's inspector names data types, in its releases from 10 to 11.
constexpr TypeNames kTypeNames[] = {
    {Precision::kFp32, "FP32", "Float"}, {Precision::kFp16, "FP16", "Half"}, {Precision::kBf16, "BF16", "BFloat16"}};

bool is_part_of_a_word(char letter) { return std::isalnum(static_cast<unsigned char>(letter)) || letter == '_'; }

int count(const std::string& text, const std::string& word) {
  int found = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool whole =
        (at == 0 || !is_part_of_a_word(text[at - 1])) && (end == text.size() || !is_part_of_a_word(text[end]));
    found += whole;
  }
  return found;
}

}  // namespace

void check_inspected(const std::string& report, Precision precision) {
  // An engine in half precision has float32 too, in its inputs, its output and its islands.
  bool named = false, wanted = false, strange = false;
  std::vector<std::string> said;
  for (const TypeNames& words : kTypeNames) {
    const int times = count(report, words.one) + count(report, words.other);
    if (times == 0) continue;
    named = true;
    wanted = wanted || words.precision == precision;
    strange = strange || (words.precision != precision && words.precision != Precision::kFp32);
    said.push_back(std::string(kPrecisions.name(words.precision)) + " " + std::to_string(times) + " times");
  }
  if (named && (!wanted || strange))
    throw Error(SEGGD_ENGINE, "the plan was built for " + std::string(kPrecisions.name(precision)) +
                                  ", but its inspector names " + joined(said) +
                                  ": empty the cache (seggd-rt cache clear) and report it");
}

TensorRtNetwork::TensorRtNetwork(std::unique_ptr<TensorRtPlan> plan, const std::string& name, const NetworkShape& shape,
                                 EngineInfo info, MakeStream make_stream)
    : CudaNetwork(std::move(make_stream)), plan_(std::move(plan)), shape_(shape), info_(std::move(info)) {
  check_signature(plan_->ports(), shape_, name);
  check_inspected(plan_->report(), info_.precision);
  batches_ = plan_->batches();
}

std::unique_ptr<Session> TensorRtNetwork::session(int batch) const {
  const auto [least, most] = batches_;
  if (batch < least || batch > most)
    throw Error(SEGGD_ENGINE, "the TensorRT plan runs batches of " + std::to_string(least) + " to " +
                                  std::to_string(most) + ", not " + std::to_string(batch) +
                                  ": seggd-rt build BUNDLE --engine tensorrt --precision " +
                                  std::string(kPrecisions.name(info_.precision)) + " --batch " +
                                  std::to_string(std::min(least, batch)) + ":" + std::to_string(batch) + ":" +
                                  std::to_string(std::max(most, batch)));
  return CudaNetwork::session(batch);
}

std::function<void()> TensorRtNetwork::bind(const Buffers& buffers, DeviceStream& stream) const {
  const std::shared_ptr<TensorRtContext> context =
      plan_->context(buffers, shape_, [&stream](size_t size) { return stream.allocate(std::max<size_t>(size, 1)); });
  return [context, handle = stream.handle()] { context->enqueue(handle); };
}

Availability TensorRtEngine::availability(const std::string& device) const {
  try {
    if (device == "cpu") throw Error(SEGGD_ENGINE_UNAVAILABLE, "this engine runs on a GPU, not on cpu");
    return availability_on(find_gpu(device));
  } catch (const Error& error) {
    return {false, "", "", {}, error.what()};
  }
}

Availability TensorRtEngine::availability_on(const Gpu& gpu) const {
  const std::string version = load_().version();
  if (gpu.capability < kOldestGpu)
    throw Error(SEGGD_ENGINE_UNAVAILABLE, "TensorRT " + version +
                                              " runs on compute capability 7.5 and newer, and the " + gpu.name +
                                              " has " + gpu.capability_text() + ": choose another engine");
  std::vector<Precision> precisions{Precision::kFp16, Precision::kFp32};
  if (gpu.capability >= kOldestBf16Gpu) precisions.push_back(Precision::kBf16);
  return {true, version, gpu.name, precisions, ""};
}

std::optional<StoredPlan> TensorRtEngine::plan(const std::string& digest, const EngineInfo& info, const Gpu& gpu,
                                               std::vector<std::string>& notes) const {
  const auto why_not = [&](const PlanKey& key) -> std::string {
    if (key.flavour != name_) return "is of " + key.flavour;
    if (key.graph_sha256 != digest) return "is of another graph";
    if (key.precision != info.precision) return "computes in " + std::string(kPrecisions.name(key.precision));
    if (!key.runs(info.version, gpu)) return "was built for another GPU, system or TensorRT than " + info.version;
    // They are put in from the graph by TensorRT's parser, which is not loaded here.
    if (key.strip_weights) return "has no weights: build it without --strip-weights";
    return "";
  };
  if (named_.empty())
    return find_plan(
        folder_, [&](const PlanKey& key) { return why_not(key).empty(); }, notes);
  StoredPlan found = named_plan(std::filesystem::u8path(named_));
  const std::string reason = why_not(found.record.key);
  if (reason.empty()) return found;
  notes.push_back("the plan " + named_ + " " + reason);
  return std::nullopt;
}

std::string TensorRtEngine::lacks(const std::string& digest, const EngineInfo& info) const {
  std::vector<std::string> notes;
  if (plan(digest, info, find_gpu(info.device), notes)) return "";
  notes.insert(notes.begin(), "there is no plan of this graph in " + std::string(kPrecisions.name(info.precision)) +
                                  " for " + info.device_name + " and TensorRT " + info.version +
                                  ": run seggd-rt build BUNDLE --engine tensorrt as this user, or name a plan in the "
                                  "option tensorrt_plan");
  return joined(notes, "; ");
}

std::unique_ptr<Network> TensorRtEngine::open(const GraphFile& graph, const NetworkShape& shape, const EngineInfo& info,
                                              int) const {
  std::vector<std::string> notes;
  const std::optional<StoredPlan> found = plan(graph.digest, info, find_gpu(info.device), notes);
  if (!found) throw Error(SEGGD_ENGINE_UNAVAILABLE, lacks(graph.digest, info));
  return open_plan(*found, shape, info);
}

std::unique_ptr<Network> TensorRtEngine::open_plan(const StoredPlan& plan, const NetworkShape& shape,
                                                   const EngineInfo& info) const {
  // TensorRT takes the GPU that is current for the plan's own.
  const std::unique_ptr<DeviceStream> stream = make_stream_(ordinal(info.device));
  const Active active(*stream);
  return std::make_unique<TensorRtNetwork>(load_().load(plan.data, plan.record.key.version_compatible),
                                           plan.path.filename().u8string(), shape, info, make_stream_);
}

}  // namespace seggd::core
