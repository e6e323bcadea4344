"""Dice, IoU and Hausdorff distance of label maps, by class, each a mean over patients with its interval.

Dice = 2 |A and B| / (|A| + |B|) for the pixels A and B of one class in two label maps, IoU = |A and B| / |A or B|.
Both are pooled per patient: over the whole stack of a patient's images, so that the many pixels of a mid slice count
for more than the few of an apex. Where neither label map has the class there is nothing to measure: that entry is NaN
and left out of every mean. The 95 % Hausdorff distance is the larger of the two directions' 95th percentiles of
distances between contours, in pixels; it is of single images that show the class in both label maps, and how many show
it in one of them alone stands beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from numpy.typing import NDArray

from seggd_rt.errors import DataError
from seggd_training.evaluation.measures.bootstrap import Estimate, column_means, estimate_each, estimate_images

_PERCENTILE = 95
_BLOCK = 64
"""Label maps that are compared at a time: one-hot, in 64 bits, they are large."""


class ClassScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scores of one class; None where no label map has it.

    Attributes
    ----------
    dice, iou
        Of the per-patient figures.
    hd95_px
        95 % Hausdorff distance of the images that show the class in both label maps.
    unmatched
        Part, in [0, 1], of the images with the class that show it in one label map alone.
    image_dice
        Plain mean of the Dice of single images.
    """

    name: str
    dice: Estimate | None
    iou: Estimate | None
    hd95_px: Estimate | None
    unmatched: float | None
    image_dice: float | None


class Scores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scores of a set of label maps.

    Attributes
    ----------
    dice, iou
        Mean over the classes of their means over patients.
    image_dice
        Mean over the classes of their means over images.
    per_patient
        Dice of each patient's classes, in the order of `classes`; None where there is nothing to measure.
    """

    classes: tuple[ClassScore, ...]
    dice: Estimate
    iou: Estimate
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
    dices, mean_dice = estimate_each(by_patient, seed=seed)
    ious, mean_iou = estimate_each(by_patient / (2 - by_patient), seed=seed)  # of the same counts
    if mean_dice is None or mean_iou is None:
        raise DataError("no label map has a foreground pixel: there is nothing to score")
    distances = hausdorff(predicted, reference, num_classes)
    image_means = column_means(by_image)
    return Scores(
        classes=tuple(
            ClassScore(
                name=name,
                dice=dices[c],
                iou=ious[c],
                hd95_px=estimate_images(distances[:, c], patients, seed=seed),
                unmatched=_unmatched(predicted == c + 1, reference == c + 1),
                image_dice=_number(image_means[c]),
            )
            for c, name in enumerate(class_names[1:])
        ),
        dice=mean_dice,
        iou=mean_iou,
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
    result = np.empty((len(predicted), num_classes - 1))
    for start in range(0, len(predicted), _BLOCK):
        part = slice(start, start + _BLOCK)
        pair = [
            torch.from_numpy(np.ascontiguousarray(labels[part])).long()[:, None] for labels in (predicted, reference)
        ]
        # `ignore_empty` would also leave out a class that is predicted where there is none, which is a miss.
        result[part] = compute_dice(
            *pair, include_background=False, ignore_empty=False, num_classes=num_classes
        ).numpy()
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


def hausdorff(predicted: NDArray[np.uint8], reference: NDArray[np.uint8], num_classes: int) -> NDArray[np.float64]:
    """Return the 95 % Hausdorff distance of each foreground class, in pixels.

    Parameters
    ----------
    predicted, reference
        (N, H, W) uint8.
    num_classes
        Background included.

    Returns
    -------
    NDArray
        (N, num_classes - 1) float64; NaN where either has not the class.
    """
    found = np.full((len(predicted), num_classes - 1), np.nan)
    for k in range(1, num_classes):
        pair = predicted == k, reference == k
        both = np.flatnonzero(pair[0].any(axis=(1, 2)) & pair[1].any(axis=(1, 2)))
        for start in range(0, len(both), _BLOCK):
            part = both[start : start + _BLOCK]
            masks = [torch.from_numpy(mask[part])[:, None] for mask in pair]
            with warnings.catch_warnings():
                # MONAI 1.5 and 1.6 warn of an argument that they give themselves.
                warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
                distances = compute_hausdorff_distance(*masks, include_background=True, percentile=_PERCENTILE)
            found[part, k - 1] = distances[:, 0].numpy()
    return found


def _unmatched(predicted: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float | None:
    found, wanted = (np.flatnonzero(labels.any(axis=(1, 2))) for labels in (predicted, reference))
    either = np.union1d(found, wanted)
    return len(np.setxor1d(found, wanted)) / len(either) if either.size else None


def _number(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
