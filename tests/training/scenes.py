"""Synthetic scenes: a bright disc in a grey ring, with their label maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = ("background", "ring", "disc")


def draw_scenes(count: int, height: int = 16, width: int = 16) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw (N, H, W) uint8 images of a bright disc in a grey ring, and their label maps."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((count, height, width), np.uint8)
    for label_map in labels:
        distance = np.hypot(y - rng.uniform(0.4, 0.6) * height, x - rng.uniform(0.4, 0.6) * width)
        label_map[distance < 0.35 * height] = 1
        label_map[distance < 0.2 * height] = 2
    images = np.array([20, 120, 230], np.float64)[labels] + rng.normal(0, 5, labels.shape)
    return images.clip(0, 255).astype(np.uint8), labels


def npz_arrays(count: int = 12) -> dict[str, Any]:
    """Return the arrays of an .npz: every fourth image is for validation."""
    images, labels = draw_scenes(count)
    split = (np.arange(count) % 4 == 3).astype(np.uint8)
    return {"image": images, "label": labels, "split": split, "class_names": np.array(CLASSES)}
