#include "core/samplers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/wording.h"

namespace seggd::core {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// What DPM-Solver++ takes for an alpha_bar of 0, whose logarithm it needs.
constexpr double kLeastAlphaBar = 1.0 / (1 << 24);

// A row in float64: no clip, every coefficient 0.
struct Row {
  double kx = 0, ko = 0, clip = kInfinity, cx = 0, co = 0, c0 = 0, cp = 0, sigma = 0;

  UpdateRow stored() const {
    const auto f = [](double value) { return static_cast<float>(value); };
    return {f(kx), f(ko), f(clip), f(cx), f(co), f(c0), f(cp), f(sigma), 0, 0, 0, 0};
  }
};

// eps = ex x + eo o.
struct Direction {
  double ex, eo;
};

// Sets what estimates x0 and clips it.
Direction estimate(const NoiseSchedule& schedule, double a, Row& row) {
  const double signal = std::sqrt(a), noise = std::sqrt(1 - a);
  if (schedule.clip_x0) row.clip = *schedule.clip_x0;
  switch (schedule.prediction) {
    case Prediction::kEpsilon:
      row.kx = 1 / signal, row.ko = -noise / signal;
      return {0, 1};
    case Prediction::kSample:
      row.kx = 0, row.ko = 1;
      return {1 / noise, -signal / noise};
    case Prediction::kV:
      break;
  }
  row.kx = signal, row.ko = -noise;
  return {noise, signal};
}

RowTable ddim(const NoiseSchedule& schedule, int steps, Spacing spacing, double eta) {
  RowTable table{schedule.timesteps(steps, spacing), {}};
  const std::vector<double> alpha_bar = schedule.alpha_bar();
  for (const int64_t t : table.timesteps) {
    const double a = alpha_bar[static_cast<size_t>(t)];
    // Each step lands T // steps lower, also where a spacing is not that even: what diffusers' DDIM does.
    const int64_t landing = t - schedule.train_steps / steps;
    const double a_next = landing >= 0 ? alpha_bar[static_cast<size_t>(landing)] : schedule.final_alpha_bar();
    Row row;
    const Direction eps = estimate(schedule, a, row);
    row.sigma = eta * std::sqrt(std::max((1 - a_next) / (1 - a) * (1 - a / a_next), 0.0));
    // eps is that of the unclipped x0, as in the reference.
    const double direction = std::sqrt(std::max(1 - a_next - row.sigma * row.sigma, 0.0));
    row.cx = direction * eps.ex, row.co = direction * eps.eo;
    row.c0 = std::sqrt(a_next);
    table.rows.push_back(row.stored());
  }
  return table;
}

RowTable ddpm(const NoiseSchedule& schedule, int steps, Spacing spacing) {
  RowTable table{schedule.timesteps(steps, spacing), {}};
  const std::vector<double> alpha_bar = schedule.alpha_bar();
  for (size_t i = 0; i < table.timesteps.size(); ++i) {
    const double a = alpha_bar[static_cast<size_t>(table.timesteps[i])];
    // Each step lands on the next one's timestep, the last on the image.
    const bool last = i + 1 == table.timesteps.size();
    const double a_next = last ? 1.0 : alpha_bar[static_cast<size_t>(table.timesteps[i + 1])];
    const double alpha = a / a_next, beta = 1 - alpha;
    Row row;
    estimate(schedule, a, row);
    row.cx = std::sqrt(alpha) * (1 - a_next) / (1 - a);
    row.c0 = std::sqrt(a_next) * beta / (1 - a);
    row.sigma = std::sqrt((1 - a_next) / (1 - a) * beta);
    table.rows.push_back(row.stored());
  }
  return table;
}

// Timesteps that leave room for the landing on the image: one more is spread, and the last left out.
std::vector<int64_t> dpm_timesteps(const NoiseSchedule& schedule, int steps, Spacing spacing) {
  if (spacing == Spacing::kTrailing) return schedule.timesteps(steps, spacing);
  const int total = schedule.train_steps;
  schedule.timesteps(steps, spacing);  // refuses a number of steps outside the range
  const std::vector<double> even = linspace(0, total - 1, steps + 1);
  std::vector<int64_t> times;
  for (int i = steps; i > 0; --i) {
    const int64_t time = spacing == Spacing::kLeading
                             ? static_cast<int64_t>(i) * (total / (steps + 1)) + schedule.steps_offset
                             : static_cast<int64_t>(std::rint(even[static_cast<size_t>(i)]));
    times.push_back(std::clamp<int64_t>(time, 0, total - 1));
  }
  return times;
}

RowTable dpm_solver(const NoiseSchedule& schedule, int steps, Spacing spacing, bool adds_noise) {
  RowTable table{dpm_timesteps(schedule, steps, spacing), {}};
  const std::vector<double> alpha_bar = schedule.alpha_bar();
  const size_t count = table.timesteps.size();
  std::vector<double> a, alpha, sigma, half_snr;
  for (const int64_t t : table.timesteps) {
    a.push_back(std::max(alpha_bar[static_cast<size_t>(t)], kLeastAlphaBar));
    alpha.push_back(std::sqrt(a.back()));
    sigma.push_back(std::sqrt(1 - a.back()));
    half_snr.push_back(std::log(alpha.back() / sigma.back()));
  }
  alpha.push_back(1.0), sigma.push_back(0.0);  // the last step lands on the image
  double h_last = 0;
  for (size_t i = 0; i < count; ++i) {
    const double h = i + 1 < count ? half_snr[i + 1] - half_snr[i] : kInfinity;
    const double decay = std::exp(-h), ratio = sigma[i + 1] / sigma[i];
    Row row;
    estimate(schedule, a[i], row);
    double gain;
    if (adds_noise) {
      row.cx = ratio * decay, gain = alpha[i + 1] * (1 - decay * decay);
      row.sigma = sigma[i + 1] * std::sqrt(1 - decay * decay);
    } else {
      row.cx = ratio, gain = alpha[i + 1] * (1 - decay);
    }
    // Second order between the first step and the last: x0 + (x0 - x0_last) h / (2 h_last).
    const double second = i > 0 && i + 1 < count ? h / (2 * h_last) : 0;
    row.c0 = gain * (1 + second), row.cp = -gain * second;
    h_last = h;
    table.rows.push_back(row.stored());
  }
  return table;
}

}  // namespace

