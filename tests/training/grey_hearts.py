"""Real-looking data for the tiny grey bundle: its own mask rolled about, each class at the bundle's grey level."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Bundle
from tests.bundles import TINY

if TYPE_CHECKING:
    from seggd_training.data import Dataset
    from seggd_training.evaluation.segmenter import Segmenter, SegmenterConfig

CLASSES = ("background", "cavity", "myocardium", "right ventricle")
_LEVELS = np.array([-0.7, 0.6, -0.1, 0.3])
"""Of tests/golden/make_tiny.py."""


def draw_hearts(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw (N, 24, 32) uint8 images and their label maps."""
    rng = np.random.default_rng(seed)
    mask = Bundle.open(TINY).golden.label_map
    labels = np.stack([np.roll(mask, rng.integers(-4, 5, 2), axis=(0, 1)) for _ in range(count)])
    grey = _LEVELS[labels] + rng.normal(0, 0.15, labels.shape)
    return ((grey + 1) * 127.5).clip(0, 255).astype(np.uint8), labels


def heart_dataset(count: int, seed: int = 0) -> Dataset:
    """Return such images as a data set."""
    from seggd_rt.diffusion import name_classes
    from seggd_training.data import Dataset

    images, labels = draw_hearts(count, seed)
    names = tuple(str(i) for i in range(count))
    return Dataset(images=images[..., None], label_maps=labels, classes=name_classes(CLASSES), names=names)


def small_config(steps: int = 3, **changes: Any) -> SegmenterConfig:
    """Configure a segmenter whose step takes milliseconds."""
    from seggd_training.evaluation.segmenter import SegmenterConfig

    settings: dict[str, Any] = {"channels": 1, "height": 24, "width": 32, "classes": CLASSES, "features": (8,) * 6}
    return SegmenterConfig(**{**settings, "steps": steps, "batch_size": 8, "learning_rate": 1e-2, **changes})


@cache
def trained_segmenter() -> tuple[Segmenter, tuple[float, ...]]:
    """Return a small segmenter that works, trained once for all tests on `heart_dataset(24)`, and its losses."""
    from seggd_training.evaluation.segmenter.training import train_segmenter

    losses: list[float] = []
    segmenter = train_segmenter(heart_dataset(24), small_config(80), on_step=lambda step, loss: losses.append(loss))
    return segmenter, tuple(losses)


def write_npz(path: Path, **changes: NDArray[np.generic]) -> Path:
    """Write an .npz of 24 training, 12 validation and 2 test images, of 8 + 4 + 1 patients.

    The training images are those of `heart_dataset(24)` unless `changes` has others.
    """
    images, labels = (np.concatenate(parts) for parts in zip(draw_hearts(24), draw_hearts(14, seed=1), strict=True))
    split = np.repeat([0, 1, 2], [24, 12, 2])
    patient = np.repeat(np.arange(13), [3] * 12 + [2])
    np.savez(
        path,
        **{"image": images, "label": labels, "split": split, "patient": patient, "class_names": np.array(CLASSES)}
        | changes,
    )
    return path
