"""Training batches as pure functions of a seed: image number n of a run is the same in any batch, rank or resume.

A run sees images number 0, 1, 2, ...; number n is entry n mod N of the permutation drawn for epoch n // N, and its
mask subset, noise and augmentation come from a generator seeded by n. Nothing is carried from one batch to the next,
so a run resumes exactly by knowing its step, and accumulation or more processes see the images a larger batch would.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seggd_rt.diffusion import MaskEncoding, encode_table
from seggd_training.data.ablation import draw_subsets, encode_subsets
from seggd_training.data.augment import draw_affine, warp
from seggd_training.data.dataset import Dataset

_GOLDEN = (math.sqrt(5) - 1) / 2


class Batch(NamedTuple):
    """One batch: x0 and eps (B, C, H, W) float32, mask (B, M, H, W) float32, t (B,) int64."""

    x0: Tensor
    mask: Tensor
    t: Tensor
    eps: Tensor


def keyed_seed(*key: int | str) -> int:
    """Return a seed in [0, 2^63) that depends on `key` alone."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def keyed_generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator whose numbers depend on `key` alone."""
    return torch.Generator().manual_seed(keyed_seed(*key))


class Batches:
    """Draws the batches of one data set.

    Parameters
    ----------
    dataset
        Images and label maps.
    encoding
        How labels become mask channels.
    seed
        The run's seed.
    train_steps
        T of the noise schedule: timesteps are uniform in [0, T).
    ablation, empty_subset
        Whether each image draws a random subset of the classes, and the probability of the empty one.
    augment
        Whether images and masks are warped together.
    shuffle
        Whether each epoch has its own order; without, as for validation, image n is entry n mod N.
    """

    def __init__(
        self,
        dataset: Dataset,
        encoding: MaskEncoding,
        *,
        seed: int,
        train_steps: int,
        ablation: bool = True,
        empty_subset: float = 0.0,
        augment: bool = False,
        shuffle: bool = True,
    ) -> None:
        self._images = np.moveaxis(dataset.images, -1, 1)
        self._half_range = float(np.iinfo(dataset.images.dtype).max) / 2
        self._label_maps = torch.from_numpy(dataset.label_maps)
        self._num_foreground = len(dataset.classes) - 1
        self._table = torch.from_numpy(encode_table(encoding, len(dataset.classes)))
        self._seed, self._train_steps = seed, train_steps
        self._ablation, self._empty_subset = ablation, empty_subset
        self._augment, self._shuffle = augment, shuffle
        self._time_offset = torch.rand((), generator=keyed_generator(seed, "time"), dtype=torch.float64).item()

    def __len__(self) -> int:
        """Return N, the images of an epoch."""
        return len(self._images)

    def draw(self, start: int, count: int) -> Batch:
        """Return images number start, ..., start + count - 1 of the run."""
        numbers = range(start, start + count)
        entries = [self._entry(n) for n in numbers]
        x0 = torch.from_numpy(np.ascontiguousarray(self._images[entries], np.float32)) / self._half_range - 1
        label_maps = self._label_maps[torch.tensor(entries)]
        keep, eps, affines = [], [], []
        for n in numbers:
            generator = keyed_generator(self._seed, "image", n)
            eps.append(torch.randn(x0.shape[1:], generator=generator))
            keep.append(self._draw_subset(generator))
            if self._augment:
                affines.append(draw_affine(x0.shape[2], x0.shape[3], generator))
        if self._augment:
            x0, label_maps = warp(x0, label_maps, torch.stack(affines))
        mask = encode_subsets(label_maps, self._table, torch.cat(keep))
        return Batch(x0, mask, torch.tensor([self._time(n) for n in numbers]), torch.stack(eps))

    def _entry(self, n: int) -> int:
        epoch, position = divmod(n, len(self))
        return int(_permutation(self._seed, epoch, len(self))[position]) if self._shuffle else position

    def _draw_subset(self, generator: torch.Generator) -> Tensor:
        if not self._ablation:
            return torch.rand((1, 1), generator=generator).ge(self._empty_subset).expand(1, self._num_foreground)
        return draw_subsets(1, self._num_foreground, generator, empty=self._empty_subset)

    def _time(self, n: int) -> int:
        # Additive recurrence of the golden ratio: uniform over a run, and evenly spread within any batch, which
        # lowers the variance of the loss (Kingma et al., arXiv 2107.00630, appendix I.1).
        return int((self._time_offset + n * _GOLDEN) % 1.0 * self._train_steps)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> Tensor:
    return torch.randperm(size, generator=keyed_generator(seed, "epoch", epoch))
