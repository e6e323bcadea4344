"""How real generated images look: distances of distributions, diversity, and grey levels, each beside its zero line.

The Frechet distance of few images is biased upwards, so what counts is that of generated images over that of as many
real ones of other patients, the training split's. That zero line is a little high: the segmenter was trained on those
images, and they are of other masks and patients, while generated images have the measured ones' masks. The segmenter
sees images standardised, so that brightness and contrast do not count; grey levels have figures of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_training.data import Levels, to_unit
from seggd_training.evaluation.measures.bootstrap import Estimate, estimate_images, interval, resample
from seggd_training.evaluation.measures.cases import Cases
from seggd_training.evaluation.measures.frechet import FeatureSet, measure_distance
from seggd_training.evaluation.measures.similarity import ssim
from seggd_training.evaluation.segmenter import FeatureGraph, Segmenter, segmenter_features

_PAIRS = 300


class Beside(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure of generated images, and the same of real ones."""

    generated: Estimate
    real: Estimate


class ClassIntensity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Median grey level, in [0, 1], of a class's pixels, averaged over the images that show it."""

    name: str
    median: Beside


class GraphDistance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Frechet distance in the features of a network that was given as an ONNX graph."""

    graph: str
    sha256: str
    features: int
    frechet: Beside


class Realism(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured.

    Attributes
    ----------
    frechet
        Distance to the measured split's real images: of generated ones, and of as many of the training split, or all.
    similarity
        Mean SSIM of pairs of different patients: the lower, the more diverse. None of a single patient.
    intensities
        Of every foreground class.
    pairs, features
        How many pairs, and of how many numbers an image's features are.
    other
        The distance in the features of another network, where one was given.
    """

    frechet: Beside
    similarity: Beside | None
    intensities: tuple[ClassIntensity, ...]
    pairs: int
    features: int
    other: GraphDistance | None = None


@dataclass(frozen=True)
class RealImages:
    """Real images, (M, H, W, C) as levels, and whose they are, (M,)."""

    images: Levels
    patients: NDArray[np.generic]


def measure_realism(
    segmenter: Segmenter,
    generated: NDArray[np.float32],
    cases: Cases,
    training: RealImages,
    *,
    graph: FeatureGraph | None = None,
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
    training
        Real images of other patients.
    graph
        Another network for a Frechet distance.
    seed
        Of the choice of pairs and of training images, and of the intervals.
    """
    rng = np.random.default_rng(seed)
    count = min(len(cases.images), len(training.images))
    chosen = np.sort(rng.choice(len(training.images), count, replace=False))
    sets = (
        (generated, cases.patients),
        (to_unit(training.images[chosen]), training.patients[chosen]),
        (cases.images, cases.patients),
    )
    own = [FeatureSet(segmenter_features(segmenter, images), patients) for images, patients in sets]
    other = None
    if graph is not None:
        theirs = [FeatureSet(graph(images), patients) for images, patients in sets]
        other = GraphDistance(
            graph=graph.path.name,
            sha256=graph.sha256,
            features=theirs[0].values.shape[1],
            frechet=_distances(*theirs, seed=seed),
        )
    pairs = _pairs(cases.patients, rng)
    return Realism(
        frechet=_distances(*own, seed=seed),
        similarity=Beside(
            generated=_similarity(generated, pairs, cases.patients, seed),
            real=_similarity(cases.images, pairs, cases.patients, seed),
        )
        if len(pairs)
        else None,
        intensities=_intensities(generated, cases, seed),
        pairs=len(pairs),
        features=own[0].values.shape[1],
        other=other,
    )


def _distances(generated: FeatureSet, others: FeatureSet, real: FeatureSet, *, seed: int) -> Beside:
    return Beside(
        generated=measure_distance(generated, real, seed=seed).estimate(),
        real=measure_distance(others, real, seed=seed).estimate(),
    )


def _pairs(patients: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return pairs of images of different patients, (pairs, 2)."""
    drawn = rng.integers(0, len(patients), (4 * _PAIRS, 2))
    apart: NDArray[np.int64] = drawn[patients[drawn[:, 0]] != patients[drawn[:, 1]]]
    return apart[:_PAIRS]


def _similarity(
    images: NDArray[np.float32], pairs: NDArray[np.int64], patients: NDArray[np.generic], seed: int
) -> Estimate:
    """Estimate the mean SSIM of pairs: a draw takes a pair as often as it takes its one patient times the other."""
    ids, whose = np.unique(patients, return_inverse=True)
    values = ssim(images[pairs[:, 0]], images[pairs[:, 1]])
    blocks = []
    for taken in resample(len(ids), seed=seed):
        weights = taken[:, whose[pairs[:, 0]]] * taken[:, whose[pairs[:, 1]]]
        total = weights.sum(axis=1)
        blocks.append(np.divide(weights @ values, total, out=np.full(len(total), np.nan), where=total > 0))
    return interval(float(values.mean()), np.concatenate(blocks), len(ids))


def _intensities(generated: NDArray[np.float32], cases: Cases, seed: int) -> tuple[ClassIntensity, ...]:
    found = []
    for label, name in enumerate(cases.class_names[1:], start=1):
        where = cases.label_maps == label
        drawn, real = (
            estimate_images(_medians(images, where), cases.patients, seed=seed) for images in (generated, cases.images)
        )
        if drawn is not None and real is not None:
            found.append(ClassIntensity(name=name, median=Beside(generated=drawn, real=real)))
    return tuple(found)


def _medians(images: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each image's median grey level where a class is, (N,); NaN where it is not."""
    return np.array(
        [np.median(image[shown]) if shown.any() else np.nan for image, shown in zip(images, where, strict=True)]
    )
