"""The plan of a run over many label maps: which images, from what, with which seeds, to where.

`plan_run` reads every label map once and refuses, before the network runs, what would fail later. An image depends on
its own seed alone, which its place in the plan gives: a part of the plan gives the same files as the whole.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seggd_rt.atomic import check_writable, make_folder
from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.generator import EmptyMaskWarning
from seggd_rt.imaging.contract import ImageStack, ImageWriter, LabelMapFile
from seggd_rt.imaging.folder import LabelMapSet, printable
from seggd_rt.imaging.formats import require_writer, stem
from seggd_rt.imaging.npy import NpyArray
from seggd_rt.imaging.png import PngWriter
from seggd_rt.labels import (
    AspectRatioWarning,
    OneHotWarning,
    aspect_change,
    check_label_map,
    looks_one_hot,
    one_hot_note,
    resize_nearest,
    select_classes,
)
from seggd_rt.noise import check_seed, derive_seed
from seggd_rt.samplers import Sampler, sampler_rows
from seggd_rt.wording import counted, either, some_of


class ResizedMaskWarning(UserWarning):
    """Label maps of another size than the bundle's are resized by nearest neighbour."""


@dataclass(frozen=True)
class Item:
    """One image of a plan.

    Attributes
    ----------
    number
        Its place in the plan, which is also that of its noise.
    file, index
        Where its label map is.
    seed
        Its own seed.
    """

    number: int
    file: LabelMapFile
    index: int
    seed: int

    @property
    def name(self) -> str:
        """What its file is named after: label map and seed."""
        index = f"_{self.index}" if self.file.stacked else ""
        return f"{stem(self.file.path)}{index}_{self.seed}"


@dataclass(frozen=True)
class Settings:
    """How every image of a run is drawn: sampler, steps, eta, and the names of the classes kept."""

    sampler: Sampler
    steps: int
    eta: float
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Output:
    """Where images go.

    Attributes
    ----------
    path
        A folder, or the file that is to hold all images.
    writer
        Of that file, or of each image in the folder.
    is_folder
        Which of the two.
    """

    path: Path
    writer: ImageWriter
    is_folder: bool


@dataclass(frozen=True)
class Plan:
    """Which images a run draws: `count` of every label map. Made, and checked, by `plan_run`.

    The only image of a run has the run's seed. Of several, copy c of the label map at place m has the seed
    `noise.derive_seed(seed, m, c)`.
    """

    bundle: Bundle
    masks: LabelMapSet
    seed: int
    count: int
    settings: Settings
    output: Output
    noise: NpyArray | None

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.masks) * self.count

    def __iter__(self) -> Iterator[Item]:
        """Yield them in order, all copies of a label map after each other."""
        single = len(self) == 1
        places = ((file, index) for file in self.masks.files for index in range(len(file)))
        for place, (file, index) in enumerate(places):
            for copy in range(self.count):
                seed = self.seed if single else derive_seed(self.seed, place, copy)
                yield Item(place * self.count + copy, file, index, seed)

    def label_map(self, item: Item) -> NDArray[np.uint8]:
        """Return an image's label map in the bundle's size, (H, W) uint8.

        Raises
        ------
        DataError
            It was changed since it was checked.
        """
        return _fitted(_checked(item.file, item.index, self.bundle.manifest), self.bundle.manifest)

    def start(self, item: Item) -> NDArray[np.floating] | None:
        """Return the noise given for an image, (C, H, W), or None."""
        if self.noise is None:
            return None
        return self.noise.read(item.number if len(self.noise.shape) == 4 else None)

    def stack(self, count: int) -> ImageStack:
        """Describe a file of `count` images."""
        return _stack(self.bundle.manifest, count)


