#include "engines/self_check.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"
#include "core/names.h"

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

std::vector<float> SelfCheck::mask() const {
  const EncodeTable table = whole_table(manifest_);
  std::vector<float> mask(static_cast<size_t>(table.mask_channels) * golden_.label_map.size());
  table.encode(golden_.label_map.data(), golden_.label_map.size(), mask.data());
  return mask;
}

void SelfCheck::require_states(Session& session, const EngineInfo& info) const {
  const std::vector<float> whole = mask();
  const size_t elements = manifest_.image.elements();
  double worst = 0;
  for (size_t state = 0; state < golden_.timesteps.size(); ++state) {
    const std::vector<float> o = session.evaluate(golden_.states.data() + state * elements, whole.data(),
                                                  static_cast<float>(golden_.timesteps[state]));
    const auto [l2, largest] = relative_errors(o.data(), golden_.outputs.data() + state * elements, elements);
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

void SelfCheck::require_equal_rows(Session& pair, const EngineInfo& info) const {
  std::vector<float> twice = mask();
  const std::vector<float> once = twice;
  twice.insert(twice.end(), once.begin(), once.end());
  const size_t elements = manifest_.image.elements();
  double worst = 0;
  for (size_t state = 0; state < golden_.timesteps.size(); ++state) {
    const float* x = golden_.states.data() + state * elements;
    std::vector<float> both(x, x + elements);
    both.insert(both.end(), x, x + elements);
    const std::vector<float> o = pair.evaluate(both.data(), twice.data(), static_cast<float>(golden_.timesteps[state]));
    worst = std::max(worst, relative_errors(o.data() + elements, o.data(), elements).second);
  }
  const double limit = row_limit(info.precision);
  if (worst <= limit) return;
  throw Error(SEGGD_ENGINE_CHECK,
              "engine " + info.engine + " " + info.version + " in " + std::string(kPrecisions.name(info.precision)) +
                  " on " + info.device_name + " gives two equal images of a batch outputs that differ by " +
                  one_digit("%.1e", worst) + ", over " + one_digit("%.0e", limit) + ": choose another engine");
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
  const size_t channels = static_cast<size_t>(manifest_.image.channels), pixels = manifest_.image.pixels();
  std::vector<float> image(manifest_.image.elements()), golden(image.size());
  session.run(run, {image.data(), image.size() * sizeof(float), SEGGD_FLOAT32}, {});
  for (size_t i = 0; i < golden.size(); ++i) golden[i % pixels * channels + i / pixels] = golden_.image[i];
  return psnr_db(image.data(), golden.data(), image.size());
}

}  // namespace seggd::core
