"""Contact sheets: a row a case, labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seggd_rt.diffusion import LabelClass, colorize
from seggd_rt.imaging import render_grid, rgb
from seggd_training.data import Levels, to_unit
from seggd_training.evaluation.measures import AT, WEIGHTS, Cases, ClosestPair, Faithfulness

COLUMNS = ("mask", "generated", "prediction", "real", "prediction")


def spread_cases(patients: NDArray[np.generic], count: int) -> NDArray[np.int64]:
    """Return up to `count` indices, evenly spread over the images in order of their patients: always the same ones."""
    order = np.argsort(patients, kind="stable")
    count = min(count, len(order))
    return order[(2 * np.arange(count) + 1) * len(order) // (2 * count)].astype(np.int64)


def render_sheet(
    cases: Cases, outcome: Faithfulness, chosen: Sequence[int] | NDArray[np.int64], classes: Sequence[LabelClass]
) -> Image.Image:
    """Draw mask | generated | its prediction | real | its prediction.

    Parameters
    ----------
    cases, outcome
        What was measured, and what came out.
    chosen
        Which cases, a row each.
    classes
        Background first, with their colours.
    """
    rows = [
        (
            colorize(cases.label_maps[case], classes),
            rgb(outcome.generated_images[case]),
            colorize(outcome.generated_labels[case], classes),
            rgb(cases.images[case]),
            colorize(outcome.real_labels[case], classes),
        )
        for case in chosen
    ]
    return render_grid(rows, titles=COLUMNS, labels=[cases.titles[case] for case in chosen], legend=classes)


def render_interpolation(
    cases: Cases,
    images: NDArray[np.float32],
    chosen: Sequence[int] | NDArray[np.int64],
    classes: Sequence[LabelClass],
) -> Image.Image:
    """Draw mask | images from weight 0 to weight 1 | real, a row for each fraction `at` of each case.

    Parameters
    ----------
    cases
        Masks and real images.
    images
        (fractions, weights, chosen, H, W, C) float32 in [0, 1], as `measure_interpolation` returns them.
    chosen, classes
        As for `render_sheet`.
    """
    rows, labels = [], []
    for place, case in enumerate(chosen):
        for a, at in enumerate(AT):
            between = [rgb(images[a, w, place]) for w in range(len(WEIGHTS))]
            rows.append([colorize(cases.label_maps[case], classes), *between, rgb(cases.images[case])])
            labels.append(f"{cases.titles[case]}\nat {at:g}")
    titles = ["mask", *(f"weight {weight:g}" for weight in WEIGHTS), "real"]
    return render_grid(rows, titles=titles, labels=labels, legend=classes)


def render_closest(pairs: Sequence[ClosestPair], training: Levels) -> Image.Image:
    """Draw image | nearest training image | absolute difference, a row a pair; `training` is (M, H, W, C)."""
    rows, labels = [], []
    for pair in pairs:
        nearest = to_unit(training[pair.training])
        rows.append([rgb(pair.image), rgb(nearest), rgb(np.abs(pair.image - nearest))])
        labels.append(pair.label)
    return render_grid(rows, titles=("image", "nearest\ntraining image", "difference"), labels=labels)
