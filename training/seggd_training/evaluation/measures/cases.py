"""What an evaluation measures: masks with their real images, and how images are drawn from them.

Each mask is drawn once, with a seed that depends on the run's seed and the mask's number alone: nothing is drawn
again and nothing is chosen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seggd_rt.diffusion import derive_seed
from seggd_rt.inference import EmptyMaskWarning
from seggd_training.data import Dataset, to_unit

OnImages = Callable[[int], None]
"""Told how many images are done."""


class DrawImages(Protocol):
    """What draws images from masks: `seggd_rt.Generator`, or a test's stand-in."""

    def __call__(self, mask: NDArray[np.uint8], /, *, seeds: Sequence[int], steps: int | None) -> NDArray[np.float32]:
        """Draw (N, H, W[, C]) float32 in [0, 1] from (N, H, W) uint8, one seed an image."""


class SegmentImages(Protocol):
    """What finds label maps in images: a `Segmenter`, or a test's stand-in."""

    def __call__(self, images: NDArray[np.float32], /) -> NDArray[np.uint8]:
        """Segment (N, H, W, C) float32 in [0, 1] into (N, H, W) uint8."""


@dataclass(frozen=True)
class Cases:
    """What is measured: real images and their masks.

    Attributes
    ----------
    indices
        (N,) int64: each mask's number in its whole split, which decides its seed.
    label_maps
        (N, H, W) uint8.
    images
        (N, H, W, C) float32 in [0, 1], real.
    patients
        (N,): whose image each is; where the data does not say, each is of a patient of its own.
    titles
        N names for a reader, of one or two lines.
    class_names
        Of every label from 0.
    """

    indices: NDArray[np.int64]
    label_maps: NDArray[np.uint8]
    images: NDArray[np.float32]
    patients: NDArray[np.generic]
    titles: tuple[str, ...]
    class_names: tuple[str, ...]


def choose_cases(dataset: Dataset, limit: int | None = None) -> Cases:
    """Return all cases of a split, or `limit` of them, evenly spread; without patients each image is one of its own."""
    total = len(dataset)
    count = total if limit is None else min(limit, total)
    indices = ((2 * np.arange(count) + 1) * total // (2 * count)).astype(np.int64)
    patients: NDArray[np.generic]
    if dataset.patients is None:
        patients, titles = np.arange(total), dataset.names
    else:
        patients = dataset.patients
        titles = tuple(f"patient {patient}\nmask {i}" for i, patient in enumerate(patients))
    return Cases(
        indices=indices,
        label_maps=dataset.label_maps[indices],
        images=to_unit(dataset.images[indices]),
        patients=patients[indices],
        titles=tuple(titles[i] for i in indices),
        class_names=tuple(c.name for c in dataset.classes),
    )


def draw_images(
    generator: DrawImages,
    cases: Cases,
    *,
    seed: int,
    steps: int | None = None,
    batch: int = 8,
    on_images: OnImages | None = None,
) -> NDArray[np.float32]:
    """Draw one image for every mask, from the seed `derive_seed(seed, index)`.

    Parameters
    ----------
    generator
        Draws them.
    seed
        The run's.
    steps
        None for the generator's default.
    batch
        How many are drawn at a time; no image depends on it.
    on_images
        Called after every batch.

    Returns
    -------
    NDArray
        (N, H, W, C) float32 in [0, 1].
    """
    images = np.empty(cases.images.shape, np.float32)
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        seeds = [derive_seed(seed, int(index)) for index in cases.indices[part]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyMaskWarning)  # the report counts them
            drawn = generator(cases.label_maps[part], seeds=seeds, steps=steps)
        images[part] = drawn.reshape(images[part].shape)
        if on_images is not None:
            on_images(min(start + batch, len(images)))
    return images
