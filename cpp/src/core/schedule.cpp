#include "core/schedule.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "core/wording.h"

namespace seggd::core {
namespace {

constexpr double kPi = 3.141592653589793;
// Below it x0 = x / sqrt(alpha_bar) has no meaning in float32; the cosine curve of 1000 steps ends at 2e-9.
constexpr double kLeastAlphaBar = 1e-12;
constexpr int kMostTrainSteps = 100'000;

std::vector<double> cumulated(const std::vector<double>& betas) {
  std::vector<double> alpha_bar(betas.size());
  double product = 1;
  for (size_t t = 0; t < betas.size(); ++t) alpha_bar[t] = product *= 1.0 - betas[t];
  return alpha_bar;
}

// Shifts and scales sqrt(alpha_bar) so that it keeps its first value and ends at 0.
std::vector<double> zero_terminal_snr(const std::vector<double>& betas) {
  std::vector<double> root = cumulated(betas);
  for (double& value : root) value = std::sqrt(value);
  const double first = root.front(), last = root.back();
  std::vector<double> changed(betas.size());
  double before = 1;
  for (size_t t = 0; t < betas.size(); ++t) {
    const double moved = (root[t] - last) * first / (first - last);
    const double alpha_bar = moved * moved;
    changed[t] = 1.0 - (t == 0 ? alpha_bar : alpha_bar / before);
    before = alpha_bar;
  }
  return changed;
}

}  // namespace

std::vector<double> linspace(double start, double stop, int count) {
  std::vector<double> values(static_cast<size_t>(count), start);
  const int gaps = count - 1;
  if (gaps < 1) return values;
  const double step = (stop - start) / gaps;
  for (int i = 0; i < count; ++i) values[static_cast<size_t>(i)] = i * step + start;
  values.back() = stop;
  return values;
}

void NoiseSchedule::check() const {
  const auto require = [](bool holds, const std::string& message) {
    if (!holds) throw Invalid(message);
  };
  require(train_steps >= 1 && train_steps <= kMostTrainSteps,
          "train_steps is " + std::to_string(train_steps) + "; it must lie in [1, 100000]");
  require(
      0 < beta_start && beta_start <= beta_end && beta_end < 1,
      "beta_start " + shown(beta_start) + " and beta_end " + shown(beta_end) + " must satisfy 0 < start <= end < 1");
  require(
      steps_offset >= 0 && steps_offset < train_steps,
      "steps_offset is " + std::to_string(steps_offset) + "; it must lie in [0, " + std::to_string(train_steps) + ")");
  require(!clip_x0 || (*clip_x0 > 0 && std::isfinite(*clip_x0)),
          "clip_x0 must be positive and finite, or null for no clip");
  require(!zero_terminal_snr || prediction != Prediction::kEpsilon,
          "zero_terminal_snr needs v or sample prediction: epsilon says nothing at SNR 0");
  require(!zero_terminal_snr || train_steps >= 2, "zero_terminal_snr needs at least 2 train_steps");
  require(zero_terminal_snr || alpha_bar().back() >= kLeastAlphaBar,
          "beta_start " + shown(beta_start) + " and beta_end " + shown(beta_end) + " leave no signal after " +
              std::to_string(train_steps) + " train_steps: alpha_bar must stay above " + shown(kLeastAlphaBar));
}

std::vector<double> NoiseSchedule::betas() const {
  std::vector<double> betas;
  if (beta_curve == BetaCurve::kLinear) {
    betas = linspace(beta_start, beta_end, train_steps);
  } else if (beta_curve == BetaCurve::kScaledLinear) {
    betas = linspace(std::sqrt(beta_start), std::sqrt(beta_end), train_steps);
    for (double& beta : betas) beta = beta * beta;
  } else {
    const auto edge = [this](int t) {
      const double cosine = std::cos((static_cast<double>(t) / train_steps + 0.008) / 1.008 * kPi / 2);
      return cosine * cosine;
    };
    for (int t = 0; t < train_steps; ++t) betas.push_back(std::min(1 - edge(t + 1) / edge(t), 0.999));
  }
  return zero_terminal_snr ? core::zero_terminal_snr(betas) : betas;
}

std::vector<double> NoiseSchedule::alpha_bar() const { return cumulated(betas()); }

double NoiseSchedule::final_alpha_bar() const { return final_alpha_bar_one ? 1.0 : alpha_bar().front(); }

std::vector<int64_t> NoiseSchedule::timesteps(int steps, Spacing spread) const {
  if (steps < 1 || steps > train_steps)
    throw Error(SEGGD_OPTION, "steps is " + std::to_string(steps) + "; it must lie in [1, " +
                                  std::to_string(train_steps) + "], the training steps of this model");
  std::vector<int64_t> times(static_cast<size_t>(steps));
  const std::vector<double> even = linspace(0, train_steps - 1, steps);
  for (int i = 0; i < steps; ++i) {
    int64_t time = 0;
    // rint: ties to even, as NumPy rounds.
    switch (spread) {
      case Spacing::kLeading:
        time = static_cast<int64_t>(steps - 1 - i) * (train_steps / steps) + steps_offset;
        break;
      case Spacing::kTrailing:
        time = static_cast<int64_t>(std::rint(train_steps - i * (static_cast<double>(train_steps) / steps))) - 1;
        break;
      case Spacing::kLinspace:
        time = static_cast<int64_t>(std::rint(even[static_cast<size_t>(steps - 1 - i)]));
        break;
    }
    times[static_cast<size_t>(i)] = std::clamp<int64_t>(time, 0, train_steps - 1);
  }
  return times;
}

}  // namespace seggd::core
