"""What synthetic pairs are good for: a segmenter trained on them alone, tested on real patients.

One image is drawn for every training mask. Three segmenters of one configuration are trained, on the real pairs, on the
synthetic ones and on both, for as many steps, and find the organs of real patients that none has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from seggd_training.data import Dataset, Levels
from seggd_training.evaluation.measures.bootstrap import Estimate, estimate_change
from seggd_training.evaluation.measures.cases import Cases, SegmentImages
from seggd_training.evaluation.measures.scores import Scores, patient_dice, score

TrainOn = Callable[[Dataset, str], SegmentImages]
"""Trains a segmenter on a data set, which the name is for."""


class UseScores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores, on real images, of segmenters trained on real pairs, on synthetic ones, and on both.

    Attributes
    ----------
    synthetic_less_real, both_less_real
        Differences of the mean Dice, of the same resampled patients.
    pairs
        How many synthetic ones, as many as real ones.
    """

    real: Scores
    synthetic: Scores
    both: Scores
    synthetic_less_real: Estimate | None
    both_less_real: Estimate | None
    pairs: int


def measure_use(
    real_segmenter: SegmentImages, train: TrainOn, real: Dataset, drawn: Levels, cases: Cases, *, seed: int
) -> UseScores:
    """Train on synthetic pairs, and test on real images.

    Parameters
    ----------
    real_segmenter
        Trained on `real`.
    train
        Trains another in the same way.
    real
        The training split.
    drawn
        (M, H, W, C) of the type of its images: one drawn for each of its masks.
    cases
        Real images of other patients.
    seed
        Of the bootstrap.
    """
    synthetic = replace(real, images=drawn)
    both = replace(
        real,
        images=np.concatenate([real.images, synthetic.images]),
        label_maps=np.concatenate([real.label_maps, real.label_maps]),
        names=real.names + real.names,
        patients=None if real.patients is None else np.concatenate([real.patients, real.patients]),
    )
    segmenters = {
        "real": real_segmenter,
        "synthetic": train(synthetic, "synthetic"),
        "both": train(both, "both"),
    }
    label_maps = {name: segmenter(cases.images) for name, segmenter in segmenters.items()}
    dices = {
        name: patient_dice(found, cases.label_maps, cases.patients, len(cases.class_names))[1]
        for name, found in label_maps.items()
    }
    scores = {
        name: score(found, cases.label_maps, cases.patients, cases.class_names, seed=seed)
        for name, found in label_maps.items()
    }
    return UseScores(
        **scores,
        synthetic_less_real=estimate_change(dices["synthetic"], dices["real"], seed=seed),
        both_less_real=estimate_change(dices["both"], dices["real"], seed=seed),
        pairs=len(drawn),
    )
