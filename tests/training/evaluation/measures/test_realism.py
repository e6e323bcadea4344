"""Measures of how real images look, each against what is known of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("monai", reason="monai is not installed: pip install 'seggd-rt[eval]'")

from seggd_rt.bundle import sha256_of
from seggd_training.evaluation.measures import Cases, RealImages, measure_realism
from seggd_training.evaluation.segmenter import FeatureGraph, Segmenter, SegmenterConfig, segmenter_features


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


def training() -> RealImages:
    cases = make_cases(60, seed=2)
    return RealImages((cases.images * 65535).astype(np.uint16), cases.patients + 1000)


def test_features_are_of_each_image_alone(segmenter: Segmenter) -> None:
    images = make_cases(40).images
    found = segmenter_features(segmenter, images)
    assert found.shape == (40, 8)
    np.testing.assert_allclose(segmenter_features(segmenter, images[33:35]), found[33:35], rtol=1e-4)
    assert not segmenter.network.get_submodule("down_3")._forward_hooks


def test_real_images_are_real(segmenter: Segmenter) -> None:
    cases = make_cases(40)
    found = measure_realism(segmenter, cases.images, cases, training())
    assert found.frechet.generated.mean == pytest.approx(0, abs=1e-6)
    assert found.frechet.real.low <= found.frechet.real.mean <= found.frechet.real.high
    assert found.similarity is not None and found.similarity.generated == found.similarity.real
    assert found.intensities[0].name == "a"
    assert found.intensities[0].median.real.mean == pytest.approx(0.5, abs=0.01)
    assert found.intensities[1].median.generated.mean == pytest.approx(0.8, abs=0.01)
    assert found == measure_realism(segmenter, cases.images, cases, training())


def spoiled(images: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    if how == "noise":
        return np.random.default_rng(3).uniform(0, 1, images.shape).astype(np.float32)
    if how == "alike":
        return np.repeat(images[:1], len(images), axis=0)
    return images * np.float32(0.5)


@pytest.mark.parametrize("how", ["noise", "alike", "dark"])
def test_images_that_are_not_real_are_told(segmenter: Segmenter, how: str) -> None:
    cases = make_cases(40)
    found = measure_realism(segmenter, spoiled(cases.images, how), cases, training())
    if how == "noise":
        assert found.frechet.generated.mean > 4 * found.frechet.real.mean
        assert found.frechet.generated.low > found.frechet.real.high
    if how == "alike":
        assert found.similarity is not None and found.similarity.generated.mean == pytest.approx(1)
        assert found.similarity.real.high < 0.99
    if how == "dark":
        # The segmenter sees images standardised.
        assert found.frechet.generated.mean == pytest.approx(0, abs=1e-4)
        assert found.intensities[0].median.generated.mean == pytest.approx(0.25, abs=0.01)


def test_a_single_patient_has_no_pairs_to_compare(segmenter: Segmenter) -> None:
    cases = replace(make_cases(8), patients=np.zeros(8))
    found = measure_realism(segmenter, cases.images, cases, training())
    assert found.similarity is None and found.pairs == 0


def test_another_network_gives_a_second_distance(segmenter: Segmenter, mean_graph: Path) -> None:
    cases = make_cases(40)
    graph = FeatureGraph.open(mean_graph, (16, 16, 1))
    found = measure_realism(segmenter, spoiled(cases.images, "dark"), cases, training(), graph=graph).other
    assert found is not None and (found.graph, found.features) == ("mean.onnx", 3)
    assert found.sha256 == sha256_of(mean_graph)
    assert found.frechet.generated.mean > 10 * found.frechet.real.mean
