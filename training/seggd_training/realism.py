"""How real generated images look: distances of distributions, diversity, and grey levels, each beside its zero line.

The Frechet distance (Heusel et al., arXiv 1706.08500) is taken between features of the segmenter, averaged over the
image. Distances of few images are biased upwards, so what counts is that of generated images over that of as many real
ones of other patients, the training split's.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from monai.metrics.regression import SSIMMetric
from numpy.typing import NDArray

from seggd_training.faithfulness import Cases
from seggd_training.segmenter import Segmenter, standardize

_PAIRS = 300
_LEVEL = "down_3"
"""The segmenter's fourth level: deep enough to see organs, and of fewer features than a split has images."""
_BATCH = 32


class Beside(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure of generated images, and the same of real ones."""

    generated: float
    real: float


class ClassIntensity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Median grey level, in [0, 1], of a class's pixels, averaged over the images that show it."""

    name: str
    median: Beside


class Realism(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured.

    Attributes
    ----------
    frechet
        Distance to the measured split's real images: of generated ones, and of as many of the training split.
    similarity
        Mean SSIM of pairs of different patients: the lower, the more diverse.
    intensities
        Of every foreground class.
    pairs, features
        How many pairs, and of how many numbers an image's features are.
    """

    frechet: Beside
    similarity: Beside
    intensities: tuple[ClassIntensity, ...]
    pairs: int
    features: int


def measure_realism(
    segmenter: Segmenter,
    generated: NDArray[np.float32],
    cases: Cases,
    training_images: NDArray[np.float32],
    *,
    seed: int = 0,
) -> Realism:
    """Measure generated images against the real ones of the same masks.

    Parameters
    ----------
    segmenter
        Trained on real images.
    generated
        (N, H, W, C) float32 in [0, 1], one for each case.
    cases
        The real images and their masks.
    training_images
        (M, H, W, C) float32 in [0, 1], real, of other patients.
    seed
        Of the choice of pairs and of training images.
    """
    rng = np.random.default_rng(seed)
    count = min(len(cases.images), len(training_images))
    others = training_images[np.sort(rng.choice(len(training_images), count, replace=False))]
    real = features(segmenter, cases.images)
    pairs = _pairs(cases.patients, rng)
    return Realism(
        frechet=Beside(
            generated=frechet_distance(features(segmenter, generated), real),
            real=frechet_distance(features(segmenter, others), real),
        ),
        similarity=Beside(generated=_similarity(generated, pairs), real=_similarity(cases.images, pairs)),
        intensities=_intensities(generated, cases),
        pairs=len(pairs),
        features=real.shape[1],
    )


@torch.no_grad()
def features(segmenter: Segmenter, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return features of images, (N, H, W, C) float32 in [0, 1]: (N, features), means over the image."""
    found: list[torch.Tensor] = []
    level = segmenter.network.get_submodule(_LEVEL)
    hook = level.register_forward_hook(lambda module, given, out: found.append(out.mean(dim=(2, 3)).double().cpu()))
    try:
        for start in range(0, len(images), _BATCH):
            x = torch.from_numpy(np.moveaxis(images[start : start + _BATCH], -1, 1).copy())
            segmenter.network(standardize(x.to(next(segmenter.network.parameters()).device)))
    finally:
        hook.remove()
    return torch.cat(found).numpy()


def frechet_distance(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the Frechet distance of two sets of features, (N, features) each, as normal distributions.

        |m1 - m2|^2 + trace(S1 + S2 - 2 sqrt(S1 S2)),  trace(sqrt(S1 S2)) = sum of the roots of S1 S2's eigenvalues

    MONAI's own needs an argument of SciPy's matrix root that SciPy has deprecated.
    """
    means, covariances = zip(*((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (some, others)), strict=True)
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1])
    root = np.sqrt(eigenvalues.real.clip(0)).sum()  # they are real and not negative, but for rounding
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1]) - 2 * root)


def _pairs(patients: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return pairs of images of different patients, (pairs, 2)."""
    drawn = rng.integers(0, len(patients), (4 * _PAIRS, 2))
    apart: NDArray[np.int64] = drawn[patients[drawn[:, 0]] != patients[drawn[:, 1]]]
    return apart[:_PAIRS]


def _similarity(images: NDArray[np.float32], pairs: NDArray[np.int64]) -> float:
    if not len(pairs):
        return float("nan")
    channels_first = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    metric = SSIMMetric(spatial_dims=2, data_range=1.0, win_size=min(11, *images.shape[1:3]) // 2 * 2 - 1)
    values = metric(channels_first[pairs[:, 0]], channels_first[pairs[:, 1]])
    return float(torch.as_tensor(values).mean())


def _intensities(generated: NDArray[np.float32], cases: Cases) -> tuple[ClassIntensity, ...]:
    found = []
    for label, name in enumerate(cases.class_names[1:], start=1):
        where = cases.label_maps == label
        shown = np.flatnonzero(where.any(axis=(1, 2)))
        if len(shown):
            found.append(
                ClassIntensity(
                    name=name,
                    median=Beside(generated=_median(generated, where, shown), real=_median(cases.images, where, shown)),
                )
            )
    return tuple(found)


def _median(images: NDArray[np.float32], where: NDArray[np.bool_], shown: Sequence[int] | NDArray[np.int64]) -> float:
    return float(np.mean([np.median(images[image][where[image]]) for image in shown]))
