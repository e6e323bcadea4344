"""The noise schedule a network was trained with: betas, alpha_bar and inference timesteps, in float64.

    Symbol        Here
    beta_t        `betas()[t]`
    alpha_bar_t   `alpha_bar()[t]`, the product of (1 - beta_s) for s <= t
    T             `train_steps`

Ho et al., "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), eq. 4; Nichol and Dhariwal
(arXiv 2102.09672), eq. 17 for the cosine schedule; Lin et al. (arXiv 2305.08891), algorithm 1 for zero
terminal SNR and table 2 for the timestep spacings.
"""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import OptionError

_LEAST_ALPHA_BAR = 1e-12
"""Below it x0 = x / sqrt(alpha_bar) has no meaning in float32; the cosine curve of 1000 steps ends at 2e-9."""


class BetaCurve(StrEnum):
    """How beta_t grows with t."""

    LINEAR = "linear"
    SCALED_LINEAR = "scaled-linear"
    COSINE = "cosine"


class Prediction(StrEnum):
    """What the network's output estimates."""

    EPSILON = "epsilon"
    SAMPLE = "sample"
    V = "v"


class Spacing(StrEnum):
    """How the inference timesteps are spread over the training timesteps."""

    LEADING = "leading"
    TRAILING = "trailing"
    LINSPACE = "linspace"


class NoiseSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The forward process a network was trained with, and how its output is read.

    The defaults are those of the SegGuidedDiff reference: 1000 steps, linear betas from 1e-4 to 0.02,
    epsilon prediction, "leading" spacing, x0 clipped to [-1, 1].
    """

    train_steps: int = 1000
    beta_curve: BetaCurve = BetaCurve.LINEAR
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction: Prediction = Prediction.EPSILON
    spacing: Spacing = Spacing.LEADING
    steps_offset: int = 0
    clip_x0: float | None = 1.0
    zero_terminal_snr: bool = False
    final_alpha_bar_one: bool = True

    def __post_init__(self) -> None:
        """Check every field's range."""
        if not 1 <= self.train_steps <= 100_000:
            raise ValueError(f"train_steps is {self.train_steps}; it must lie in [1, 100000]")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"beta_start {self.beta_start} and beta_end {self.beta_end} must satisfy 0 < start <= end < 1"
            )
        if not 0 <= self.steps_offset < self.train_steps:
            raise ValueError(f"steps_offset is {self.steps_offset}; it must lie in [0, {self.train_steps})")
        if self.clip_x0 is not None and not (self.clip_x0 > 0 and math.isfinite(self.clip_x0)):
            raise ValueError(f"clip_x0 is {self.clip_x0}; it must be positive and finite, or null for no clip")
        if self.zero_terminal_snr and self.prediction is Prediction.EPSILON:
            raise ValueError("zero_terminal_snr needs v or sample prediction: epsilon says nothing at SNR 0")
        if self.zero_terminal_snr and self.train_steps < 2:
            raise ValueError("zero_terminal_snr needs at least 2 train_steps: the first keeps its signal")
        if not self.zero_terminal_snr and self.alpha_bar()[-1] < _LEAST_ALPHA_BAR:
            raise ValueError(
                f"beta_start {self.beta_start} and beta_end {self.beta_end} leave no signal after {self.train_steps} "
                f"train_steps: alpha_bar must stay above {_LEAST_ALPHA_BAR:g}"
            )

    def betas(self) -> NDArray[np.float64]:
        """Return beta_t, (T,) float64 in (0, 1]."""
        steps = self.train_steps
        betas: NDArray[np.float64]
        if self.beta_curve is BetaCurve.LINEAR:
            betas = np.linspace(self.beta_start, self.beta_end, steps, dtype=np.float64)
        elif self.beta_curve is BetaCurve.SCALED_LINEAR:
            roots = np.linspace(self.beta_start**0.5, self.beta_end**0.5, steps, dtype=np.float64)
            betas = roots * roots
        else:
            edges = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
            betas = np.minimum(1 - edges[1:] / edges[:-1], 0.999).astype(np.float64)
        return _zero_terminal_snr(betas) if self.zero_terminal_snr else betas

    def alpha_bar(self) -> NDArray[np.float64]:
        """Return alpha_bar_t, (T,) float64 in [0, 1), falling."""
        alpha_bar: NDArray[np.float64] = np.cumprod(1.0 - self.betas(), dtype=np.float64)
        return alpha_bar

    def final_alpha_bar(self) -> float:
        """Return the alpha_bar that the last inference step lands on: 1, or that of t = 0."""
        return 1.0 if self.final_alpha_bar_one else float(self.alpha_bar()[0])

    def timesteps(self, steps: int, spacing: Spacing | None = None) -> NDArray[np.int64]:
        """Return `steps` inference timesteps, (steps,) int64 in [0, T), falling.

        Raises
        ------
        OptionError
            `steps` is not in [1, T].
        """
        total = self.train_steps
        if not 1 <= steps <= total:
            raise OptionError(f"steps is {steps}; it must lie in [1, {total}], the training steps of this model")
        spacing = self.spacing if spacing is None else spacing
        times: NDArray[np.integer | np.floating]
        if spacing is Spacing.LEADING:
            times = np.arange(steps)[::-1] * (total // steps) + self.steps_offset
        elif spacing is Spacing.TRAILING:
            times = np.round(total - np.arange(steps) * (total / steps)) - 1
        else:
            times = np.round(np.linspace(0, total - 1, steps))[::-1]
        return np.clip(times, 0, total - 1).astype(np.int64)


def _zero_terminal_snr(betas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale sqrt(alpha_bar) so that it keeps its first value and ends at 0."""
    root = np.sqrt(np.cumprod(1.0 - betas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = root**2
    alphas = np.concatenate([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return 1.0 - alphas
