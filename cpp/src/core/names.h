// The names of choices, as manifests and callers write them.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/labels.h"
#include "core/precision.h"
#include "core/samplers.h"
#include "core/wording.h"

namespace seggd::core {

template <class Kind, size_t N>
struct Names {
  std::string_view what;
  std::array<std::pair<std::string_view, Kind>, N> all;

  std::optional<Kind> find(std::string_view name) const {
    for (const auto& [known, kind] : all)
      if (known == name) return kind;
    return std::nullopt;
  }

  std::string_view name(Kind wanted) const {
    for (const auto& [known, kind] : all)
      if (kind == wanted) return known;
    throw Error(SEGGD_INTERNAL, "a " + std::string(what) + " without a name");
  }

  std::vector<std::string> list() const {
    std::vector<std::string> names;
    for (const auto& entry : all) names.emplace_back(entry.first);
    return names;
  }

  // SEGGD_OPTION where there is none of this name.
  Kind require(const std::string& name) const {
    if (const std::optional<Kind> found = find(name)) return *found;
    throw Error(SEGGD_OPTION, "there is no " + std::string(what) + " '" + name + "': " + hint(name, list()));
  }
};

inline constexpr Names<Sampler, 4> kSamplers{"sampler",
                                             {{{"ddim", Sampler::kDdim},
                                               {"ddpm", Sampler::kDdpm},
                                               {"dpm-solver++", Sampler::kDpmSolver},
                                               {"dpm-solver++-sde", Sampler::kDpmSolverSde}}}};
inline constexpr Names<Spacing, 3> kSpacings{
    "spacing", {{{"leading", Spacing::kLeading}, {"trailing", Spacing::kTrailing}, {"linspace", Spacing::kLinspace}}}};
inline constexpr Names<BetaCurve, 3> kBetaCurves{
    "beta_curve",
    {{{"linear", BetaCurve::kLinear}, {"scaled-linear", BetaCurve::kScaledLinear}, {"cosine", BetaCurve::kCosine}}}};
inline constexpr Names<Prediction, 3> kPredictions{
    "prediction", {{{"epsilon", Prediction::kEpsilon}, {"sample", Prediction::kSample}, {"v", Prediction::kV}}}};
inline constexpr Names<MaskEncoding, 2> kEncodings{
    "encoding", {{{"label-over-255", MaskEncoding::kLabelOver255}, {"one-hot", MaskEncoding::kOneHot}}}};
inline constexpr Names<Precision, 3> kPrecisions{
    "precision", {{{"fp32", Precision::kFp32}, {"fp16", Precision::kFp16}, {"bf16", Precision::kBf16}}}};

}  // namespace seggd::core
