"""Synthetic image and mask pairs as a PyTorch dataset, drawn when they are asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.drawing import HowToDraw
from seggd_rt.errors import OptionError
from seggd_rt.generator import EmptyMaskWarning
from seggd_rt.imaging.folder import LabelMapSet
from seggd_rt.labels import check_label_map, resize_nearest
from seggd_rt.noise import derive_seed, draw_subset

Pair = tuple[torch.Tensor, torch.Tensor]


class SyntheticDataset(Dataset[Pair]):
    """Pairs of a generated image and the mask it was drawn from.

    Pair i is the same in every epoch, process and order: its mask is number i modulo the masks, its seed is
    `derive_seed(seed, i % masks, i // masks)`, as in `seggd-rt generate --count`. A worker process opens an engine of
    its own at its first pair.

    Parameters
    ----------
    bundle
        The bundle's folder.
    masks
        (N, H, W) integers, or a label map file, or a folder of them.
    copies
        Images of every mask.
    seed
        Of the whole set.
    random_classes
        Whether each image is drawn from a random subset of its mask's classes, as training drew them. The pair's mask
        stays whole.
    threads
        CPU threads of each worker's engine: 1 is right where there are as many workers as cores.
    engine, precision, device, require_signature
        As for `seggd_rt.load`.
    how
        As for `Generator.__call__`: sampler, steps and so on.

    Raises
    ------
    OptionError
        A setting is outside its range.
    LabelMapError
        A mask has the wrong type or labels.
    """

    def __init__(
        self,
        bundle: str | Path,
        masks: str | Path | ArrayLike,
        *,
        copies: int = 1,
        seed: int = 0,
        random_classes: bool = False,
        engine: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        threads: int | None = 1,
        how: HowToDraw | None = None,
        require_signature: str | Path | None = None,
    ) -> None:
        if copies < 1:
            raise OptionError(f"copies is {copies}; it must be at least 1")
        self._bundle = Bundle.open(bundle, require_signature=require_signature)
        self._masks = _read(masks, self._bundle)
        self._copies, self._seed, self._random = copies, seed, random_classes
        self._load = {
            "engine": engine,
            "precision": precision,
            "device": device,
            "threads": threads,
            "require_signature": require_signature,
        }
        self._how: HowToDraw = {} if how is None else {**how}
        self._generator: seggd_rt.Generator | None = None
        self._owner = 0

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self._masks) * self._copies

    def __getitem__(self, index: int) -> Pair:
        """Draw a pair.

        Returns
        -------
        tuple
            The image, (C, H, W) float32 in [0, 1], and the mask, (H, W) int64 class ids.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        index %= len(self)
        place, copy = index % len(self._masks), index // len(self._masks)
        mask, seed = self._masks[place], derive_seed(self._seed, place, copy)
        how: HowToDraw = {**self._how}
        if self._random:
            classes = self._bundle.manifest.classes
            how["keep"] = [classes[i].name for i in draw_subset(seed, len(classes) - 1)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyMaskWarning)
            image = self._open()(mask, seed=seed, **how)
        pixels = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
        return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(mask.astype(np.int64))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the engine behind: another process opens its own."""
        return {**self.__dict__, "_generator": None, "_owner": 0}

    def _open(self) -> seggd_rt.Generator:
        # A forked worker inherits the parent's engine, whose threads did not come along.
        if self._generator is None or self._owner != os.getpid():
            self._generator = seggd_rt.load(self._bundle.path, **self._load)  # type: ignore[arg-type]
            self._owner = os.getpid()
        return self._generator


class SyntheticDictDataset(Dataset[dict[str, Any]]):
    """The same as dictionaries, as MONAI's transforms take them.

    Parameters
    ----------
    pairs
        What they are made of.
    keys
        Names of image and mask. Both have a channel axis in front.
    """

    def __init__(self, pairs: SyntheticDataset, keys: Iterable[str] = ("image", "label")) -> None:
        self._pairs = pairs
        self._image, self._label = keys

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Draw a pair: image (C, H, W) float32 in [0, 1], label (1, H, W) int64."""
        image, mask = self._pairs[index]
        return {self._image: image, self._label: mask[None]}


def _read(masks: str | Path | ArrayLike, bundle: Bundle) -> NDArray[np.uint8]:
    """Return label maps in the bundle's size, (N, H, W) uint8."""
    manifest = bundle.manifest
    size = (manifest.image.height, manifest.image.width)
    if isinstance(masks, str | Path):
        files = LabelMapSet.open(Path(masks)).files
        maps = [check_label_map(file.read(index), manifest.classes) for file in files for index in range(len(file))]
    else:
        maps = list(check_label_map(masks, manifest.classes))
    if maps and maps[0].ndim != 2:
        raise OptionError("masks must be (N, H, W), or a file or a folder of label maps")
    return np.stack([label_map if label_map.shape == size else resize_nearest(label_map, *size) for label_map in maps])
