"""Means over patients with 95 % intervals: the percentile bootstrap over whole patients.

Efron and Tibshirani, "An introduction to the bootstrap", chapter 13. A patient's images resemble each other, so
patients are resampled, never images.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_DRAWS = 10_000
CONFIDENCE = 0.95


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mean over patients, with the bounds of its 95 % bootstrap interval and how many patients it is of."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        """Return "0.839 [0.810, 0.861]", with as many digits as the mean needs for three."""
        digits = 3 if abs(self.mean) < 10 else 1
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def resample(count: int, *, seed: int, draws: int = BOOTSTRAP_DRAWS) -> NDArray[np.float64]:
    """Return how often each draw takes each of `count` patients, (draws, count)."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)


def estimate_each(
    values: NDArray[np.float64], *, seed: int, draws: int = BOOTSTRAP_DRAWS
) -> tuple[tuple[Estimate | None, ...], Estimate]:
    """Estimate means over patients, and their mean over classes.

    Parameters
    ----------
    values
        (P, C) float64, one row a patient; NaN is left out. At least one entry is a number.
    seed, draws
        Of the resampling, and how often.

    Returns
    -------
    tuple
        An estimate for each of the C columns, None where it has no number; and that of the columns' mean.
    """
    weights = resample(len(values), seed=seed, draws=draws)
    known = ~np.isnan(values)
    taken = weights @ known
    sums = weights @ np.where(known, values, 0.0)
    drawn = np.divide(sums, taken, out=np.full_like(sums, np.nan), where=taken > 0)
    means = column_means(values)
    estimates = tuple(
        interval(float(means[c]), drawn[:, c], int(known[:, c].sum())) if known[:, c].any() else None
        for c in range(values.shape[1])
    )
    overall = drawn[~np.isnan(drawn).all(axis=1)]
    mean = interval(float(np.nanmean(means)), np.nanmean(overall, axis=1), int(known.any(axis=1).sum()))
    return estimates, mean


def estimate_images(values: NDArray[np.float64], patients: NDArray[np.generic], *, seed: int) -> Estimate | None:
    """Estimate the mean over patients of a figure of images: each patient counts once, by the mean of its images.

    Parameters
    ----------
    values
        (N,) float64; NaN is left out.
    patients
        (N,): whose image each is.
    seed
        Of the resampling.

    Returns
    -------
    Estimate or None
        None where there is no number.
    """
    known = ~np.isnan(values)
    if not known.any():
        return None
    _, whose = np.unique(patients[known], return_inverse=True)
    means = np.bincount(whose, values[known]) / np.bincount(whose)
    return estimate_each(means[:, None], seed=seed)[1]


def interval(mean: float, drawn: NDArray[np.float64], count: int) -> Estimate:
    """Return an estimate from what the draws gave, NaN left out."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Estimate(mean=mean, low=float(low), high=float(high), count=count)


def column_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each column's mean over its numbers; NaN where it has none."""
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(values.shape[1], np.nan), where=counts > 0)
    return means
