"""Whether latent interpolation dials the similarity to a real image, and the mask is still followed.

Every mask is drawn with its own real image mixed in (arXiv 2402.05210, section 2.3), at each weight and each fraction
`at` of the schedule, from the seed that its plain generation has.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_rt.diffusion import derive_seed
from seggd_rt.inference import EmptyMaskWarning
from seggd_training.evaluation.measures.bootstrap import Estimate, estimate_images, estimate_mean
from seggd_training.evaluation.measures.cases import Cases, OnImages, SegmentImages
from seggd_training.evaluation.measures.scores import patient_dice
from seggd_training.evaluation.measures.similarity import mse, ssim

AT = (0.3, 0.6, 0.9)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Interpolate(Protocol):
    """What interpolates: `seggd_rt.Generator.interpolate`, or a test's stand-in."""

    def __call__(
        self,
        mask: NDArray[np.uint8],
        real: NDArray[np.float32],
        /,
        *,
        weight: Sequence[float],
        at: float,
        seed: int,
        steps: int | None,
    ) -> NDArray[np.float32]:
        """Draw (weights, H, W[, C]) float32 in [0, 1] from (H, W) uint8 and (H, W, C) float32 in [0, 1]."""


class InterpolationScores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Similarity to the real image, and Dice against the mask, of one weight at one fraction of the schedule."""

    at: float
    weight: float
    ssim: Estimate | None
    mse: Estimate | None
    dice: Estimate | None


def measure_interpolation(
    interpolate: Interpolate,
    segmenter: SegmentImages,
    cases: Cases,
    *,
    seed: int,
    steps: int | None = None,
    shown: Sequence[int] | NDArray[np.int64] = (),
    on_images: OnImages | None = None,
) -> tuple[tuple[InterpolationScores, ...], NDArray[np.float32]]:
    """Interpolate every case at every weight.

    Parameters
    ----------
    interpolate, segmenter
        Draws the images, and finds label maps in them.
    cases
        Masks and their real images.
    seed, steps
        Of the run, and of the sampler.
    shown
        Cases whose images are returned.
    on_images
        Told how many images are done, of the cases times the weights times the fractions.

    Returns
    -------
    tuple
        The scores, and what was drawn of the cases to show, (fractions, weights, shown, H, W, C) float32 in [0, 1].
    """
    scores: list[InterpolationScores] = []
    kept = np.empty((len(AT), len(WEIGHTS), len(shown), *cases.images.shape[1:]), np.float32)
    for a, at in enumerate(AT):
        images = np.empty((len(WEIGHTS), *cases.images.shape), np.float32)
        for i, (label_map, real) in enumerate(zip(cases.label_maps, cases.images, strict=True)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EmptyMaskWarning)  # the report counts them
                drawn = interpolate(
                    label_map,
                    real,
                    weight=WEIGHTS,
                    at=at,
                    seed=derive_seed(seed, int(cases.indices[i])),
                    steps=steps,
                )
            images[:, i] = drawn.reshape(images[:, i].shape)
            if on_images is not None:
                on_images((a * len(cases.images) + i + 1) * len(WEIGHTS))
        kept[a] = images[:, list(shown)]
        scores += [_score(at, weight, images[w], segmenter, cases, seed) for w, weight in enumerate(WEIGHTS)]
    return tuple(scores), kept


def _score(
    at: float, weight: float, images: NDArray[np.float32], segmenter: SegmentImages, cases: Cases, seed: int
) -> InterpolationScores:
    by_patient = patient_dice(segmenter(images), cases.label_maps, cases.patients, len(cases.class_names))[1]
    return InterpolationScores(
        at=at,
        weight=weight,
        ssim=estimate_images(ssim(images, cases.images), cases.patients, seed=seed),
        mse=estimate_images(mse(images, cases.images), cases.patients, seed=seed),
        dice=estimate_mean(by_patient, seed=seed),
    )
