"""Samplers: each one a table of update rows.

    Symbol            Here
    alpha_bar_t       `a`
    alpha_bar_{t-1}   `a_next`: of the timestep the step lands on
    epsilon_theta     `eps`, linear in x and in the network's output: eps = ex x + eo o
    x_0               `x0 = kx x + ko o`, then clipped
    lambda_t          `half_snr`: log(alpha_t / sigma_t), alpha_t = sqrt(a), sigma_t = sqrt(1 - a)

Ho et al., "Denoising diffusion probabilistic models" (arXiv 2006.11239), eq. 6 and 7; respaced as Nichol and Dhariwal
(arXiv 2102.09672), section 4. Song et al., "Denoising diffusion implicit models" (arXiv 2010.02502): eq. 12 is the
update, eq. 16 its sigma. Lu et al., "DPM-Solver++" (arXiv 2211.01095): algorithm 2, and appendix A for the SDE.
Salimans and Ho (arXiv 2202.00512), appendix D, for v.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from seggd_rt.diffusion.rows import Column, RowTable, empty_rows
from seggd_rt.diffusion.schedule import NoiseSchedule, Prediction, Spacing
from seggd_rt.errors import OptionError

_LEAST_ALPHA_BAR = 2.0**-24
"""What DPM-Solver++ takes for an alpha_bar of 0, whose logarithm it needs."""


class Sampler(StrEnum):
    """The samplers there are."""

    DDIM = "ddim"
    DDPM = "ddpm"
    DPM_SOLVER = "dpm-solver++"
    DPM_SOLVER_SDE = "dpm-solver++-sde"


USUAL_STEPS = {Sampler.DDIM: 50, Sampler.DDPM: 250, Sampler.DPM_SOLVER: 25, Sampler.DPM_SOLVER_SDE: 25}
"""Steps where neither a caller nor a bundle says how many; docs/results.md has the figures that they were chosen by."""


def usual_steps(sampler: Sampler, schedule: NoiseSchedule) -> int:
    """Return how many steps a sampler takes where neither a caller nor a bundle says."""
    return min(USUAL_STEPS[sampler], schedule.train_steps)


def sampler_rows(
    sampler: Sampler, schedule: NoiseSchedule, steps: int, *, eta: float = 0.0, spacing: Spacing | None = None
) -> RowTable:
    """Return the whole run of a sampler.

    Parameters
    ----------
    sampler
        Which one. `DPM_SOLVER` is the second-order multistep form, 2M; `DPM_SOLVER_SDE` adds its noise.
    schedule
        What the network was trained with.
    steps
        In [1, schedule.train_steps]; with all of them `DDPM` is ancestral sampling.
    eta
        In [0, 1], of `DDIM`: how much noise each step adds; 0 is deterministic, 1 has the variance of DDPM.
    spacing
        How the steps are spread; the schedule's own if None.

    Raises
    ------
    OptionError
        `steps` or `eta` lies outside its range, or the sampler has no eta.
    """
    if not 0 <= eta <= 1:
        raise OptionError(f"eta is {eta}; it must lie in [0, 1]")
    if eta and sampler is not Sampler.DDIM:
        raise OptionError(f"eta is {eta}, and only the sampler ddim has one: leave it out with {sampler}")
    spacing = schedule.spacing if spacing is None else spacing
    fill: dict[Sampler, Callable[[], RowTable]] = {
        Sampler.DDIM: lambda: _ddim(schedule, steps, spacing, eta),
        Sampler.DDPM: lambda: _ddpm(schedule, steps, spacing),
        Sampler.DPM_SOLVER: lambda: _dpm_solver(schedule, steps, spacing, adds_noise=False),
        Sampler.DPM_SOLVER_SDE: lambda: _dpm_solver(schedule, steps, spacing, adds_noise=True),
    }
    return fill[sampler]()


def entry_step(table: RowTable, schedule: NoiseSchedule, at: float) -> int:
    """Return the first step whose timestep is at most a fraction of the schedule.

    Parameters
    ----------
    table
        A whole run.
    schedule
        What it was made for.
    at
        In (0, 1]: the noisier, the larger; 1 is before the first step.

    Raises
    ------
    OptionError
        `at` lies outside, or after the last step.
    """
    if not 0 < at <= 1:
        raise OptionError(f"at is {at}; it must lie above 0, and not above 1")
    below = np.flatnonzero(table.timesteps <= at * schedule.train_steps)
    if not below.size:
        least = table.timesteps[-1] / schedule.train_steps
        raise OptionError(f"at is {at}; the last step of this run is at {least:g}, so it must not be below that")
    return int(below[0])


def entry_rows(
    table: RowTable, schedule: NoiseSchedule, step: int, weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return rows that blend a real image, noised to a step's timestep, into what that step starts from.

    Parameters
    ----------
    table, schedule
        A whole run, and what it was made for.
    step
        The step that comes next.
    weights
        (N,): of the real image, for each image of a batch.

    Returns
    -------
    NDArray
        (N, len(Column)) float32.
    """
    rows = np.zeros((len(weights), len(Column)))
    a = schedule.alpha_bar()[table.timesteps[step]]
    rows[:, Column.M], rows[:, Column.A], rows[:, Column.B] = weights, np.sqrt(a), np.sqrt(1 - a)
    return rows.astype(np.float32)