bool RowTable::draws_noise() const {
  return std::any_of(rows.begin(), rows.end(), [](const UpdateRow& row) { return row.sigma != 0; });
}

int usual_steps(Sampler sampler, const NoiseSchedule& schedule) {
  const int steps = sampler == Sampler::kDdim ? 50 : sampler == Sampler::kDdpm ? 250 : 25;
  return std::min(steps, schedule.train_steps);
}

RowTable sampler_rows(Sampler sampler, const NoiseSchedule& schedule, int steps, double eta, Spacing spacing) {
  if (!(eta >= 0 && eta <= 1)) throw Error(SEGGD_OPTION, "eta is " + shown(eta) + "; it must lie in [0, 1]");
  if (eta != 0 && sampler != Sampler::kDdim)
    throw Error(SEGGD_OPTION, "eta is " + shown(eta) + ", and only the sampler ddim has one: leave it out");
  switch (sampler) {
    case Sampler::kDdim:
      return ddim(schedule, steps, spacing, eta);
    case Sampler::kDdpm:
      return ddpm(schedule, steps, spacing);
    case Sampler::kDpmSolver:
      return dpm_solver(schedule, steps, spacing, false);
    case Sampler::kDpmSolverSde:
      break;
  }
  return dpm_solver(schedule, steps, spacing, true);
}

int entry_step(const RowTable& table, const NoiseSchedule& schedule, double at) {
  if (!(at > 0 && at <= 1)) throw Error(SEGGD_OPTION, "at is " + shown(at) + "; it must lie above 0, and not above 1");
  for (int step = 0; step < table.steps(); ++step)
    if (static_cast<double>(table.timesteps[static_cast<size_t>(step)]) <= at * schedule.train_steps) return step;
  const double least = static_cast<double>(table.timesteps.back()) / schedule.train_steps;
  throw Error(SEGGD_OPTION, "at is " + shown(at) + "; the last step of this run is at " + shown(least) +
                                ", so it must not be below that");
}

UpdateRow entry_row(const RowTable& table, const NoiseSchedule& schedule, int step, double weight) {
  const double a = schedule.alpha_bar()[static_cast<size_t>(table.timesteps[static_cast<size_t>(step)])];
  UpdateRow row{};
  row.m = static_cast<float>(weight);
  row.a = static_cast<float>(std::sqrt(a)), row.b = static_cast<float>(std::sqrt(1 - a));
  return row;
}

}  // namespace seggd::core
