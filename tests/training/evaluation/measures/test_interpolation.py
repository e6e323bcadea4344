"""Interpolation scores, with a stand-in that mixes as it is told."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.grey_hearts import heart_dataset

pytest.importorskip("monai", reason="needs the extra `eval`")

from seggd_rt.diffusion import derive_seed
from seggd_training.evaluation.measures import AT, WEIGHTS, choose_cases, measure_interpolation


def test_similarity_is_told_by_weight_and_dice_is_of_the_mask() -> None:
    cases = choose_cases(heart_dataset(6))
    calls: list[tuple[int, float]] = []

    def mix(
        mask: NDArray[np.uint8],
        real: NDArray[np.float32],
        /,
        *,
        weight: Sequence[float],
        at: float,
        seed: int,
        steps: int | None,
    ) -> NDArray[np.float32]:
        assert steps == 9 and tuple(weight) == WEIGHTS
        calls.append((seed, at))
        return np.stack([(1 - w) * mask[..., None] / 10 + w * real for w in weight]).astype(np.float32)

    def read(images: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.rint(images[..., 0] * 10).astype(np.uint8).clip(0, 3)

    done: list[int] = []
    scores, images = measure_interpolation(mix, read, cases, seed=4, steps=9, shown=[4, 1], on_images=done.append)
    assert calls == [(derive_seed(4, i), at) for at in AT for i in range(6)]
    assert images.shape == (3, 5, 2, 24, 32, 1) and done[-1] == 3 * 5 * 6
    assert [(s.at, s.weight) for s in scores] == [(at, weight) for at in AT for weight in WEIGHTS]
    np.testing.assert_allclose(images[0, -1], cases.images[[4, 1]])
    first = scores[: len(WEIGHTS)]
    assert all(a.mse.mean > b.mse.mean for a, b in itertools.pairwise(first))
    assert (first[0].dice.mean, first[-1].ssim.mean) == (1, pytest.approx(1))
    assert first[-1].dice.mean < 1
