from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("monai", reason="needs the extra `eval`")

from seggd_rt.errors import DataError
from seggd_training.dice import bootstrap, dice, patient_dice, score

NAMES = ("background", "disc", "ring")


def maps(*rows: list[int]) -> np.ndarray:
    """Label maps of one row of pixels each."""
    return np.array(rows, np.uint8)[:, None, :]


def test_dice_counts_overlap_and_leaves_out_only_what_is_empty_on_both_sides() -> None:
    values = dice(maps([1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]), maps([1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]), 3)
    assert values[0, 0] == pytest.approx(2 / 3)
    assert values[1, 0] == 0, "a class predicted where there is none is a miss"
    assert values[2, 1] == 0, "a class missed whole is a miss"
    assert np.isnan([values[0, 1], values[1, 1], values[2, 0]]).all()


def test_pooling_weighs_a_patients_pixels_not_its_slices() -> None:
    predicted = maps([1, 1, 1, 1], [0, 0, 0, 1], [2, 0, 0, 0])
    reference = maps([1, 1, 1, 1], [1, 0, 0, 0], [2, 0, 0, 0])
    ids, pooled = patient_dice(predicted, reference, np.array([7, 7, 3]), 3)
    assert ids.tolist() == [3, 7]
    assert pooled[1, 0] == pytest.approx(2 * 4 / (5 + 5))  # the mean over its slices would be 1/2
    assert pooled[0, 1] == 1
    assert np.isnan([pooled[0, 0], pooled[1, 1]]).all()


def test_pooled_dice_equals_numpys_on_random_maps() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, (2, 6, 5, 4)).astype(np.uint8)
    _, pooled = patient_dice(a, b, np.array([0, 0, 0, 0, 1, 1]), 3)
    for k in (1, 2):
        for row, part in enumerate((slice(0, 4), slice(4, 6))):
            x, y = a[part] == k, b[part] == k
            assert pooled[row, k - 1] == pytest.approx(2 * (x & y).sum() / (x.sum() + y.sum()))


def test_bootstrap_interval_is_that_of_normal_theory_and_repeats() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, (60, 2))
    (first, _), mean = bootstrap(values, seed=3)
    assert first is not None
    error = values[:, 0].std(ddof=1) / math.sqrt(60)
    assert first.mean == pytest.approx(values[:, 0].mean())
    assert first.low == pytest.approx(first.mean - 1.96 * error, abs=0.15 * error)
    assert first.high == pytest.approx(first.mean + 1.96 * error, abs=0.15 * error)
    assert mean.mean == pytest.approx(values.mean())
    assert mean.high - mean.low < first.high - first.low
    assert bootstrap(values, seed=3)[1] == mean
    assert bootstrap(values, seed=4)[1] != mean


def test_missing_values_are_left_out_of_means_and_counts() -> None:
    nan = np.nan
    estimates, mean = bootstrap(np.array([[0.5, nan, nan], [0.7, 0.2, nan]]), seed=0)
    assert estimates[0] is not None and estimates[0].mean == pytest.approx(0.6) and estimates[0].count == 2
    assert estimates[1] is not None and estimates[1].low == estimates[1].high == pytest.approx(0.2)
    assert estimates[1].count == 1
    assert estimates[2] is None
    assert mean.mean == pytest.approx(0.4)


def test_score_names_classes_and_patients() -> None:
    predicted, reference = maps([1, 1, 0, 0], [1, 0, 0, 0]), maps([1, 0, 0, 0], [1, 0, 0, 0])
    scores = score(predicted, reference, np.array(["a", "b"]), NAMES)
    disc, ring = scores.classes
    assert disc.name == "disc" and disc.dice is not None
    assert disc.dice.mean == disc.image_dice == scores.dice.mean == pytest.approx((2 / 3 + 1) / 2)
    assert ring.dice is None and ring.image_dice is None
    assert scores.per_patient == {"a": (pytest.approx(2 / 3), None), "b": (1.0, None)}


def test_nothing_to_score_is_an_error() -> None:
    empty = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(DataError, match="foreground"):
        score(empty, empty, np.arange(2), NAMES)
