"""Samplers: each one a table of update rows.

    Symbol            Here
    alpha_bar_t       `a`
    alpha_bar_{t-1}   `a_next`: of the timestep the step lands on
    epsilon_theta     `eps`, linear in x and in the network's output: eps = ex x + eo o
    x_0               `x0 = kx x + ko o`, then clipped

Song et al., "Denoising diffusion implicit models" (arXiv 2010.02502): eq. 12 is the update, eq. 16 its sigma.
Salimans and Ho (arXiv 2202.00512), appendix D, for v.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import OptionError
from seggd_rt.rows import Column, RowTable, empty_rows
from seggd_rt.schedule import NoiseSchedule, Prediction


class Sampler(StrEnum):
    """The samplers there are."""

    DDIM = "ddim"


def sampler_rows(sampler: Sampler, schedule: NoiseSchedule, steps: int, *, eta: float = 0.0) -> RowTable:
    """Return the whole run of a sampler.

    Parameters
    ----------
    sampler
        Which one.
    schedule
        What the network was trained with.
    steps
        In [1, schedule.train_steps].
    eta
        In [0, 1]: how much noise each step adds; 0 is deterministic, 1 has the variance of DDPM.

    Raises
    ------
    OptionError
        `steps` or `eta` lies outside its range.
    """
    if not 0 <= eta <= 1:
        raise OptionError(f"eta is {eta}; it must lie in [0, 1]")
    return {Sampler.DDIM: _ddim}[sampler](schedule, steps, eta)


def _ddim(schedule: NoiseSchedule, steps: int, eta: float) -> RowTable:
    timesteps = schedule.timesteps(steps)
    a = schedule.alpha_bar()[timesteps]
    # Each step lands T // steps lower, also where a spacing is not that even: what diffusers' DDIM does.
    landing = timesteps - schedule.train_steps // steps
    a_next = np.where(landing >= 0, schedule.alpha_bar()[np.maximum(landing, 0)], schedule.final_alpha_bar())

    rows = empty_rows(steps)
    kx, ko, ex, eo = _estimates(schedule.prediction, a)
    rows[:, Column.KX], rows[:, Column.KO] = kx, ko
    if schedule.clip_x0 is not None:
        rows[:, Column.CLIP] = schedule.clip_x0

    sigma = eta * np.sqrt(np.maximum((1 - a_next) / (1 - a) * (1 - a / a_next), 0))
    # eps is that of the unclipped x0, as in the reference.
    direction = np.sqrt(np.maximum(1 - a_next - sigma**2, 0))
    rows[:, Column.CX], rows[:, Column.CO] = direction * ex, direction * eo
    rows[:, Column.C0], rows[:, Column.SIGMA] = np.sqrt(a_next), sigma
    return RowTable(timesteps, rows.astype(np.float32))


def _estimates(prediction: Prediction, a: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return kx, ko, ex, eo, (steps,) float64 each: x0 = kx x + ko o and eps = ex x + eo o."""
    signal, noise = np.sqrt(a), np.sqrt(1 - a)
    zero, one = np.zeros_like(a), np.ones_like(a)
    if prediction is Prediction.EPSILON:
        return 1 / signal, -noise / signal, zero, one
    if prediction is Prediction.SAMPLE:
        return zero, one, 1 / noise, -signal / noise
    return signal, -noise, noise, signal
