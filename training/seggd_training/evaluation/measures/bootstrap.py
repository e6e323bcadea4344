"""Means over patients with 95 % intervals: the percentile bootstrap over whole patients.

Efron and Tibshirani, "An introduction to the bootstrap", chapter 13. A patient's images resemble each other, so
patients are resampled, never images.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_DRAWS = 10_000
CONFIDENCE = 0.95
_BLOCK = 1 << 22
"""Numbers of a block of draws: they are made one block at a time, so that many patients take little memory."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mean over patients, with the bounds of its 95 % bootstrap interval and how many patients it is of."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        """Return "0.839 [0.810, 0.861]"; of one patient, which has no interval, "0.839"."""
        return self.text(3 if abs(self.mean) < 10 else 1)

    def text(self, digits: int, sign: str = "") -> str:
        """Return mean and interval with so many digits behind the point; sign "+" shows that of positive ones too."""
        shown = f"{{:{sign}.{digits}f}}".format
        interval = f" [{shown(self.low)}, {shown(self.high)}]" if self.count > 1 else ""
        return shown(self.mean) + interval


def resample(count: int, *, seed: int | list[int], draws: int = BOOTSTRAP_DRAWS) -> Iterator[NDArray[np.float64]]:
    """Yield how often each draw takes each of `count` patients, (draws, count), in blocks of draws."""
    rng, equal = np.random.default_rng(seed), np.full(count, 1 / count)
    block = max(1, _BLOCK // count)
    for start in range(0, draws, block):
        yield rng.multinomial(count, equal, size=min(block, draws - start)).astype(np.float64)


def estimate_each(
    values: NDArray[np.float64], *, seed: int, draws: int = BOOTSTRAP_DRAWS
) -> tuple[tuple[Estimate | None, ...], Estimate | None]:
    """Estimate means over patients, and their mean over classes.

    Parameters
    ----------
    values
        (P, C) float64, one row a patient; NaN is left out.
    seed, draws
        Of the resampling, and how often.

    Returns
    -------
    tuple
        An estimate for each of the C columns, None where it has no number; and that of the columns' mean.
    """
    known, means, drawn = ~np.isnan(values), column_means(values), _drawn_means(values, seed, draws)
    estimates = tuple(
        interval(float(means[c]), drawn[:, c], int(known[:, c].sum())) if known[:, c].any() else None
        for c in range(values.shape[1])
    )
    return estimates, _mean_estimate(values, drawn)


def estimate_mean(values: NDArray[np.float64], *, seed: int, draws: int = BOOTSTRAP_DRAWS) -> Estimate | None:
    """Estimate the mean over classes of their means over patients, as `estimate_each` does; None of no number."""
    return _mean_estimate(values, _drawn_means(values, seed, draws))


def estimate_change(
    values: NDArray[np.float64], base: NDArray[np.float64], *, seed: int, draws: int = BOOTSTRAP_DRAWS
) -> Estimate | None:
    """Estimate by how much such a mean exceeds another's, of the same patients: each draw takes the same of both.

    Parameters
    ----------
    values, base
        (P, C) float64 each. A class may be NaN in one alone: what a network makes up where there is nothing counts.
    seed, draws
        Of the resampling, and how often.
    """
    if np.isnan(values).all() or np.isnan(base).all():
        return None
    change = float(np.nanmean(column_means(values)) - np.nanmean(column_means(base)))
    drawn = [_over_classes(_drawn_means(each, seed, draws)) for each in (values, base)]
    return interval(change, drawn[0] - drawn[1], len(values))


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
    return estimate_mean(means[:, None], seed=seed)


def interval(mean: float, drawn: NDArray[np.float64], count: int) -> Estimate:
    """Return an estimate from what the draws gave, NaN left out.

    The mean lies within its interval, even where rounding, or classes that few patients have, put all draws beside it.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Estimate(mean=mean, low=min(float(low), mean), high=max(float(high), mean), count=count)


def column_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each column's mean over its numbers; NaN where it has none."""
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(values.shape[1], np.nan), where=counts > 0)
    return means


def _mean_estimate(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> Estimate | None:
    """Estimate the mean over classes from what each draw made of each class, (draws, C)."""
    known = ~np.isnan(values)
    if not known.any():
        return None
    return interval(float(np.nanmean(column_means(values))), _over_classes(drawn), int(known.any(axis=1).sum()))


def _drawn_means(values: NDArray[np.float64], seed: int, draws: int) -> NDArray[np.float64]:
    """Return each draw's means over patients, (draws, C); NaN where it takes none with a number."""
    known, numbers = ~np.isnan(values), np.where(np.isnan(values), 0.0, values)
    blocks = []
    for weights in resample(len(values), seed=seed, draws=draws):
        sums, taken = weights @ numbers, weights @ known
        blocks.append(np.divide(sums, taken, out=np.full_like(sums, np.nan), where=taken > 0))
    return np.concatenate(blocks)


def _over_classes(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each draw's mean over classes, (draws,); NaN where it has none."""
    return column_means(drawn.T)
