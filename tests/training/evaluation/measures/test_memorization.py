"""A generator that repeats training images is found; one that draws new ones is not."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("monai", reason="monai is not installed: pip install 'seggd-rt[eval]'")

from seggd_rt.diffusion import name_classes
from seggd_rt.errors import DataError
from seggd_training.data import Dataset, to_unit
from seggd_training.evaluation.measures import NEAR, QUANTILES, Cases, Estimate, Memorisation, measure_memorisation
from seggd_training.evaluation.measures import memorization as memorisation
from seggd_training.evaluation.measures.nearest import Nearest
from seggd_training.evaluation.report import render_closest
from seggd_training.evaluation.report.tabulation import memorisation_tables
from seggd_training.evaluation.segmenter import Segmenter, SegmenterConfig

SIZE, COUNT = 24, 40
FEATURES = (8, 8, 8, 64, 8, 8)
"""64 at the level that is compared: few features tell no image from another."""
Images = NDArray[np.float32]


def new_images(count: int, seed: int) -> Images:
    """Smooth random fields, none like another, under a little noise: (N, 24, 24, 1) float32 in [0, 1]."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0.1, 0.9, (count, 1, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, size=[SIZE, SIZE], mode="bicubic").numpy()
    noisy = smooth + rng.normal(0, 0.03, smooth.shape)
    return np.moveaxis(noisy, 1, -1).clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    config = SegmenterConfig(channels=1, height=SIZE, width=SIZE, classes=("background", "a"), features=FEATURES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Segmenter(config, "0" * 64, config.build().eval())


@pytest.fixture(scope="module")
def training() -> Dataset:
    images = np.rint(new_images(150, seed=1) * 255).astype(np.uint8)
    return Dataset(
        images=images,
        label_maps=np.ones(images.shape[:3], np.uint8),
        classes=name_classes(["background", "a"]),
        names=tuple(f"train {i}" for i in range(150)),
        patients=np.arange(150) // 5,
    )


@pytest.fixture(scope="module")
def cases() -> Cases:
    images = new_images(COUNT, seed=2)
    return Cases(
        indices=np.arange(COUNT) + 100,
        label_maps=np.ones(images.shape[:3], np.uint8),
        images=images,
        patients=np.arange(COUNT) // 4 + 1000,
        titles=tuple(map(str, range(COUNT))),
        class_names=("background", "a"),
    )


@pytest.fixture(scope="module")
def measured(segmenter: Segmenter, training: Dataset, cases: Cases) -> Memorisation:
    return measure_memorisation(segmenter, new_images(COUNT, seed=3), cases, training)[0]


def copied(training: Dataset, chosen: NDArray[np.int64]) -> Images:
    """Training images of another brightness and contrast, slightly noised."""
    noise = np.random.default_rng(4).normal(0, 0.02, (len(chosen), SIZE, SIZE, 1))
    return (0.8 * to_unit(training.images[chosen]) + 0.1 + noise).clip(0, 1).astype(np.float32)


def test_a_generator_that_draws_new_images_is_not_accused(
    segmenter: Segmenter, training: Dataset, cases: Cases
) -> None:
    found, _ = measure_memorisation(segmenter, new_images(COUNT, seed=3), cases, training)
    assert (found.copies, found.real_copies) == (0, 0)
    for distances in (found.pixels, found.features):
        assert distances.ratio is not None
        assert distances.ratio.low < 1 < distances.ratio.high or 0.9 < distances.ratio.mean < 1.1
        assert distances.nearer_than_near.mean < 0.2 and distances.nearer_than_all.mean < 0.15
        assert distances.nearer_than_near.count == 10, "intervals are over patients"
    assert (found.images, found.patients) == (150, 30)


def test_a_generator_that_repeats_training_images_is_found(
    segmenter: Segmenter, training: Dataset, cases: Cases
) -> None:
    chosen = np.arange(COUNT) * 3
    found, _ = measure_memorisation(segmenter, copied(training, chosen), cases, training)
    assert (found.copies, found.real_copies) == (COUNT, 0)
    assert found.pixels.ratio is not None and found.pixels.ratio.high < 0.3
    assert found.pixels.at(1.0).generated.high < found.pixels.at(0).real.low, "all are nearer than any real image"
    assert found.pixels.nearer_than_all.low == found.pixels.nearer_than_near.low == 1
    assert found.features.ratio is not None and found.features.ratio.high < 0.8
    assert found.features.nearer_than_near.low > 0.7
    assert {match.training: match.mask for match in found.closest}.items() <= {
        f"train {number}": case + 100 for case, number in enumerate(chosen)
    }.items()


def test_three_copies_among_forty_are_found_and_shown(segmenter: Segmenter, training: Dataset, cases: Cases) -> None:
    images, places, chosen = new_images(COUNT, seed=3), [5, 17, 33], np.array([140, 2, 77])
    images[places] = copied(training, chosen)
    found, pairs = measure_memorisation(segmenter, images, cases, training)
    assert found.copies == 3 and found.real_copies == 0
    assert {(match.mask - 100, match.training) for match in found.closest[:3]} == {
        (place, f"train {number}") for place, number in zip(places, chosen, strict=True)
    }
    assert found.pixels.nearer_than_all.mean >= 3 / COUNT
    assert [pair.label.split("\n")[0] for pair in pairs] == ["generated"] * 8 + ["real"] * 4
    assert {pair.training for pair in pairs[:3]} == set(chosen.tolist())
    sheet = render_closest(pairs, training.images)
    assert sheet.height > 12 * 128 and sheet.width > 3 * 128


def test_an_image_that_is_too_near_in_features_alone_is_a_copy_too(
    segmenter: Segmenter, training: Dataset, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As turned and shifted copies are: far in pixels, near in features."""
    far = Nearest(np.full(2 * COUNT, 1.0), np.zeros(2 * COUNT, np.int64))
    near = Nearest(np.where(np.arange(2 * COUNT) == 7, 0.49, 1.0), far.index)
    monkeypatch.setattr(memorisation, "nearest_in_pixels", lambda *_: far)
    monkeypatch.setattr(memorisation, "nearest_in_features", lambda *_: near)
    found, _ = measure_memorisation(segmenter, cases.images, cases, training)
    assert (found.copies, found.real_copies) == (1, 0)
    monkeypatch.setattr(memorisation, "nearest_in_features", lambda *_: replace(near, distance=near.distance + 0.02))
    assert measure_memorisation(segmenter, cases.images, cases, training)[0].copies == 0


def test_held_out_images_that_are_copies_are_told_apart(segmenter: Segmenter, training: Dataset, cases: Cases) -> None:
    """One held-out image that lies in the training split too must not hide what the generator copies."""
    leaky = replace(cases, images=np.concatenate([copied(training, np.array([9])), cases.images[1:]]))
    found, _ = measure_memorisation(segmenter, copied(training, np.arange(COUNT)), leaky, training)
    assert (found.copies, found.real_copies) == (COUNT, 1)


def test_the_same_images_have_the_same_figures(segmenter: Segmenter, training: Dataset, cases: Cases) -> None:
    found, _ = measure_memorisation(segmenter, cases.images, cases, training, seed=3)
    for pair in (*found.pixels.quantiles, *found.features.quantiles):
        assert pair.generated == pair.real
    assert found.pixels.ratio is not None
    assert (found.pixels.ratio.low, found.pixels.ratio.mean, found.pixels.ratio.high) == (1, 1, 1)
    assert found.pixels.nearer_than_all.high == 0 and found.pixels.nearer_than_near.mean <= NEAR
    assert found == measure_memorisation(segmenter, cases.images, cases, training, seed=3)[0]
    assert msgspec.json.decode(msgspec.json.encode(found), type=Memorisation) == found


def test_intervals_are_of_draws_of_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantiles and shares of each draw are those of its images written out, as often as they are drawn."""
    rng = np.random.default_rng(0)
    generated, real, weights = rng.random(12), rng.random(12), rng.integers(0, 4, (50, 12)).astype(float)
    weights[0] = 0
    weights[0, 3] = 2
    figures = memorisation._figures(generated, real, weights)
    for row, taken in zip(figures, weights.astype(int), strict=True):
        drawn, held_out = np.repeat(generated, taken), np.repeat(real, taken)
        expected = [np.quantile(values, QUANTILES, method="inverted_cdf") for values in (drawn, held_out)]
        near, nearest = (np.mean(drawn < bound) for bound in (expected[1][1], held_out.min()))
        ratio = expected[0][10] / expected[1][10]
        np.testing.assert_allclose(row, [*expected[0], *expected[1], near, nearest, ratio])
    patients = np.repeat([7, 3, 5], [2, 7, 3])
    monkeypatch.setattr(memorisation, "_BLOCK", 100)
    blocks = list(memorisation._image_weights(patients, seed=0))
    assert max(map(len, blocks)) == 8 and sum(map(len, blocks)) == 10_000
    for block in blocks[:9]:
        assert (block[:, [0, 2, 9]].sum(axis=1) == 3).all(), "as many patients as there are"
        assert (block == block[:, np.repeat([0, 2, 9], [2, 7, 3])]).all(), "a patient's images go together"


def test_training_images_that_show_nothing_are_left_out(segmenter: Segmenter, training: Dataset, cases: Cases) -> None:
    """A black slice is as near to any black image as can be, and no copy of a patient."""
    images = training.images.copy()
    images[::2] = 7
    black = np.zeros_like(cases.images)
    found, pairs = measure_memorisation(segmenter, black, cases, replace(training, images=images))
    assert found.images == 75 and found.copies == 0
    assert all(pair.training % 2 for pair in pairs)
    odd = np.arange(COUNT) * 2 + 1
    found, _ = measure_memorisation(segmenter, copied(training, odd), cases, replace(training, images=images))
    assert all(match.training == f"train {odd[match.mask - 100]}" for match in found.closest)
    with pytest.raises(DataError, match="every training image is of one grey level"):
        measure_memorisation(segmenter, black, cases, replace(training, images=np.zeros_like(images)))


def test_tables_say_what_to_expect(segmenter: Segmenter, training: Dataset, cases: Cases) -> None:
    found, _ = measure_memorisation(segmenter, copied(training, np.arange(COUNT)), cases, training)
    distances, verdict = memorisation_tables(found, COUNT)
    assert "150 training images of 30 patients" in distances.title
    assert [row[0] for row in distances.rows] == [
        f"{space}, {name}" for space in ("pixels", "features") for name in ("median", "nearest 5%", "nearest")
    ]
    assert verdict.rows[-1] == ("as far as real images", "1", "0.05", "0")
    assert "Taken for copies: 40 of 40 generated images, and 0 of as many real ones" in verdict.caption
    blind = msgspec.structs.replace(found, pixels=msgspec.structs.replace(found.pixels, ratio=None), patients=None)
    assert memorisation_tables(blind, COUNT)[1].rows[0][1] == "-"


@pytest.mark.parametrize(
    ("ratio", "near", "said"),
    [
        (
            (1.05, 1.02, 1.08),
            (0.01, 0.0, 0.02),
            "generated image is farther from the training images than the median real one, and fewer than 5%",
        ),
        ((0.9, 0.8, 0.95), (0.2, 0.1, 0.3), "nearer to the training images than the median real one, and more than 5%"),
        ((0.98, 0.9, 1.1), (0.06, 0.01, 0.2), "do not differ beyond the interval, and about 5%"),
        (None, (0.06, 0.01, 0.2), "medians cannot be compared, as that of real images is 0, and about 5%"),
    ],
)
def test_the_conclusion_follows_from_the_figures(
    ratio: tuple[float, float, float] | None, near: tuple[float, float, float], said: str, measured: Memorisation
) -> None:
    def estimate(values: tuple[float, float, float], count: int = 10) -> Estimate:
        mean, low, high = values
        return Estimate(mean=mean, low=low, high=high, count=count)

    far = msgspec.structs.replace(
        measured.pixels, ratio=None if ratio is None else estimate(ratio), nearer_than_near=estimate(near)
    )
    caption = memorisation_tables(msgspec.structs.replace(measured, pixels=far), COUNT)[1].caption
    assert said in caption.partition("In pixels ")[2].partition("In features ")[0]
    assert "smoother" not in caption
    one = msgspec.structs.replace(far, nearer_than_near=estimate(near, count=1))
    caption = memorisation_tables(msgspec.structs.replace(measured, pixels=one), COUNT)[1].caption
    assert "In pixels the figures are of one patient and have no intervals: they decide nothing." in caption
