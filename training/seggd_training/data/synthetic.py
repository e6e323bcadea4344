"""Synthetic image and mask pairs as a PyTorch dataset, drawn when they are asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import OneHotWarning, check_label_map, derive_seed, draw_subset, resize_nearest
from seggd_rt.errors import OptionError
from seggd_rt.imaging import LabelMapSet
from seggd_rt.inference import Drawing, EmptyMaskWarning, HowToDraw
from seggd_rt.runs import check_random_classes

Pair = tuple[torch.Tensor, ...]
"""The image, (C, H, W) float32 in [0, 1], and the mask, (H, W) int64 class ids; the classes kept where they are random:
(number of classes,) bool by class id, of which the background's is always true."""


class SyntheticDataset(Dataset[Pair]):
    """Pairs of a generated image and the mask it was drawn from: `image, mask = pairs[i]`.

    Classes that were left out are background in the mask. With `random_classes` an item is `image, mask, kept`: pixels
    of a class that was not kept say nothing of the image, so leave that class out of the loss.

    Pair i is the same in every epoch, process and order: its mask is number i modulo the masks, its seed is
    `derive_seed(seed, i % masks, i // masks)`, as in `seggd-rt generate --count`. A `DataLoader` draws each of its
    batches as one; the images are those drawn alone, as far as the engine computes alike at every batch size.

    Each process opens an engine of its own at its first pair. Workers of a `DataLoader` work with
    `multiprocessing_context="spawn"` or `"forkserver"`: put the code of a script under `if __name__ == "__main__":`.
    With `"fork"`, the default on Linux before Python 3.14, they work while the parent process has not used OpenVINO. To
    take a pair in the parent, or to load a generator, is such a use: workers forked later raise an `EngineError`.
    With `engine="onnxruntime"` and `threads=1` they always work.

    Examples
    --------
    >>> pairs = SyntheticDataset("cardiac.seggd", "masks", random_classes=True)
    >>> loader = DataLoader(pairs, batch_size=8, num_workers=2, multiprocessing_context="spawn")
    >>> for images, masks, kept in loader:  # (8, C, H, W), (8, H, W), (8, number of classes)
    ...     train(images, masks, kept)

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
        Whether each image is drawn from a random subset of the classes, as training drew them.
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
    EngineError
        While a pair is drawn: an engine failed, or cannot be used in this forked worker.
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
        self._how: HowToDraw = {} if how is None else {**how}
        manifest = self._bundle.manifest
        if random_classes:
            check_random_classes(manifest, self._how)
        self._kept = Drawing.resolve(manifest, self._how).kept
        self._how = {**self._how, "keep": None, "drop": None}  # said of each image
        self._engine = _Engine(
            self._bundle.path,
            engine=engine,
            precision=precision,
            device=device,
            threads=threads,
            require_signature=require_signature,
        )

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self._masks) * self._copies

    def __getitem__(self, index: int) -> Pair:
        """Draw a pair: see `Pair`."""
        (pair,) = self.__getitems__([index])
        return pair

    def __getitems__(self, indices: Sequence[int]) -> list[Pair]:
        """Draw pairs as one batch, as a `DataLoader` asks for them: see `Pair`."""
        if not len(indices):
            return []
        places, copies = zip(*map(self._place, indices), strict=True)
        names = [c.name for c in self._bundle.manifest.classes]
        seeds = [derive_seed(self._seed, place, copy) for place, copy in zip(places, copies, strict=True)]
        kept = [draw_subset(seed, len(names) - 1) if self._random else self._kept for seed in seeds]
        masks = self._masks[list(places)]
        with warnings.catch_warnings():
            for category in (EmptyMaskWarning, OneHotWarning):
                warnings.simplefilter("ignore", category)
            keep_each = [[names[i] for i in ids] for ids in kept]
            images = self._engine.open()(masks, seeds=seeds, keep_each=keep_each, **self._how)
        pixels = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
        return [self._pair(*each) for each in zip(pixels, masks, kept, strict=True)]

    def _place(self, index: int) -> tuple[int, int]:
        """Return the number of a pair's mask, and which of its copies it is."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        copy, place = divmod(index % len(self), len(self._masks))
        return place, copy

    def _pair(self, pixels: NDArray[np.float32], mask: NDArray[np.uint8], kept: tuple[int, ...]) -> Pair:
        ids = np.arange(len(self._bundle.manifest.classes), dtype=np.int64)
        stays = np.isin(ids, (0, *kept))
        image = torch.from_numpy(np.ascontiguousarray(pixels))
        ablated = torch.from_numpy(np.where(stays, ids, 0)[mask])
        return (image, ablated, torch.from_numpy(stays)) if self._random else (image, ablated)


class SyntheticDictDataset(Dataset[dict[str, Any]]):
    """The same as dictionaries, as MONAI's transforms take them.

    Parameters
    ----------
    pairs
        What they are made of.
    keys
        Names of image and mask. Both have a channel axis in front.
    kept
        Name of the classes kept, where `pairs` draws them at random.
    """

    def __init__(self, pairs: SyntheticDataset, keys: Iterable[str] = ("image", "label"), kept: str = "kept") -> None:
        self._pairs = pairs
        self._image, self._label = keys
        self._kept = kept

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Draw a pair: image (C, H, W) float32 in [0, 1], label (1, H, W) int64; the classes kept as in `Pair`."""
        return self._named(self._pairs[index])

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Draw pairs as one batch, as a `DataLoader` asks for them."""
        return [self._named(pair) for pair in self._pairs.__getitems__(indices)]

    def _named(self, pair: Pair) -> dict[str, Any]:
        image, mask, *kept = pair
        named = {self._image: image, self._label: mask[None]}
        return {**named, self._kept: kept[0]} if kept else named


class _Engine:
    """A bundle's generator, opened once in each process; another process that gets this opens its own.

    Slots hide it from MONAI, which looks through every attribute of a dataset for random states: it never returns from
    an engine.
    """

    __slots__ = ("_generator", "_options", "_owner", "_path")

    def __init__(self, path: Path, **options: Any) -> None:
        self._path, self._options = path, options
        self._generator: seggd_rt.Generator | None = None
        self._owner = 0

    def open(self) -> seggd_rt.Generator:
        """Return this process's generator."""
        # A forked worker has the parent's engine too, but not its threads: `load` refuses where that matters.
        if self._generator is None or self._owner != os.getpid():
            self._generator = seggd_rt.load(self._path, **self._options)
            self._owner = os.getpid()
        return self._generator

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the generator behind."""
        return partial(_Engine, self._path, **self._options), ()


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
