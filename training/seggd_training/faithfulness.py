"""Does a generated image show its mask? A segmenter trained on real images tells, on generated and on real ones.

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

from seggd_rt.generator import EmptyMaskWarning
from seggd_rt.noise import derive_seed
from seggd_training.dice import Scores, score

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


@dataclass(frozen=True)
class Faithfulness:
    """What came out: images, (N, H, W, C) float32; the segmenter's label maps, (N, H, W) uint8; and their scores."""

    generated_images: NDArray[np.float32]
    generated_labels: NDArray[np.uint8]
    real_labels: NDArray[np.uint8]
    generated: Scores
    real: Scores


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


def measure_faithfulness(
    segmenter: SegmentImages, generated_images: NDArray[np.float32], cases: Cases, *, seed: int = 0
) -> Faithfulness:
    """Segment generated and real images alike, and score both against the masks.

    Parameters
    ----------
    segmenter
        Has never seen a generated image.
    generated_images
        (N, H, W, C) float32 in [0, 1], one a case.
    seed
        Of the bootstrap.

    Raises
    ------
    DataError
        No mask has any foreground.
    """
    generated_labels, real_labels = segmenter(generated_images), segmenter(cases.images)

    def scored(label_maps: NDArray[np.uint8]) -> Scores:
        return score(label_maps, cases.label_maps, cases.patients, cases.class_names, seed=seed)

    return Faithfulness(
        generated_images, generated_labels, real_labels, generated=scored(generated_labels), real=scored(real_labels)
    )
