"""How well images follow masks that show some of the classes, and whether the others are inferred.

For each size of subset every mask is drawn once from a random subset of that size, from the same seed each time. The
segmenter's label maps are scored against the whole masks: for the classes that were given, and for those that were not,
which only the anatomy around them can tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_rt.diffusion import derive_seed
from seggd_rt.inference import EmptyMaskWarning
from seggd_training.evaluation.measures.bootstrap import Estimate, estimate_mean
from seggd_training.evaluation.measures.cases import Cases, OnImages, SegmentImages
from seggd_training.evaluation.measures.scores import patient_dice


class DrawSubsets(Protocol):
    """What draws images from masks, each with classes of its own: `seggd_rt.Generator`, or a test's stand-in."""

    def __call__(
        self,
        mask: NDArray[np.uint8],
        /,
        *,
        seeds: Sequence[int],
        keep_each: Sequence[Iterable[str]],
        steps: int | None,
    ) -> NDArray[np.float32]:
        """Draw (N, H, W[, C]) float32 in [0, 1] from (N, H, W) uint8."""


class SubsetScores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dice of images drawn from so many classes: of those given, and of the others; None where there are none.

    Attributes
    ----------
    empty
        Images whose mask shows none of the classes that it was given: they are drawn from no foreground at all.
    """

    size: int
    given: Estimate | None
    others: Estimate | None
    empty: int


def measure_ablation(
    generator: DrawSubsets,
    segmenter: SegmentImages,
    cases: Cases,
    *,
    seed: int,
    steps: int | None = None,
    batch: int = 8,
    on_images: OnImages | None = None,
) -> tuple[SubsetScores, ...]:
    """Draw and score every case for every size of subset, smallest first.

    Parameters
    ----------
    generator, segmenter
        Draws the images, and finds label maps in them.
    cases
        Whole masks.
    seed
        The run's: case i has the seed `derive_seed(seed, its index)`, whatever its subset.
    steps, batch
        Of the sampler; and images drawn at a time.
    on_images
        Told how many images are done, of the cases times the classes.
    """
    classes = range(1, len(cases.class_names))
    found = []
    for size in classes:
        given = _choose(cases, size, seed)
        label_maps = np.empty(cases.label_maps.shape, np.uint8)
        for start in range(0, len(label_maps), batch):
            part = slice(start, start + batch)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EmptyMaskWarning)  # a mask need not show its subset's classes
                images = generator(
                    cases.label_maps[part],
                    seeds=[derive_seed(seed, int(index)) for index in cases.indices[part]],
                    keep_each=[[cases.class_names[i] for i in classes if row[i - 1]] for row in given[part]],
                    steps=steps,
                )
            label_maps[part] = segmenter(images.reshape(cases.images[part].shape))
            if on_images is not None:
                on_images((size - 1) * len(label_maps) + min(start + batch, len(label_maps)))
        found.append(
            SubsetScores(
                size=size,
                given=_score(label_maps, cases, given, seed),
                others=_score(label_maps, cases, ~given, seed) if size < len(classes) else None,
                empty=sum(
                    not np.isin(label_map, np.flatnonzero(row) + 1).any()
                    for label_map, row in zip(cases.label_maps, given, strict=True)
                ),
            )
        )
    return tuple(found)


def _choose(cases: Cases, size: int, seed: int) -> NDArray[np.bool_]:
    """Return which classes each case is given, (N, classes), all subsets of a size with equal probability."""
    number = len(cases.class_names) - 1
    subsets = np.array([[i in chosen for i in range(number)] for chosen in combinations(range(number), size)])
    chosen: NDArray[np.bool_] = subsets[
        np.random.default_rng((seed, size)).integers(0, len(subsets), len(cases.indices))
    ]
    return chosen


def _score(label_maps: NDArray[np.uint8], cases: Cases, counted: NDArray[np.bool_], seed: int) -> Estimate | None:
    """Return the mean Dice over classes, pooled per patient over the images in which each class counts."""
    patients = np.unique(cases.patients)
    values = np.full((len(patients), counted.shape[1]), np.nan)
    for c in range(counted.shape[1]):
        images = counted[:, c]
        if images.any():
            ids, rows = patient_dice(
                label_maps[images], cases.label_maps[images], cases.patients[images], len(cases.class_names)
            )
            values[np.searchsorted(patients, ids), c] = rows[:, c]
    return estimate_mean(values, seed=seed)