def plan_run(
    bundle: Bundle,
    masks: str | Path,
    output: str | Path,
    *,
    seed: int = 0,
    count: int = 1,
    steps: int | None = None,
    eta: float = 0.0,
    keep: Iterable[str] | None = None,
    drop: Iterable[str] | None = None,
    noise: str | Path | None = None,
) -> Plan:
    """Plan a run and check all of it; nothing is written.

    Parameters
    ----------
    bundle
        What will draw the images.
    masks
        A label map file, or a folder of them: see `imaging.folder.LabelMapSet`.
    output
        A file, whose suffix says the format, or a folder: what is one, ends in a slash or has no suffix.
    seed
        Of the run: see `Plan`.
    count
        Images of every label map.
    steps, eta, keep, drop
        As for `Generator.__call__`, for every image.
    noise
        A .npy of (N, C, H, W) floats, one for each image in the plan's order, or (C, H, W) for the only one.

    Raises
    ------
    OptionError
        A setting is outside its range, or the output cannot hold these images.
    LabelMapError
        A label map has the wrong type or labels.
    DataError
        A file is missing or damaged, or the noise has the wrong type or shape.
    OutputError
        The output cannot be written.

    Warns
    -----
    ResizedMaskWarning, AspectRatioWarning, OneHotWarning, EmptyMaskWarning, SkippedFilesWarning
        Once each, with counts.
    """
    manifest = bundle.manifest
    check_seed(seed)
    if count < 1:
        raise OptionError(f"count is {count}; it must be at least 1")
    settings = _settings(manifest, steps, eta, keep, drop)
    found = LabelMapSet.open(Path(masks))
    total = len(found) * count
    target = _output(output)
    target.writer.check(_stack(manifest, 1 if target.is_folder else total))
    _check_apart(Path(masks), bundle.path, target.path)
    _check_label_maps(found, manifest, settings)
    start = None if noise is None else _open_noise(Path(noise), manifest, total)
    check_writable(target.path if target.is_folder else target.path.parent)
    return Plan(bundle, found, seed, count, settings, target, start)


def read_label_map(path: Path, manifest: Manifest) -> NDArray[np.uint8]:
    """Return the label map of a file that holds one, in the bundle's size, (H, W) uint8; warns as `plan_run` does.

    Raises
    ------
    LabelMapError
        It has the wrong type or labels.
    DataError
        The file is missing or damaged, or holds several.
    """
    masks = LabelMapSet.open(path)
    if len(masks) != 1:
        raise DataError(f"{path} holds {len(masks)} label maps; give one")
    every = tuple(c.name for c in manifest.classes[1:])
    _check_label_maps(masks, manifest, Settings(manifest.defaults.sampler, 1, 0.0, every))
    return _fitted(_checked(masks.files[0], 0, manifest), manifest)


def write_images(path: Path, images: Sequence[NDArray[np.float32]]) -> None:
    """Write images, (H, W[, C]) float32 in [0, 1], to one file in the format of its suffix.

    Raises
    ------
    OptionError
        There is no such format, or it cannot hold these images.
    OutputError
        It cannot be written.
    """
    height, width, *channels = images[0].shape
    stack, writer = ImageStack(len(images), height, width, *(channels or [1])), require_writer(path)
    writer.check(stack)
    make_folder(path.parent)
    with writer.create(path, stack) as file:
        for image in images:
            file.append(image)


def _output(output: str | Path) -> Output:
    path = Path(output)
    try:
        os.fspath(output).encode()
    except UnicodeEncodeError as error:
        raise OptionError(f"the name of {printable(path)} is not Unicode, as --json needs: give another") from error
    if not os.fspath(output):
        raise OptionError("the output has no name: give a file or a folder with -o")
    if os.fspath(output) == "-":
        raise OptionError("images cannot go to the standard output, -: give a file or a folder with -o")
    if os.fspath(output).endswith(("/", os.sep)) or path.is_dir() or not path.suffix:
        return Output(path, PngWriter(), is_folder=True)
    return Output(path, require_writer(path), is_folder=False)


def _settings(
    manifest: Manifest, steps: int | None, eta: float, keep: Iterable[str] | None, drop: Iterable[str] | None
) -> Settings:
    steps = manifest.defaults.steps if steps is None else steps
    sampler_rows(manifest.defaults.sampler, manifest.schedule, steps, eta=eta)
    kept = select_classes(manifest.classes, keep=keep, drop=drop)
    return Settings(manifest.defaults.sampler, steps, eta, tuple(manifest.classes[i].name for i in kept))


