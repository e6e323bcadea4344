#include "generator.h"

#include <algorithm>

#include "error.h"
#include "request.h"

namespace seggd::core {
namespace {

constexpr size_t kMaxIdle = 8;  // sessions kept for later calls: each has the buffers of one batch size

// Tells a callback of the steps, with a preview where one is asked for.
class Progress {
 public:
  Progress(const seggd_request& told, const ImageSpec& image, int batch) : told_(told), image_(image) {
    if (told.on_step && told.preview_every > 0) preview_.resize(static_cast<size_t>(batch) * image.elements());
  }

  void done(const Session& session, const RowTable& table, int index) {
    if (!told_.on_step) return;
    seggd_step step{sizeof(seggd_step), index, table.steps(),
                    static_cast<int32_t>(table.timesteps[static_cast<size_t>(index)]), nullptr};
    if (!preview_.empty() && (index + 1) % told_.preview_every == 0) step.preview = look(session);
    if (call(step) != 0)
      throw Error(SEGGD_CANCELLED, "the callback ended the run after step " + std::to_string(index + 1) + " of " +
                                       std::to_string(table.steps()));
  }

 private:
  int32_t call(const seggd_step& step) {
    try {
      return told_.on_step(&step, told_.user);
    } catch (...) {  // a callback in C++ that does not keep its exceptions to itself
      throw Error(SEGGD_CALLBACK, "the callback threw a C++ exception, which must not cross a C interface");
    }
  }

  const float* look(const Session& session) {
    for (int i = 0; i < session.batch(); ++i)
      write_pixels(session.x0(i), static_cast<size_t>(image_.channels), image_.pixels(),
                   preview_.data() + static_cast<size_t>(i) * image_.elements());
    return preview_.data();
  }

  const seggd_request& told_;
  const ImageSpec& image_;
  std::vector<float> preview_;
};

}  // namespace

Generator::Generator(std::shared_ptr<const Bundle> bundle, std::unique_ptr<Network> network)
    : bundle_(std::move(bundle)), network_(std::move(network)) {}

void Generator::generate(const seggd_request& request, Pixels out) {
  const int count = image_count(request);
  check_size(bundle_->manifest(), count, out.size_bytes, out.type, "images");
  const Run run = prepare(bundle_->manifest(), request);
  std::unique_ptr<Session> session = take(count);
  session->start(run);
  draw(*session, run, request, out);
  give_back(std::move(session));
}

void Generator::interpolate(const seggd_request& request, const seggd_interpolation& how, Pixels out) {
  const Manifest& manifest = bundle_->manifest();
  if (image_count(request) != 1)
    throw Error(SEGGD_OPTION, "interpolation draws from one label map and one real image: count must be 1");
  if (!how.weights || how.weight_count == 0)
    throw Error(SEGGD_ARGUMENT, "weights is a null pointer, or there are none");
  for (size_t i = 0; i < how.weight_count; ++i)
    if (!(how.weights[i] >= 0 && how.weights[i] <= 1)) throw Error(SEGGD_OPTION, "each weight must lie in [0, 1]");
  if (how.weight_count > INT32_MAX) throw Error(SEGGD_OPTION, "there are too many weights");
  const int count = static_cast<int>(how.weight_count);
  check_size(manifest, count, out.size_bytes, out.type, "images");
  const Run run = prepare(manifest, request);
  const std::vector<float> real = read_real(manifest, how.real, how.real_size_bytes, how.real_type);
  Run rest = run;
  if (how.then_keep || how.then_drop || how.then_keep_count > 0 || how.then_drop_count > 0)
    rest.encoding = kept_table(manifest, how.then_keep, how.then_keep_count, how.then_drop, how.then_drop_count);
  rest.first = entry_step(run.table, manifest.schedule, how.at);

  std::unique_ptr<Session> before = take(1);
  before->start(run);
  for (int index = 0; index < rest.first; ++index) before->step(index);
  const std::vector<float> x(before->x(0), before->x(0) + before->elements());
  const std::vector<float> x0(before->x0(0), before->x0(0) + before->elements());
  give_back(std::move(before));

  rest.label_maps.assign(how.weight_count, run.label_maps.front());
  rest.seeds.assign(how.weight_count, run.seeds.front());
  rest.noise.assign(how.weight_count, x.data());
  rest.last_x0 = x0.data(), rest.real = real.data();
  for (size_t i = 0; i < how.weight_count; ++i)
    rest.entries.push_back(entry_row(run.table, manifest.schedule, rest.first, how.weights[i]));
  std::unique_ptr<Session> after = take(count);
  after->start(rest);
  draw(*after, rest, request, out);
  give_back(std::move(after));
}

void Generator::draw(Session& session, const Run& run, const seggd_request& told, Pixels out) const {
  const ImageSpec& image = bundle_->manifest().image;
  Progress progress(told, image, session.batch());
  for (int index = run.first; index < run.table.steps(); ++index) {
    session.step(index);
    progress.done(session, run.table, index);
  }
  session.require_finite();
  for (int i = 0; i < session.batch(); ++i) {
    const size_t channels = static_cast<size_t>(image.channels), first = static_cast<size_t>(i) * image.elements();
    if (out.type == SEGGD_UINT8) {
      write_pixels(session.x(i), channels, image.pixels(), static_cast<Byte*>(out.data) + first);
    } else {
      write_pixels(session.x(i), channels, image.pixels(), static_cast<float*>(out.data) + first);
    }
  }
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
  return std::make_unique<Session>(*network_, batch);
}

void Generator::give_back(std::unique_ptr<Session> session) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(session));
  if (idle_.size() > kMaxIdle) idle_.erase(idle_.begin());
}

}  // namespace seggd::core
