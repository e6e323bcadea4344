#include "bundle/meaning.h"

#include "core/names.h"

namespace seggd::core {
namespace {

template <typename Value>
Json or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json classes_json(const std::vector<LabelClass>& classes) {
  Json all = Json::array();
  for (const LabelClass& one : classes) all.push_back({{"id", one.id}, {"name", one.name}, {"color", one.color}});
  return all;
}

Json schedule_json(const NoiseSchedule& schedule) {
  return {{"train_steps", schedule.train_steps},
          {"beta_curve", kBetaCurves.name(schedule.beta_curve)},
          {"beta_start", schedule.beta_start},
          {"beta_end", schedule.beta_end},
          {"prediction", kPredictions.name(schedule.prediction)},
          {"spacing", kSpacings.name(schedule.spacing)},
          {"steps_offset", schedule.steps_offset},
          {"clip_x0", or_null(schedule.clip_x0)},
          {"zero_terminal_snr", schedule.zero_terminal_snr},
          {"final_alpha_bar_one", schedule.final_alpha_bar_one}};
}

}  // namespace

Json meaning(const Manifest& manifest) {
  const auto& range = manifest.intensity_range;
  return {{"image",
           {{"channels", manifest.image.channels}, {"height", manifest.image.height}, {"width", manifest.image.width}}},
          {"classes", classes_json(manifest.classes)},
          {"mask",
           {{"encoding", kEncodings.name(manifest.mask.encoding)},
            {"trained_with_ablation", or_null(manifest.mask.trained_with_ablation)},
            {"trained_with_empty_mask", or_null(manifest.mask.trained_with_empty_mask)}}},
          {"schedule", schedule_json(manifest.schedule)},
          {"defaults", {{"sampler", kSamplers.name(manifest.defaults.sampler)}, {"steps", manifest.defaults.steps}}},
          {"check_steps", manifest.check_steps},
          {"intensity_range", range ? Json::array({range->first, range->second}) : Json(nullptr)}};
}

}  // namespace seggd::core
