"""The nearest training image of others, in pixels and in features, in blocks so that many take little memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from seggd_training.data import Levels, to_unit
from seggd_training.evaluation.segmenter import Segmenter, segmenter_features

SIDE = 32
"""Pixels of the longer side that images are averaged down to before they are compared."""
_BLOCK = 512
"""Training images that are compared at a time."""
_FLAT = 1e-6
"""Standard deviation below which an image, or a feature of all images, shows nothing."""

Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each of N images: its distance, (N,) float64, and its number, (N,) int64."""

    distance: NDArray[np.float64]
    index: NDArray[np.int64]

    def of(self, part: slice) -> Nearest:
        """Return those of some images."""
        return Nearest(self.distance[part], self.index[part])


def patterns(images: NDArray[np.float32]) -> Vectors:
    """Return what is compared of images, (N, H, W, C) in [0, 1]: (N, F), whose distances are root mean squares.

    Each is averaged down to at most `SIDE` pixels a side, which noise and fine texture do not survive, and each of its
    channels is given mean 0 and variance 1, so that brightness and contrast do not count. An image of one grey level is
    all zeros.
    """
    x = torch.from_numpy(np.moveaxis(images, -1, 1).astype(np.float64))
    factor = max(1, -(-max(x.shape[2:]) // SIDE))
    small = torch.nn.functional.interpolate(x, size=[max(1, side // factor) for side in x.shape[2:]], mode="area")
    deviation = small.std(dim=(2, 3), keepdim=True, correction=0)
    centred = (small - small.mean(dim=(2, 3), keepdim=True)) * (deviation > _FLAT) / deviation.clamp(min=_FLAT)
    vectors: Vectors = centred.flatten(1).numpy()
    scaled: Vectors = vectors / np.sqrt(vectors.shape[1])
    return scaled


def nearest_in_pixels(images: NDArray[np.float32], training: Levels) -> Nearest:
    """Find the nearest of training images, (M, H, W, C), by the root mean square difference of patterns."""
    return _nearest(patterns(images), len(training), lambda part: patterns(to_unit(training[part])))


def nearest_in_features(segmenter: Segmenter, images: NDArray[np.float32], training: Levels) -> Nearest:
    """Find the nearest of training images by the segmenter's features, each of mean 0 and variance 1 over them."""
    known = np.concatenate([segmenter_features(segmenter, to_unit(training[part])) for part in _blocks(len(training))])
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    shown = deviation > _FLAT
    scale = 1 / (deviation[shown] * np.sqrt(max(1, shown.sum())))

    def scaled(features: Vectors) -> Vectors:
        values: Vectors = (features[:, shown] - mean[shown]) * scale
        return values

    return _nearest(scaled(segmenter_features(segmenter, images)), len(known), lambda part: scaled(known[part]))


def _nearest(vectors: Vectors, count: int, others: Callable[[slice], Vectors]) -> Nearest:
    """Find the nearest of `count` vectors, which `others` gives block by block."""
    best, index = np.full(len(vectors), np.inf), np.zeros(len(vectors), np.int64)
    squares = (vectors**2).sum(axis=1)
    for part in _blocks(count):
        block = others(part)
        found = squares[:, None] + (block**2).sum(axis=1) - 2 * vectors @ block.T
        place = found.argmin(axis=1)
        least = found[np.arange(len(found)), place]
        nearer = least < best
        best[nearer], index[nearer] = least[nearer], part.start + place[nearer]
    return Nearest(np.sqrt(best.clip(min=0)), index)


def _blocks(count: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
