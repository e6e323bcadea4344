// The noise schedule a network was trained with: seggd_rt/diffusion/schedule.py in float64, operation for operation.
//
//   beta_t        betas()[t]
//   alpha_bar_t   alpha_bar()[t], the product of (1 - beta_s) for s <= t
//
// Ho et al. (arXiv 2006.11239), eq. 4; Nichol and Dhariwal (arXiv 2102.09672), eq. 17 for the cosine schedule; Lin et
// al. (arXiv 2305.08891), algorithm 1 for zero terminal SNR and table 2 for the spacings.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace seggd::core {

enum class BetaCurve { kLinear, kScaledLinear, kCosine };
enum class Prediction { kEpsilon, kSample, kV };
enum class Spacing { kLeading, kTrailing, kLinspace };

struct NoiseSchedule {
  int train_steps = 1000;
  BetaCurve beta_curve = BetaCurve::kLinear;
  double beta_start = 1e-4;
  double beta_end = 0.02;
  Prediction prediction = Prediction::kEpsilon;
  Spacing spacing = Spacing::kLeading;
  int steps_offset = 0;
  std::optional<double> clip_x0 = 1.0;
  bool zero_terminal_snr = false;
  bool final_alpha_bar_one = true;

  // Throws Invalid where a field is outside its range.
  void check() const;

  std::vector<double> betas() const;
  std::vector<double> alpha_bar() const;

  // What the last inference step lands on: 1, or alpha_bar of t = 0.
  double final_alpha_bar() const;

  // `steps` inference timesteps in [0, train_steps), falling; SEGGD_OPTION where steps is outside [1, train_steps].
  std::vector<int64_t> timesteps(int steps, Spacing spread) const;
};

// NumPy's linspace(start, stop, count).
std::vector<double> linspace(double start, double stop, int count);

}  // namespace seggd::core
