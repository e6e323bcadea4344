"""Measures of how real images look, each against what is known of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("monai", reason="monai is not installed: pip install 'seggd-rt[eval]'")

from seggd_training.faithfulness import Cases
from seggd_training.realism import features, frechet_distance, measure_realism
from seggd_training.segmenter import Segmenter, SegmenterConfig

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    config = SegmenterConfig(channels=1, height=16, width=16, classes=("background", "a", "b"), features=(8,) * 6)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Segmenter(config, "0" * 64, config.build().eval())


def make_cases(count: int, seed: int = 1) -> Cases:
    rng = np.random.default_rng(seed)
    label_maps = np.zeros((count, 16, 16), np.uint8)
    label_maps[:, 2:8, 2:8], label_maps[::2, 9:14, 9:14] = 1, 2
    images = np.select([label_maps == 1, label_maps == 2], [0.5, 0.8], 0.1)[..., None]
    images = images + rng.normal(0, 0.02, images.shape)
    return Cases(
        indices=np.arange(count),
        label_maps=label_maps,
        images=images.astype(np.float32),
        patients=np.arange(count) // 4,
        titles=tuple(map(str, range(count))),
        class_names=("background", "a", "b"),
    )


def test_the_distance_of_normal_distributions_is_known() -> None:
    some = RNG.standard_normal((20_000, 3))
    assert frechet_distance(some, some) == pytest.approx(0, abs=1e-5)
    # |mean difference|^2 + trace(1 + 4 - 2 * 2) a feature
    other = 2 * RNG.standard_normal((20_000, 3)) + np.array([3, 0, 0])
    assert frechet_distance(some, other) == pytest.approx(9 + 3, rel=0.05)


def test_features_are_of_each_image_alone(segmenter: Segmenter) -> None:
    images = make_cases(40).images
    found = features(segmenter, images)
    assert found.shape == (40, 8)
    np.testing.assert_allclose(features(segmenter, images[33:35]), found[33:35], rtol=1e-4)
    assert not segmenter.network.get_submodule("down_3")._forward_hooks


def test_real_images_are_real(segmenter: Segmenter) -> None:
    cases = make_cases(40)
    found = measure_realism(segmenter, cases.images, cases, make_cases(60, seed=2).images)
    assert found.frechet.generated == pytest.approx(0, abs=1e-3)
    assert found.similarity.generated == found.similarity.real
    assert found.intensities[0].name == "a"
    assert found.intensities[0].median.real == pytest.approx(0.5, abs=0.01)
    assert found.intensities[1].median.generated == pytest.approx(0.8, abs=0.01)
    assert found == measure_realism(segmenter, cases.images, cases, make_cases(60, seed=2).images)


def spoiled(images: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    if how == "noise":
        return np.random.default_rng(3).uniform(0, 1, images.shape).astype(np.float32)
    if how == "alike":
        return np.repeat(images[:1], len(images), axis=0)
    return images * np.float32(0.5)


@pytest.mark.parametrize("how", ["noise", "alike", "dark"])
def test_images_that_are_not_real_are_told(segmenter: Segmenter, how: str) -> None:
    cases = make_cases(40)
    found = measure_realism(segmenter, spoiled(cases.images, how), cases, make_cases(60, seed=2).images)
    if how == "noise":
        assert found.frechet.generated > 4 * found.frechet.real
    if how == "alike":
        assert found.similarity.generated == pytest.approx(1)
        assert found.similarity.real < 0.99
    if how == "dark":
        assert found.intensities[0].median.generated == pytest.approx(0.25, abs=0.01)
