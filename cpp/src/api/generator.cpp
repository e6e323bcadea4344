#include "api/generator.h"

#include <algorithm>

#include "api/request.h"
#include "core/error.h"

namespace seggd::core {
namespace {

constexpr size_t kMaxIdle = 8;  // sessions kept for later calls: each has the buffers of one batch size

// What a callback in C++ throws, which must not cross the C interface, becomes an error.
template <class Call>
int32_t guarded(Call call) {
  try {
    return call();
  } catch (...) {
    throw Error(SEGGD_CALLBACK, "the callback threw a C++ exception, which must not cross a C interface");
  }
}

Warn warnings_of(const seggd_request& told) {
  return [&told](seggd_warning kind, const std::string& message) {
    if (told.on_warning && guarded([&] { return told.on_warning(kind, message.c_str(), told.user); }) != 0)
      throw Error(SEGGD_CANCELLED, "the callback ended the run: " + message);
  };
}

// Tells a callback of the steps, with a preview where one is asked for.
class Progress {
 public:
  Progress(const seggd_request& told, const ImageSpec& image, int batch) : told_(told) {
    if (told.on_step && told.preview_every > 0) preview_.resize(static_cast<size_t>(batch) * image.elements());
  }

  void done(Session& session, const RowTable& table, int index) {
    seggd_step step{sizeof(seggd_step), index, table.steps(),
                    static_cast<int32_t>(table.timesteps[static_cast<size_t>(index)]), nullptr};
    if (!preview_.empty() && (index + 1) % told_.preview_every == 0) {
      session.preview(preview_.data());
      step.preview = preview_.data();
    }
    if (guarded([&] { return told_.on_step(&step, told_.user); }) != 0)
      throw Error(SEGGD_CANCELLED, "the callback ended the run after step " + std::to_string(index + 1) + " of " +
                                       std::to_string(table.steps()));
  }

 private:
  const seggd_request& told_;
  std::vector<float> preview_;
};

}  // namespace

Generator::Generator(std::shared_ptr<const Bundle> bundle, std::unique_ptr<Network> network)
    : bundle_(std::move(bundle)), network_(std::move(network)) {}

void Generator::generate(const seggd_request& request, Pixels out) {
  check_size(bundle_->manifest(), image_count(request), out.size_bytes, out.type, "images");
  draw(prepare(bundle_->manifest(), request, warnings_of(request)), request, out);
}

void Generator::generate_on_device(const seggd_request& request, void* stream, Pixels out) {
  check_size(bundle_->manifest(), image_count(request), out.size_bytes, out.type, "images");
  Run run = prepare(bundle_->manifest(), request, warnings_of(request), true);
  run.stream = stream;
  draw(run, request, out);
}

void Generator::interpolate(const seggd_request& request, const seggd_interpolation& given, Pixels out) {
  const seggd_interpolation how = with_defaults(given);
  const Manifest& manifest = bundle_->manifest();
  const Warn warn = warnings_of(request);
  if (image_count(request) != 1)
    throw Error(SEGGD_OPTION, "interpolation draws from one label map and one real image: count must be 1");
  if (!how.weights) throw Error(SEGGD_ARGUMENT, "weights is NULL but weight_count is not 0: pass both or none");
  if (how.weight_count == 0) throw Error(SEGGD_ARGUMENT, "weight_count is 0: give a weight, or NULL for 0.5");
  for (size_t i = 0; i < how.weight_count; ++i)
    if (!(how.weights[i] >= 0 && how.weights[i] <= 1)) throw Error(SEGGD_OPTION, "each weight must lie in [0, 1]");
  if (how.weight_count > INT32_MAX) throw Error(SEGGD_OPTION, "there are too many weights");
  check_size(manifest, static_cast<int>(how.weight_count), out.size_bytes, out.type, "images");
  const Run run = prepare(manifest, request, warn);
  const std::vector<float> real = read_real(manifest, how.real, how.real_size_bytes, how.real_type);
  Run rest = run;
  const Selection then{how.then_keep, how.then_keep_count, how.then_drop, how.then_drop_count};
  if (then.is_given())
    rest.encoding = encode_table(manifest.mask.encoding, manifest.classes.size(), kept_classes(manifest, then, warn));
  rest.first = entry_step(run.table, manifest.schedule, how.at);

  std::unique_ptr<Session> before = take(1);
  rest.after = before->run_to(run, rest.first);
  rest.label_maps.assign(how.weight_count, run.label_maps.front());
  rest.seeds.assign(how.weight_count, run.seeds.front());
  rest.noise.clear();
  rest.real = real.data();
  for (size_t i = 0; i < how.weight_count; ++i)
    rest.entries.push_back(entry_row(run.table, manifest.schedule, rest.first, how.weights[i]));
  draw(rest, request, out);
  give_back(std::move(before));
}

void Generator::draw(const Run& run, const seggd_request& told, Pixels out) {
  const int count = static_cast<int>(run.seeds.size());
  std::unique_ptr<Session> session = take(count);
  Progress progress(told, bundle_->manifest().image, count);
  OnStep on_step;
  if (told.on_step) on_step = [&](int index) { progress.done(*session, run.table, index); };
  session->run(run, out, on_step);
  give_back(std::move(session));
}

std::unique_ptr<Session> Generator::take(int batch) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(idle_.rbegin(), idle_.rend(),
                                    [batch](const std::unique_ptr<Session>& idle) { return idle->batch() == batch; });
    if (found != idle_.rend()) {
      std::unique_ptr<Session> session = std::move(*found);
      idle_.erase(std::next(found).base());
      return session;
    }
  }
  return network_->session(batch);
}

void Generator::give_back(std::unique_ptr<Session> session) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(session));
  if (idle_.size() > kMaxIdle) idle_.erase(idle_.begin());
}

}  // namespace seggd::core
