"""Dice scores of label maps: pooled per patient, averaged over patients, with a bootstrap interval over patients.

Dice = 2 |A and B| / (|A| + |B|) for the pixels A and B of one class in two label maps. Pooled per patient means over
the whole stack of a patient's images, so that the many pixels of a mid slice count for more than the few of an apex.
Where neither label map has the class there is nothing to measure: that entry is NaN and left out of every mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from monai.metrics.meandice import compute_dice
from numpy.typing import NDArray

from seggd_rt.errors import DataError

BOOTSTRAP_DRAWS = 10_000
CONFIDENCE = 0.95


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mean over patients, with the bounds of its 95 % bootstrap interval and how many patients it is of."""

    mean: float
    low: float
    high: float
    count: int


class ClassScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scores of one class; None where no label map has it.

    Attributes
    ----------
    dice
        Of the per-patient Dice.
    image_dice
        Plain mean of the Dice of single images.
    """

    name: str
    dice: Estimate | None
    image_dice: float | None


class Scores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scores of a set of label maps.

    Attributes
    ----------
    dice
        Mean over the classes of their means over patients.
    image_dice
        Mean over the classes of their means over images.
    per_patient
        Dice of each patient's classes, in the order of `classes`; None where there is nothing to measure.
    """

    classes: tuple[ClassScore, ...]
    dice: Estimate
    image_dice: float
    per_patient: dict[str, tuple[float | None, ...]]


def score(
    predicted: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    patients: NDArray[np.generic],
    class_names: Sequence[str],
    *,
    seed: int = 0,
) -> Scores:
    """Score label maps against their reference.

    Parameters
    ----------
    predicted, reference
        (N, H, W) uint8, ids of the classes.
    patients
        (N,): whose image each is.
    class_names
        Of every label from 0; the background, 0, is not scored.
    seed
        Of the bootstrap.

    Raises
    ------
    DataError
        No label map has any foreground.
    """
    num_classes = len(class_names)
    ids, by_patient = patient_dice(predicted, reference, patients, num_classes)
    by_image = dice(predicted, reference, num_classes)
    if np.isnan(by_patient).all():
        raise DataError("no label map has a foreground pixel: there is nothing to score")
    estimates, mean = bootstrap(by_patient, seed=seed)
    image_means = _column_means(by_image)
    return Scores(
        classes=tuple(
            ClassScore(name=name, dice=estimate, image_dice=_number(image_mean))
            for name, estimate, image_mean in zip(class_names[1:], estimates, image_means, strict=True)
        ),
        dice=mean,
        image_dice=float(np.nanmean(image_means)),
        per_patient={
            str(patient): tuple(_number(value) for value in row) for patient, row in zip(ids, by_patient, strict=True)
        },
    )


def dice(predicted: NDArray[np.uint8], reference: NDArray[np.uint8], num_classes: int) -> NDArray[np.float64]:
    """Return the Dice of each foreground class.

    Parameters
    ----------
    predicted, reference
        (N, ...) uint8 label maps: of images (N, H, W), or of stacks (N, slices, H, W).
    num_classes
        Background included.

    Returns
    -------
    NDArray
        (N, num_classes - 1) float64 in [0, 1]; NaN where neither has the class.
    """
    pair = [torch.from_numpy(np.ascontiguousarray(labels)).long()[:, None] for labels in (predicted, reference)]
    # `ignore_empty` would also leave out a class that is predicted where there is none, which is a miss.
    values = compute_dice(*pair, include_background=False, ignore_empty=False, num_classes=num_classes)
    result: NDArray[np.float64] = values.numpy().astype(np.float64)
    axes = tuple(range(1, predicted.ndim))
    for k in range(1, num_classes):
        result[~((predicted == k) | (reference == k)).any(axis=axes), k - 1] = np.nan
    return result


def patient_dice(
    predicted: NDArray[np.uint8], reference: NDArray[np.uint8], patients: NDArray[np.generic], num_classes: int
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Return the patients, (P,) rising, and the Dice over each one's whole stack, (P, num_classes - 1) float64."""
    ids = np.unique(patients)
    rows = [dice(predicted[None, patients == i], reference[None, patients == i], num_classes) for i in ids]
    return ids, np.concatenate(rows)


def bootstrap(
    values: NDArray[np.float64], *, seed: int, draws: int = BOOTSTRAP_DRAWS
) -> tuple[tuple[Estimate | None, ...], Estimate]:
    """Estimate means over patients, and their mean over classes, by resampling whole patients.

    The percentile bootstrap (Efron and Tibshirani, "An introduction to the bootstrap", chapter 13).

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
    count = len(values)
    # (draws, P): how often each draw takes each patient.
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    known = ~np.isnan(values)
    taken = weights @ known
    sums = weights @ np.where(known, values, 0.0)
    drawn = np.divide(sums, taken, out=np.full_like(sums, np.nan), where=taken > 0)
    means = _column_means(values)
    estimates = tuple(
        _estimate(float(means[c]), drawn[:, c], int(known[:, c].sum())) if known[:, c].any() else None
        for c in range(values.shape[1])
    )
    overall = drawn[~np.isnan(drawn).all(axis=1)]
    mean = _estimate(float(np.nanmean(means)), np.nanmean(overall, axis=1), int(known.any(axis=1).sum()))
    return estimates, mean


def _estimate(mean: float, drawn: NDArray[np.float64], count: int) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Estimate(mean=mean, low=float(low), high=float(high), count=count)


def _column_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each column's mean over its numbers; NaN where it has none."""
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(values.shape[1], np.nan), where=counts > 0)
    return means


def _number(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
