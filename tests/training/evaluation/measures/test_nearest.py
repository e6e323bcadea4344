"""Nearest training images, against a plain search and known distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("monai", reason="monai is not installed: pip install 'seggd-rt[eval]'")

from seggd_training.data import to_unit
from seggd_training.evaluation.measures import SIDE, nearest
from seggd_training.evaluation.measures.nearest import nearest_in_features, nearest_in_pixels, patterns
from seggd_training.evaluation.segmenter import Segmenter, SegmenterConfig, segmenter_features


def random_images(count: int, size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 1), np.uint8)


def test_the_nearest_is_that_of_a_plain_search_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    training, others = random_images(23, (8, 12)), to_unit(random_images(9, (8, 12), seed=1))
    vectors, known = patterns(others), patterns(to_unit(training))
    plain = np.linalg.norm(vectors[:, None] - known[None], axis=2)
    longest: list[int] = []

    def watched(images: NDArray[np.float32]) -> NDArray[np.float64]:
        longest.append(len(images))
        return patterns(images)

    monkeypatch.setattr(nearest, "patterns", watched)
    for block in (5, 23, 100):
        monkeypatch.setattr(nearest, "_BLOCK", block)
        longest.clear()
        found = nearest_in_pixels(others, training)
        assert found.index.tolist() == plain.argmin(axis=1).tolist()
        np.testing.assert_allclose(found.distance, plain.min(axis=1), atol=1e-7)
        assert max(longest[1:]) == min(block, 23), "no more training images at a time"


def test_an_image_of_the_training_images_has_no_distance() -> None:
    training = random_images(6, (8, 8))
    found = nearest_in_pixels(to_unit(training[[4, 2]]), training)
    assert found.index.tolist() == [4, 2]
    np.testing.assert_allclose(found.distance, 0, atol=1e-6)


def test_brightness_contrast_and_noise_do_not_count() -> None:
    """At twice the side a pixel of a pattern is the mean of four, so noise of 0.1 is of 0.05 there."""
    coarse = np.random.default_rng(0).uniform(0.2, 0.8, (2, 2 * SIDE // 16, SIDE // 16, 1))
    images = np.kron(coarse, np.ones((1, 16, 16, 1))).astype(np.float32)[:, :, :, :1]
    assert images.shape[1] == 2 * SIDE
    vectors = patterns(images)
    assert vectors.shape == (2, SIDE * SIDE // 2)
    np.testing.assert_allclose((vectors**2).sum(axis=1), 1, rtol=1e-9)
    np.testing.assert_allclose(patterns(images * np.float32(0.5) + np.float32(0.2)), vectors, atol=1e-6)
    noisy = images + np.random.default_rng(1).normal(0, 0.1, images.shape).astype(np.float32)
    distance = np.linalg.norm(patterns(noisy) - vectors, axis=1)
    assert (distance < 0.5).all() and np.linalg.norm(vectors[0] - vectors[1]) > 1


def test_an_image_of_one_grey_level_has_no_pattern() -> None:
    assert not patterns(np.full((1, 8, 8, 1), 0.3, np.float32)).any()


def test_features_count_alike_and_those_that_never_change_not_at_all() -> None:
    config = SegmenterConfig(channels=1, height=16, width=16, classes=("background", "a"), features=(8,) * 6)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        segmenter = Segmenter(config, "0" * 64, config.build().eval())
    training, others = random_images(30, (16, 16)), to_unit(random_images(4, (16, 16), seed=1))
    known, own = segmenter_features(segmenter, to_unit(training)), segmenter_features(segmenter, others)
    scale = known.std(axis=0)
    shown = scale > 1e-6
    plain = np.sqrt((((own[:, None] - known[None]) / np.where(shown, scale, np.inf)) ** 2).sum(axis=2) / shown.sum())
    found = nearest_in_features(segmenter, others, training)
    assert found.index.tolist() == plain.argmin(axis=1).tolist()
    np.testing.assert_allclose(found.distance, plain.min(axis=1), rtol=1e-4)
