"""Does a generated image show its mask? A segmenter trained on real images tells, on generated and on real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seggd_training.evaluation.measures.cases import Cases, SegmentImages
from seggd_training.evaluation.measures.scores import Scores, score


@dataclass(frozen=True)
class Faithfulness:
    """What came out: images, (N, H, W, C) float32; the segmenter's label maps, (N, H, W) uint8; and their scores."""

    generated_images: NDArray[np.float32]
    generated_labels: NDArray[np.uint8]
    real_labels: NDArray[np.uint8]
    generated: Scores
    real: Scores


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
