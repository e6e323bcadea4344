from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monai", reason="needs the extra `eval`")

from seggd_rt.errors import DataError
from seggd_training.evaluation.measures import patient_dice
from seggd_training.evaluation.measures.scores import dice, hausdorff, score

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


def test_iou_is_of_the_same_counts() -> None:
    predicted, reference = maps([1, 1, 0, 0], [1, 1, 1, 0]), maps([1, 0, 0, 0], [0, 1, 1, 1])
    (disc, _) = score(predicted, reference, np.array([5, 5]), NAMES).classes
    assert disc.iou is not None and disc.iou.mean == pytest.approx(3 / 6)  # 3 pixels in both, 6 in either
    assert disc.dice is not None and disc.dice.mean == pytest.approx(2 * 3 / (5 + 4))


def test_hausdorff_distance_is_in_pixels_and_of_images_that_show_the_class_twice() -> None:
    square = np.zeros((3, 20, 20), np.uint8)
    square[:, 2:8, 2:8] = 1
    moved = np.roll(square, (0, 5), axis=(1, 2))
    moved[1] = 0
    distances = hausdorff(moved, square, 3)
    assert distances[0, 0] == pytest.approx(5)
    assert np.isnan(distances[1, 0]) and np.isnan(distances[:, 1]).all()
    (disc, ring) = score(moved, square, np.arange(3), NAMES).classes
    assert disc.hd95_px is not None and (disc.hd95_px.mean, disc.hd95_px.count) == (pytest.approx(5), 2)
    assert disc.unmatched == pytest.approx(1 / 3)
    assert ring.hd95_px is None and ring.unmatched is None


def test_one_stray_pixel_of_many_does_not_count_for_the_95_percent_distance() -> None:
    blob = np.zeros((1, 40, 40), np.uint8)
    blob[0, 5:20, 5:20] = 1
    stray = blob.copy()
    stray[0, 39, 39] = 1
    assert hausdorff(stray, blob, 2)[0, 0] == pytest.approx(0)
