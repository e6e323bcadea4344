"""Image and mask move together, within the limits, without changing labels or shapes."""

from __future__ import annotations

import math

import pytest
import torch

from seggd_training.data.augment import MAX_DEGREES, MAX_SCALE, MAX_SHIFT, draw_affine, warp
from tests.training.scenes import draw_scenes

IDENTITY = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def _scenes(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = draw_scenes(3, height, width)
    return torch.from_numpy(images)[:, None].float() / 127.5 - 1, torch.from_numpy(labels)


def test_identity_changes_nothing() -> None:
    images, labels = _scenes(12, 20)
    warped, moved = warp(images, labels, IDENTITY.expand(3, 2, 3))
    torch.testing.assert_close(warped, images, rtol=0, atol=1e-5)
    assert torch.equal(moved, labels)


def test_image_follows_mask() -> None:
    _, labels = _scenes(64, 48)
    affines = torch.stack([draw_affine(64, 48, torch.Generator().manual_seed(k)) for k in range(3)])
    painted = labels[:, None].float()
    warped, moved = warp(painted, labels, affines)
    assert moved.dtype == torch.uint8
    assert not torch.equal(moved, labels)
    assert ((warped[:, 0] - moved).abs() <= 1.001).all()  # they differ on edges only, by interpolation
    assert ((warped[:, 0] - moved).abs() < 0.01).float().mean() > 0.8


@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
def test_draws_stay_within_the_limits_in_pixels(size: tuple[int, int]) -> None:
    height, width = size
    pixels = torch.diag(torch.tensor([width / 2, height / 2]))  # of normalised coordinates
    angles, scales, shifts = [], [], []
    for k in range(300):
        affine = draw_affine(height, width, torch.Generator().manual_seed(k))
        linear = pixels @ affine[:, :2] @ pixels.inverse()
        scale = math.sqrt(linear.det().item())
        torch.testing.assert_close(linear @ linear.T, scale**2 * torch.eye(2), rtol=1e-4, atol=1e-4)  # no shear
        angles.append(math.degrees(math.atan2(linear[1, 0].item(), linear[0, 0].item())))
        scales.append(scale)
        shifts.append(affine[:, 2].abs().max().item() / 2)
    assert MAX_DEGREES * 0.95 < max(map(abs, angles)) <= MAX_DEGREES * 1.001
    assert 1 - MAX_SCALE - 1e-3 <= min(scales) < 1 - MAX_SCALE * 0.9
    assert 1 + MAX_SCALE * 0.9 < max(scales) <= 1 + MAX_SCALE + 1e-3
    assert MAX_SHIFT * 0.9 < max(shifts) <= MAX_SHIFT * 1.001
