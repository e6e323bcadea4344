"""Each image draws its own subset, all non-empty ones alike, and encoding is the runtime's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seggd_rt.diffusion import MaskEncoding, ablate, encode, encode_table
from seggd_training.data.ablation import draw_subsets, encode_subsets

CHI2_999 = {1: 0.0, 2: 13.82, 3: 22.46, 4: 36.12}
"""The 99.9 % quantile of chi-square with 2^C - 2 degrees of freedom."""


def _numbers(keep: torch.Tensor) -> np.ndarray:
    return (keep.numpy() << np.arange(keep.shape[1])).sum(axis=1)


@pytest.mark.parametrize("num_foreground", CHI2_999)
def test_non_empty_subsets_are_equally_likely(num_foreground: int) -> None:
    draws = 20_000
    keep = draw_subsets(draws, num_foreground, torch.Generator().manual_seed(1))
    counts = np.bincount(_numbers(keep), minlength=1 << num_foreground)
    assert counts[0] == 0
    expected = draws / (2**num_foreground - 1)
    assert ((counts[1:] - expected) ** 2 / expected).sum() <= CHI2_999[num_foreground]


def test_subsets_differ_within_a_batch() -> None:
    keep = draw_subsets(32, 3, torch.Generator().manual_seed(2))
    assert len(np.unique(_numbers(keep))) > 4


def test_empty_subset_has_its_probability() -> None:
    keep = draw_subsets(20_000, 3, torch.Generator().manual_seed(3), empty=0.1)
    assert abs((~keep.any(dim=1)).float().mean().item() - 0.1) < 0.008  # 3.8 standard deviations
    assert not draw_subsets(50, 3, torch.Generator().manual_seed(3), empty=1.0).any()


def test_more_classes_than_int64_has_bits() -> None:
    keep = draw_subsets(2000, 100, torch.Generator().manual_seed(4))
    assert keep.any(dim=1).all()
    assert (keep.float().mean(dim=0) - 0.5).abs().max() < 0.06


@pytest.mark.parametrize("encoding", MaskEncoding)
def test_encoding_is_the_runtimes(encoding: MaskEncoding) -> None:
    rng = np.random.default_rng(0)
    label_maps = rng.integers(0, 4, (7, 6, 5)).astype(np.uint8)
    keep = draw_subsets(7, 3, torch.Generator().manual_seed(5))
    table = encode_table(encoding, 4)
    masks = encode_subsets(torch.from_numpy(label_maps), torch.from_numpy(table), keep)
    for label_map, kept, mask in zip(label_maps, keep, masks, strict=True):
        wanted = encode(label_map, ablate(table, (np.flatnonzero(kept.numpy()) + 1).tolist()))
        np.testing.assert_array_equal(mask.numpy(), wanted)
    assert masks.dtype == torch.float32
