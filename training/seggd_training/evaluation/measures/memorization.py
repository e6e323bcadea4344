"""Whether generated images are copies of training images: how near the nearest is, beside that of held-out real ones.

A network that learnt what hearts look like draws images about as far from every training image as real images of other
patients are. One that repeats training images draws images that are much nearer. Distances are of images that are made
alike first (`nearest.patterns`), and of the segmenter's features. Generated and held-out images have the same masks,
and their patients are none of the training split's.

Two things bear on the figures. A generator whose images are smoother than real ones draws images that are a little
nearer to all images, so a ratio somewhat below 1 is no copy yet. And a copy that was turned or shifted, as training
with augmentation may teach, is farther in pixels than a plain one; of that features see less, so an image that is too
near in either is taken for a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError
from seggd_training.data import Dataset
from seggd_training.evaluation.measures.bootstrap import Estimate, interval, resample
from seggd_training.evaluation.measures.cases import Cases
from seggd_training.evaluation.measures.nearest import Nearest, nearest_in_features, nearest_in_pixels
from seggd_training.evaluation.measures.realism import Beside
from seggd_training.evaluation.segmenter import Segmenter

QUANTILES = tuple(q / 20 for q in range(21))
"""Of the distances: what the report keeps of their distribution."""
NEAR = 0.05
"""The part of held-out real images that counts as near to a training image."""
COPY = 0.5
"""A generated image is taken for a copy below this part of the distance that the near real images have at most."""
_SHOWN = 8
_BLOCK = 1 << 22


class Distances(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Distances to the nearest training image, of generated and of held-out real images.

    Attributes
    ----------
    quantiles
        At each of `QUANTILES`: the first is the nearest of all, the last the farthest.
    ratio
        The generated images' median over the real images'; None where that is 0.
    nearer_than_near
        Part, in [0, 1], of the generated images that are nearer than the quantile `NEAR` of the real ones.
    nearer_than_all
        Part of the generated images that are nearer than the nearest real one.
    """

    quantiles: tuple[Beside, ...]
    ratio: Estimate | None
    nearer_than_near: Estimate
    nearer_than_all: Estimate

    def at(self, quantile: float) -> Beside:
        """Return one of the quantiles."""
        return self.quantiles[QUANTILES.index(quantile)]


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A generated image, by its mask's number in the split, and the training image nearest to it in pixels."""

    mask: int
    training: str
    distance: float


class Memorisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured.

    Attributes
    ----------
    pixels, features
        Root mean square differences of patterns, and distances of the segmenter's features.
    copies, real_copies
        Generated, and held-out real, images whose distance in pixels or in features is below `COPY` times that of the
        near real ones.
    closest
        The generated images nearest to a training image.
    images, patients
        Of the training split; None where the data does not name patients.
    """

    pixels: Distances
    features: Distances
    copies: int
    real_copies: int
    closest: tuple[Match, ...]
    images: int
    patients: int | None


@dataclass(frozen=True)
class ClosestPair:
    """An image, (H, W, C) float32 in [0, 1], the training image nearest to it, and what to say of both."""

    image: NDArray[np.float32]
    training: int
    label: str


def measure_memorisation(
    segmenter: Segmenter, generated: NDArray[np.float32], cases: Cases, training: Dataset, *, seed: int = 0
) -> tuple[Memorisation, tuple[ClosestPair, ...]]:
    """Find the nearest training image of every generated and of every held-out real image.

    Parameters
    ----------
    segmenter
        Whose features are compared.
    generated
        (N, H, W, C) float32 in [0, 1], one for each case.
    cases
        Real images, of other patients than the training images.
    training
        What the generating network was trained on.
    seed
        Of the intervals.

    Returns
    -------
    tuple
        The figures, and the closest pairs to look at: of generated images, then half as many of real ones.

    Raises
    ------
    DataError
        No training image shows anything.
    """
    axes = (1, 2, 3)
    chosen = np.flatnonzero(training.images.min(axis=axes) < training.images.max(axis=axes))
    if not chosen.size:
        raise DataError("every training image is of one grey level: there is nothing to compare images with")
    levels = training.images if len(chosen) == len(training) else training.images[chosen]
    both = np.concatenate([generated, cases.images])
    drawn, real = slice(len(generated)), slice(len(generated), None)
    pixels = nearest_in_pixels(both, levels)
    features = nearest_in_features(segmenter, both, levels)

    def compare(found: Nearest) -> Distances:
        return _compare(found.distance[drawn], found.distance[real], cases.patients, seed)

    in_pixels, in_features = compare(pixels), compare(features)
    is_copy = (pixels.distance < COPY * in_pixels.at(NEAR).real.mean) | (
        features.distance < COPY * in_features.at(NEAR).real.mean
    )
    closest = _closest(pixels.of(drawn), _SHOWN)
    scores = Memorisation(
        pixels=in_pixels,
        features=in_features,
        copies=int(is_copy[drawn].sum()),
        real_copies=int(is_copy[real].sum()),
        closest=tuple(
            Match(
                mask=int(cases.indices[i]),
                training=training.names[chosen[pixels.index[i]]],
                distance=float(pixels.distance[i]),
            )
            for i in closest
        ),
        images=len(chosen),
        patients=None if training.patients is None else len(np.unique(training.patients[chosen])),
    )
    pairs = [
        ClosestPair(images[i], int(chosen[found.index[i]]), f"{what}\nmask {cases.indices[i]}\n{found.distance[i]:.3f}")
        for what, images, found, count in (
            ("generated", generated, pixels.of(drawn), _SHOWN),
            ("real", cases.images, pixels.of(real), _SHOWN // 2),
        )
        for i in _closest(found, count)
    ]
    return scores, tuple(pairs)


def _closest(found: Nearest, count: int) -> list[int]:
    order: list[int] = np.argsort(found.distance, kind="stable")[:count].tolist()
    return order


def _compare(
    generated: NDArray[np.float64], real: NDArray[np.float64], patients: NDArray[np.generic], seed: int
) -> Distances:
    """Compare distances, (N,) each, of images of the same patients: each draw takes the same patients of both."""
    count, quantiles = len(np.unique(patients)), len(QUANTILES)
    value = _figures(generated, real, np.ones((1, len(real))))[0]
    drawn = np.concatenate([_figures(generated, real, weights) for weights in _image_weights(patients, seed)])

    def estimate(column: int) -> Estimate:
        return interval(float(value[column]), drawn[:, column], count)

    return Distances(
        quantiles=tuple(Beside(generated=estimate(i), real=estimate(quantiles + i)) for i in range(quantiles)),
        ratio=None if np.isnan(value[-1]) else estimate(-1),
        nearer_than_near=estimate(-3),
        nearer_than_all=estimate(-2),
    )


def _image_weights(patients: NDArray[np.generic], seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each draw takes each image, (draws, N), in blocks."""
    ids, whose = np.unique(patients, return_inverse=True)
    rows = max(1, _BLOCK // len(patients))
    for block in resample(len(ids), seed=seed):
        for start in range(0, len(block), rows):
            yield block[start : start + rows, whose]


def _figures(
    generated: NDArray[np.float64], real: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return, by row of weights, the quantiles of both, what is nearer, and the ratio of medians: (rows, 45)."""
    drawn, held_out = (_quantiles(values, weights) for values in (generated, real))
    middle, near = QUANTILES.index(0.5), QUANTILES.index(NEAR)
    ratio = np.divide(
        drawn[:, middle], held_out[:, middle], out=np.full(len(weights), np.nan), where=held_out[:, middle] > 0
    )
    nearer = [
        (weights * (generated < held_out[:, column, None])).sum(axis=1) / weights.sum(axis=1) for column in (near, 0)
    ]
    return np.column_stack([drawn, held_out, *nearer, ratio])


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weighted quantiles, (rows, quantiles): the least value up to which so much of the weight lies."""
    order = np.argsort(values, kind="stable")
    up_to = np.cumsum(weights[:, order], axis=1)
    total = up_to[:, -1]
    # Of quantile 0 the first that is drawn at all; rounding must not push the last one out.
    places = [(up_to < np.clip(q * total, 0.5, total)[:, None]).sum(axis=1) for q in QUANTILES]
    found: NDArray[np.float64] = values[order][np.stack(places, axis=1)]
    return found
