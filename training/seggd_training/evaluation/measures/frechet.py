"""The Frechet distance of two sets of features, with an interval over patients.

Heusel et al., arXiv 1706.08500: the features are taken for normal distributions, and

    distance = |m1 - m2|^2 + trace(S1) + trace(S2) - 2 trace(sqrt(S1 S2))

With S = R'R, R from the QR decomposition of the centred features, the last trace is the sum of R1 R2's singular values
(R2 transposed): no root of a matrix, nothing complex or negative, and more features than images do no harm.

The distance of few images is biased upwards, and that of resampled ones, of which some are the same, more so. So the
draws are shifted by what their mean exceeds the distance by: the interval tells the spread, and the bias stays in the
distance, as in the one of real images beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seggd_training.evaluation.measures.bootstrap import Estimate, interval, resample

DRAWS = 500


@dataclass(frozen=True)
class FeatureSet:
    """Features of images, (N, F) float64, and whose images they are, (N,)."""

    values: NDArray[np.float64]
    patients: NDArray[np.generic]


@dataclass(frozen=True)
class Distance:
    """A Frechet distance, what each draw of patients makes of it, (draws,), and how many patients there are."""

    value: float
    drawn: NDArray[np.float64]
    patients: int

    def estimate(self) -> Estimate:
        """Return the distance with its interval, which begins at 0: no distance is less."""
        return interval(self.value, (self.drawn - self.drawn.mean() + self.value).clip(min=0), self.patients)

    def less(self, other: Distance) -> Estimate:
        """Return this distance less another, of the same draws of patients."""
        value, drawn = self.value - other.value, self.drawn - other.drawn
        return interval(value, drawn - drawn.mean() + value, self.patients)


def frechet_distance(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the distance of two sets of features, (N, F) and (M, F)."""
    return _distance(_Moments.of(some, np.ones(len(some))), _Moments.of(others, np.ones(len(others))))


def measure_distance(some: FeatureSet, others: FeatureSet, *, seed: int = 0, draws: int = DRAWS) -> Distance:
    """Measure a distance, and what it is of resampled patients.

    Parameters
    ----------
    some, others
        Where they are of the same patients, a draw takes the same of both; other patients are drawn on their own.
    seed, draws
        Of the resampling, and how often.
    """
    same = np.array_equal(np.unique(some.patients), np.unique(others.patients))
    pairs = zip(
        _image_weights(some, [seed, 0 if same else 1], draws), _image_weights(others, [seed, 0], draws), strict=True
    )
    drawn = [
        _distance(_Moments.of(some.values, some_w), _Moments.of(others.values, others_w)) for some_w, others_w in pairs
    ]
    number = len(np.unique(others.patients))
    return Distance(frechet_distance(some.values, others.values), np.array(drawn), number)


def _image_weights(features: FeatureSet, seed: list[int], draws: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each draw takes each image, (N,)."""
    ids, whose = np.unique(features.patients, return_inverse=True)
    for block in resample(len(ids), seed=seed, draws=draws):
        for weights in block:
            yield weights[whose]


@dataclass(frozen=True)
class _Moments:
    mean: NDArray[np.float64]
    root: NDArray[np.float64]
    """R: the covariance is R'R."""

    @classmethod
    def of(cls, values: NDArray[np.float64], weights: NDArray[np.float64]) -> _Moments:
        count = weights.sum()
        mean = weights @ values / count
        taken = weights > 0
        centred = (values[taken] - mean) * np.sqrt(weights[taken] / max(count - 1, 1))[:, None]
        return cls(mean, np.asarray(np.linalg.qr(centred, mode="r")))


def _distance(some: _Moments, others: _Moments) -> float:
    singular = np.linalg.svd(some.root @ others.root.T, compute_uv=False)
    traces = (some.root**2).sum() + (others.root**2).sum()
    return float(((some.mean - others.mean) ** 2).sum() + traces - 2 * singular.sum())