def keep_outside(table: RowTable, schedule: NoiseSchedule) -> RowTable:
    """Return a run whose every step puts the real image, noised to where the step lands, in place of what it drew.

    A pixel map confines that to what lies outside a region.
    """
    rows = table.rows.copy()
    a = np.append(schedule.alpha_bar()[table.timesteps[1:]], 1.0)
    rows[:, Column.M], rows[:, Column.A], rows[:, Column.B] = 1, np.sqrt(a), np.sqrt(1 - a)
    return RowTable(table.timesteps, rows)


def _ddim(schedule: NoiseSchedule, steps: int, spacing: Spacing, eta: float) -> RowTable:
    timesteps = schedule.timesteps(steps, spacing)
    a = schedule.alpha_bar()[timesteps]
    # Each step lands T // steps lower, also where a spacing is not that even: what diffusers' DDIM does.
    landing = timesteps - schedule.train_steps // steps
    a_next = np.where(landing >= 0, schedule.alpha_bar()[np.maximum(landing, 0)], schedule.final_alpha_bar())

    rows, ex, eo = _rows_of_x0(schedule, a)
    sigma = eta * np.sqrt(np.maximum((1 - a_next) / (1 - a) * (1 - a / a_next), 0))
    # eps is that of the unclipped x0, as in the reference.
    direction = np.sqrt(np.maximum(1 - a_next - sigma**2, 0))
    rows[:, Column.CX], rows[:, Column.CO] = direction * ex, direction * eo
    rows[:, Column.C0], rows[:, Column.SIGMA] = np.sqrt(a_next), sigma
    return RowTable(timesteps, rows.astype(np.float32))


def _ddpm(schedule: NoiseSchedule, steps: int, spacing: Spacing) -> RowTable:
    timesteps = schedule.timesteps(steps, spacing)
    a = schedule.alpha_bar()[timesteps]
    a_next = np.append(a[1:], 1.0)  # each step lands on the next one's timestep, the last on the image
    rows, _, _ = _rows_of_x0(schedule, a)
    alpha = a / a_next
    beta = 1 - alpha
    rows[:, Column.CX] = np.sqrt(alpha) * (1 - a_next) / (1 - a)
    rows[:, Column.C0] = np.sqrt(a_next) * beta / (1 - a)
    rows[:, Column.SIGMA] = np.sqrt((1 - a_next) / (1 - a) * beta)
    return RowTable(timesteps, rows.astype(np.float32))


def _dpm_solver(schedule: NoiseSchedule, steps: int, spacing: Spacing, *, adds_noise: bool) -> RowTable:
    timesteps = _dpm_timesteps(schedule, steps, spacing)
    a = np.maximum(schedule.alpha_bar()[timesteps], _LEAST_ALPHA_BAR)
    alpha, sigma = np.append(np.sqrt(a), 1.0), np.append(np.sqrt(1 - a), 0.0)  # the last step lands on the image
    half_snr = np.log(alpha[:-1] / sigma[:-1])
    h = np.append(np.diff(half_snr), np.inf)
    decay = np.exp(-h)

    rows, _, _ = _rows_of_x0(schedule, a)
    ratio = sigma[1:] / sigma[:-1]
    if adds_noise:
        rows[:, Column.CX], gain = ratio * decay, alpha[1:] * (1 - decay**2)
        rows[:, Column.SIGMA] = sigma[1:] * np.sqrt(1 - decay**2)
    else:
        rows[:, Column.CX], gain = ratio, alpha[1:] * (1 - decay)
    # Second order between the first step and the last: x0 + (x0 - x0_last) h / (2 h_last).
    second = np.zeros(steps)
    second[1:-1] = h[1:-1] / (2 * h[:-2])
    rows[:, Column.C0], rows[:, Column.CP] = gain * (1 + second), -gain * second
    return RowTable(timesteps, rows.astype(np.float32))


def _dpm_timesteps(schedule: NoiseSchedule, steps: int, spacing: Spacing) -> NDArray[np.int64]:
    """Return timesteps that leave room for the landing on the image: one more is spread, and the last left out."""
    if spacing is Spacing.TRAILING:
        return schedule.timesteps(steps, spacing)
    total = schedule.train_steps
    schedule.timesteps(steps, spacing)  # refuses a number of steps outside the range
    if spacing is Spacing.LEADING:
        times = np.arange(steps + 1) * (total // (steps + 1)) + schedule.steps_offset
    else:
        times = np.round(np.linspace(0, total - 1, steps + 1)).astype(np.int64)
    return np.clip(times[:0:-1], 0, total - 1)


def _rows_of_x0(
    schedule: NoiseSchedule, a: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return rows that estimate x0 and clip it, and ex, eo, (steps,) float64, of eps = ex x + eo o."""
    rows = empty_rows(len(a))
    kx, ko, ex, eo = _estimates(schedule.prediction, a)
    rows[:, Column.KX], rows[:, Column.KO] = kx, ko
    if schedule.clip_x0 is not None:
        rows[:, Column.CLIP] = schedule.clip_x0
    return rows, ex, eo


def _estimates(prediction: Prediction, a: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return kx, ko, ex, eo, (steps,) float64 each: x0 = kx x + ko o and eps = ex x + eo o."""
    signal, noise = np.sqrt(a), np.sqrt(1 - a)
    zero, one = np.zeros_like(a), np.ones_like(a)
    if prediction is Prediction.EPSILON:
        return 1 / signal, -noise / signal, zero, one
    if prediction is Prediction.SAMPLE:
        return zero, one, 1 / noise, -signal / noise
    return signal, -noise, noise, signal
