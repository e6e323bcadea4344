"""Small random rotations, scalings and shifts, the same for an image and its mask."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

MAX_DEGREES = 10.0
MAX_SCALE = 0.1
MAX_SHIFT = 0.05
"""Of the image's height and width."""


def draw_affine(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw one affine map from output to input, (2, 3) float32 in the [-1, 1] coordinates of `affine_grid`."""
    angle, scale, dx, dy = (2 * torch.rand(4, generator=generator) - 1).tolist()
    angle, scale = math.radians(MAX_DEGREES) * angle, 1 + MAX_SCALE * scale
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    # A rotation turns pixels, not normalised coordinates: on an oblong image one unit is longer across.
    shift = 2 * MAX_SHIFT
    return torch.tensor([[cos, -sin * height / width, shift * dx], [sin * width / height, cos, shift * dy]])


def warp(images: Tensor, label_maps: Tensor, affines: Tensor) -> tuple[Tensor, Tensor]:
    """Apply one affine map to each image and its label map; what lies outside repeats the edge.

    Parameters
    ----------
    images
        (B, C, H, W) float32.
    label_maps
        (B, H, W) uint8.
    affines
        (B, 2, 3) float32, from `draw_affine`.

    Returns
    -------
    tuple of Tensor
        Images, bilinear, and label maps, nearest neighbour, as they came in.
    """
    grid = functional.affine_grid(affines, list(images.shape), align_corners=False)
    warped = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    labels = functional.grid_sample(
        label_maps[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    return warped, labels[:, 0].to(label_maps.dtype)
