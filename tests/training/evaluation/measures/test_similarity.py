"""Similarity of pairs of images against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monai", reason="needs the extra `eval`")

from seggd_training.evaluation.measures import ssim
from seggd_training.evaluation.measures.similarity import mse, psnr

IMAGES = np.random.default_rng(0).random((3, 16, 24, 2), np.float32)


def test_equal_images_are_alike() -> None:
    np.testing.assert_allclose(ssim(IMAGES, IMAGES), 1)
    assert (mse(IMAGES, IMAGES) == 0).all() and np.isinf(psnr(IMAGES, IMAGES)).all()


def test_each_pair_has_its_own_figure() -> None:
    others = IMAGES.copy()
    others[1] += 0.1
    np.testing.assert_allclose(mse(IMAGES, others), [0, 0.01, 0], atol=1e-7)
    assert psnr(IMAGES, others)[1] == pytest.approx(20, abs=1e-3)
    found = ssim(IMAGES, others)
    assert found[1] < 0.999 and found[0] == pytest.approx(1)