def _check_apart(masks: Path, bundle: Path, output: Path) -> None:
    """Refuse to write over label maps, where the next run would take images for label maps, or into the bundle."""
    places = [place for place in (output, output.parent) if place.exists()]
    if any(masks.samefile(place) for place in places if place == output or masks.is_dir()):
        raise OptionError(f"{output} is where the label maps are: give images another place with -o")
    if any(bundle.samefile(place) for place in places):
        raise OptionError(f"{output} is the bundle's own folder: give images another place with -o")


def _check_label_maps(masks: LabelMapSet, manifest: Manifest, settings: Settings) -> None:
    """Read every label map, and say once what is unusual in how many."""
    size = (manifest.image.height, manifest.image.width)
    kept = [c.id for c in manifest.classes if c.name in settings.classes]
    sizes: Counter[tuple[int, int]] = Counter()
    empty: list[str] = []
    for file in masks.files:
        for index in range(len(file)):
            label_map = _checked(file, index, manifest)
            sizes[label_map.shape[0], label_map.shape[1]] += 1
            if not np.isin(_fitted(label_map, manifest), kept).any():
                empty.append(_place(file, index))
        if file.stacked and len(file) <= len(manifest.classes):
            stack = np.stack([_checked(file, index, manifest) for index in range(len(file))])
            if looks_one_hot(stack, len(manifest.classes)):
                warnings.warn(f"{file.path}: {one_hot_note(len(file))}", OneHotWarning, stacklevel=3)
    del sizes[size]
    if sizes:
        listed = [f"{height}x{width}: {number}" for (height, width), number in sizes.most_common()]
        which, verb = _of_all(sizes.total(), len(masks)), either(sizes.total(), "is", "are")
        warnings.warn(
            f"{which} {verb} not {size[0]}x{size[1]}, which this bundle draws, and {verb} resized to it by nearest "
            f"neighbour ({some_of(listed)})",
            ResizedMaskWarning,
            stacklevel=3,
        )
        changes = {old: note for old in sizes if (note := aspect_change(old, size)) is not None}
        if changes:
            number = sum(sizes[old] for old in changes)
            commonest = max(changes, key=lambda old: sizes[old])
            warnings.warn(
                f"{_of_all(number, len(masks))} {either(number, 'is', 'are')} distorted: {changes[commonest]}",
                AspectRatioWarning,
                stacklevel=3,
            )
    if empty:
        unseen = "" if manifest.mask.trained_with_empty_mask else ", which this network was not trained with"
        which, verb = _of_all(len(empty), len(masks)), either(len(empty), "has", "have")
        warnings.warn(f"{which} {verb} no foreground{unseen}: {some_of(empty)}", EmptyMaskWarning, stacklevel=3)


def _checked(file: LabelMapFile, index: int, manifest: Manifest) -> NDArray[np.uint8]:
    try:
        return check_label_map(file.read(index), manifest.classes)
    except LabelMapError as error:
        raise LabelMapError(f"{_place(file, index)}: {error}") from error


def _fitted(label_map: NDArray[np.uint8], manifest: Manifest) -> NDArray[np.uint8]:
    size = (manifest.image.height, manifest.image.width)
    return label_map if label_map.shape == size else resize_nearest(label_map, *size)


def _open_noise(path: Path, manifest: Manifest, count: int) -> NpyArray:
    array = NpyArray.open(path)
    image = manifest.image
    shape = (image.channels, image.height, image.width)
    if array.dtype.kind != "f" or array.shape not in ({(count, *shape), shape} if count == 1 else {(count, *shape)}):
        raise DataError(f"{path} must hold noise as float32 {(count, *shape)}; it holds {array.dtype} {array.shape}")
    for index in range(count) if len(array.shape) == 4 else (None,):
        if not np.isfinite(array.read(index)).all():
            raise DataError(f"{path} must hold finite numbers; it holds infinities or NaNs")
    return array


def _stack(manifest: Manifest, count: int) -> ImageStack:
    return ImageStack(count, manifest.image.height, manifest.image.width, manifest.image.channels)


def _place(file: LabelMapFile, index: int) -> str:
    return f"{file.path}[{index}]" if file.stacked else str(file.path)


def _of_all(number: int, total: int) -> str:
    return f"{number} of {counted(total, 'mask')}" if total > 1 else "the mask"
