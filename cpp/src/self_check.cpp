#include "self_check.h"

#include <algorithm>
#include <cstdio>

#include "error.h"
#include "names.h"

namespace seggd::core {
namespace {

std::string one_digit(const char* form, double number) {
  char text[32];
  std::snprintf(text, sizeof text, form, number);
  return text;
}

EncodeTable whole_table(const Manifest& manifest) {
  return encode_table(manifest.mask.encoding, manifest.classes.size(), foreground(manifest.classes));
}

}  // namespace

void SelfCheck::require_states(Session& session, const EngineInfo& info) const {
  const EncodeTable table = whole_table(manifest_);
  std::vector<float> mask(static_cast<size_t>(table.mask_channels) * golden_.label_map.size());
  table.encode(golden_.label_map.data(), golden_.label_map.size(), mask.data());
  const size_t elements = session.elements();
  double worst = 0;
  for (size_t state = 0; state < golden_.timesteps.size(); ++state) {
    const float* o = session.evaluate(golden_.states.data() + state * elements, mask.data(),
                                      static_cast<float>(golden_.timesteps[state]));
    const auto [l2, largest] = relative_errors(o, golden_.outputs.data() + state * elements, elements);
    worst = std::max({worst, l2, largest});
  }
  const double limit = parity_limit(info.precision);
  if (worst <= limit) return;
  const std::string advice = info.precision == Precision::kFp32 ? "" : "; try precision \"fp32\"";
  throw Error(SEGGD_ENGINE_CHECK, "engine " + info.engine + " " + info.version + " in " +
                                      std::string(kPrecisions.name(info.precision)) + " on " + info.device_name +
                                      " misses the bundle's golden states by " + one_digit("%.1e", worst) + ", over " +
                                      one_digit("%.0e", limit) + ": choose another engine" + advice);
}

std::string SelfCheck::flaw(Session& session, const EngineInfo& info) const {
  try {
    const double psnr_db = image_psnr_db(session);
    if (!(psnr_db >= kImagePsnrDb))
      return "the golden image reaches " + one_digit("%.1f", psnr_db) + " dB of " + shown(kImagePsnrDb);
    require_states(session, info);
  } catch (const Error& error) {  // its outputs miss the golden states, or are not finite
    return error.what();
  }
  return "";
}

double SelfCheck::image_psnr_db(Session& session) const {
  Run run;
  run.table = sampler_rows(Sampler::kDdim, manifest_.schedule, manifest_.check_steps, 0, manifest_.schedule.spacing);
  run.encoding = whole_table(manifest_);
  run.label_maps = {golden_.label_map.data()};
  run.seeds = {0};
  run.noise = {golden_.noise.data()};
  session.start(run);
  for (int step = 0; step < run.table.steps(); ++step) session.step(step);
  session.require_finite();
  std::vector<float> image(session.elements());
  std::transform(session.x(0), session.x(0) + image.size(), image.begin(), pixel_of);
  return psnr_db(image.data(), golden_.image.data(), image.size());
}

}  // namespace seggd::core
