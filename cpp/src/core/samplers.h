// Samplers: each one a table of update rows, computed in float64 and stored in float32: seggd_rt/diffusion/samplers.py.
//
//   alpha_bar_t       a
//   alpha_bar_{t-1}   a_next: of the timestep the step lands on
//   epsilon_theta     eps = ex x + eo o, linear in x and in the network's output
//   x_0               x0 = kx x + ko o, then clipped
//   lambda_t          half_snr: log(alpha_t / sigma_t)
//
// Ho et al. (arXiv 2006.11239), eq. 6 and 7. Song et al. (arXiv 2010.02502), eq. 12 and 16. Lu et al. (arXiv
// 2211.01095), algorithm 2, and appendix A for the SDE. Salimans and Ho (arXiv 2202.00512), appendix D, for v.
#pragma once

#include <cstdint>
#include <vector>

#include "core/schedule.h"
#include "update.cuh"

namespace seggd::core {

enum class Sampler { kDdim, kDdpm, kDpmSolver, kDpmSolverSde };

// A whole run: the timestep the network is given at each step, and the update after it.
struct RowTable {
  std::vector<int64_t> timesteps;
  std::vector<UpdateRow> rows;

  int steps() const { return static_cast<int>(rows.size()); }
  bool draws_noise() const;
};

// How many steps a sampler takes where neither a caller nor a bundle says: seggd_rt/diffusion/samplers.py's
// USUAL_STEPS.
int usual_steps(Sampler sampler, const NoiseSchedule& schedule);

// SEGGD_OPTION where steps or eta is outside its range, or the sampler has no eta.
RowTable sampler_rows(Sampler sampler, const NoiseSchedule& schedule, int steps, double eta, Spacing spacing);

// The first step whose timestep is at most the fraction `at`, in (0, 1], of the schedule; SEGGD_OPTION outside.
int entry_step(const RowTable& table, const NoiseSchedule& schedule, double at);

// The row that blends a real image, noised to a step's timestep, into what that step starts from.
UpdateRow entry_row(const RowTable& table, const NoiseSchedule& schedule, int step, double weight);

}  // namespace seggd::core
