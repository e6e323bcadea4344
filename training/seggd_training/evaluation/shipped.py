"""A segmenter made ready for a bundle: its network, how good it is on real images, and what grey levels classes have.

Intensities are of the training split, which the generating network should have been trained on: an image outside their
range is one that no training image would have led to expect. How good the segmenter is, is measured on the validation
split, and stated only where it was trained on this data's training split: another may have seen those images.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seggd_export.graphs import MakeSegmenter, ShippedSegmenter
from seggd_rt.bundle import ClassIntensity, Meaning, RealDice
from seggd_rt.imaging import PLAIN, Reading
from seggd_rt.runs import shown_dice, shown_medians
from seggd_training.data import Dataset, Split, check_apart, has_split, to_unit
from seggd_training.evaluation.measures import choose_cases, column_means, patient_dice
from seggd_training.evaluation.real_data import load_split
from seggd_training.evaluation.segmenter import POOR_DICE, PoorSegmenterWarning, Segmenter, given_segmenter, standardize

PERCENTILES = (1.0, 99.0)
"""Of the training images' medians: one image in fifty lies outside for each class."""
_LOW_DICE = 5.0
"""Percentile of the Dice of single real images that the manifest states."""


class UnknownDiceWarning(UserWarning):
    """How good a shipped segmenter is on real images is not stated."""


class _WithStandardizing(nn.Module):
    """From images in [0, 1] to scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(standardize(images))
        return scores


def segmenter_to_ship(path: Path, data: Path, reading: Reading = PLAIN) -> MakeSegmenter:
    """Return what makes the segmenter of a bundle.

    Parameters
    ----------
    path
        A segmenter of `seggd-rt evaluate`.
    data
        Real images: the training split for intensities, the validation split, if there is one, for Dice.
    reading
        How volumes among them are cut, and what their segments are.

    Raises
    ------
    CheckpointError
        When called: the file is no segmenter.
    OptionError
        It is for other images or classes than the bundle's.
    DataError
        The data cannot be read, has no training images, is not the bundle's, or has patients in both splits.
    """

    def make(meaning: Meaning) -> ShippedSegmenter:
        train_set = load_split(data, Split.TRAIN, meaning, reading)
        origin = given_segmenter(path, train_set, device=torch.device("cpu"))
        real = None
        if not origin.on_this_data:
            _warn(f"{path} was trained on other images than the training split of {data}, so it may know its others")
        elif not has_split(data, Split.VAL):
            _warn(f"{data} has no validation images")
        else:
            held_out = load_split(data, Split.VAL, meaning, reading)
            check_apart(train_set, held_out)
            real = real_dice(origin.segmenter, held_out, f"{data.name}, {Split.VAL}")
            if not real.per_patient >= POOR_DICE:
                warnings.warn(
                    f"{path} reaches a Dice of {real.per_patient:.3f} only on real images, so that of generated ones "
                    "says little: train it longer, or on more images",
                    PoorSegmenterWarning,
                    stacklevel=2,
                )
        return ShippedSegmenter(
            network=_WithStandardizing(origin.segmenter.network).eval(),
            percentiles=PERCENTILES,
            intensities=class_intensities(train_set),
            real=real,
        )

    return make


def class_intensities(dataset: Dataset) -> tuple[ClassIntensity, ...]:
    """Return the bounds of each foreground class's median intensity, in [0, 1], of the classes that images show."""
    ids = range(1, len(dataset.classes))
    medians: dict[int, list[float]] = {k: [] for k in ids}
    for image, label_map in zip(dataset.images, dataset.label_maps, strict=True):
        for k, median in shown_medians(to_unit(image), label_map, ids).items():
            medians[k].append(median)
    found = []
    for k, values in medians.items():
        if values:
            low, high = np.percentile(values, PERCENTILES)
            found.append(ClassIntensity(name=dataset.classes[k].name, low=float(low), high=float(high)))
    return tuple(found)


def real_dice(segmenter: Segmenter, held_out: Dataset, name: str) -> RealDice:
    """Measure a segmenter on real images that it has not seen, by patient and, as the check does, image by image."""
    cases = choose_cases(held_out)
    found = segmenter(cases.images)
    by_patient = patient_dice(found, cases.label_maps, cases.patients, len(cases.class_names))[1]
    dices = [
        np.mean(list(shown.values()))
        for ours, theirs in zip(found, cases.label_maps, strict=True)
        if (shown := shown_dice(ours, theirs, range(1, len(cases.class_names))))
    ]
    return RealDice(
        data=name,
        images=len(cases.indices),
        patients=None if held_out.patients is None else len(np.unique(held_out.patients)),
        per_patient=float(np.nanmean(column_means(by_patient))),
        per_image=float(np.mean(dices)),
        per_image_low=float(np.percentile(dices, _LOW_DICE)),
    )


def _warn(why: str) -> None:
    warnings.warn(
        f"how good the segmenter is on real images is not stated in the bundle: {why}", UnknownDiceWarning, stacklevel=3
    )
