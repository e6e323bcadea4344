"""The plan of a run over many label maps: which images, from what, with which seeds, to where.

`plan_run` reads every label map once and refuses, before the network runs, what would fail later. An image depends on
its own seed alone, which its place in the plan gives: a part of the plan gives the same files as the whole.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from seggd_rt.atomic import check_writable, make_folder
from seggd_rt.bundle import Bundle
from seggd_rt.drawing import AblationWarning, Drawing, HowToDraw
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
)
from seggd_rt.manifest import Manifest
from seggd_rt.noise import check_seed, derive_seed, draw_subset
from seggd_rt.samplers import Sampler, entry_step
from seggd_rt.schedule import Spacing
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
    classes
        Names of the classes that it keeps.
    """

    number: int
    file: LabelMapFile
    index: int
    seed: int
    classes: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its file is named after: label map and seed."""
        index = f"_{self.index}" if self.file.stacked else ""
        return f"{stem(self.file.path)}{index}_{self.seed}"


@dataclass(frozen=True)
class Settings:
    """How the images of a run are drawn.

    Attributes
    ----------
    sampler, steps, eta, spacing, guidance, against
        See `seggd_rt.drawing.HowToDraw`; what was left out is filled in.
    classes
        Names of the classes kept, the same in every image; None where each image keeps a random subset.
    real, at
        The real image that all are drawn from, and how far it is noised: see `Generator.translate`.
    """

    sampler: Sampler
    steps: int
    eta: float
    spacing: Spacing
    guidance: float
    against: tuple[str, ...] | None
    classes: tuple[str, ...] | None
    real: Path | None = None
    at: float | None = None


@dataclass(frozen=True)
class Shard:
    """A part of a run: every `of`-th image, beginning with image `index` - 1. All parts together are the whole run."""

    index: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        """Check the range."""
        if not 1 <= self.index <= self.of:
            raise OptionError(f"shard {self.index}/{self.of} is none: it must be i/n with i from 1 to n")


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
    shard: Shard = Shard()

    @property
    def total(self) -> int:
        """How many images the whole run has, of which this may be a shard."""
        return len(self.masks) * self.count

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(range(self.shard.index - 1, self.total, self.shard.of))

    def __iter__(self) -> Iterator[Item]:
        """Yield them in order, all copies of a label map after each other."""
        single = self.total == 1
        names = [c.name for c in self.bundle.manifest.classes]
        places = ((file, index) for file in self.masks.files for index in range(len(file)))
        for place, (file, index) in enumerate(places):
            for copy in range(self.count):
                number = place * self.count + copy
                if number % self.shard.of != self.shard.index - 1:
                    continue
                seed = self.seed if single else derive_seed(self.seed, place, copy)
                kept = self.settings.classes
                if kept is None:
                    kept = tuple(names[i] for i in draw_subset(seed, len(names) - 1))
                yield Item(number, file, index, seed, kept)

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
    noise: str | Path | None = None,
    real: str | Path | None = None,
    at: float | None = None,
    shard: Shard = Shard(),
    random_classes: bool = False,
    **how: Unpack[HowToDraw],
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
    noise
        A .npy of (N, C, H, W) floats, one for each image in the whole run's order, or (C, H, W) for the only one.
    real, at
        An image file that all are drawn from, and how far it is noised, 0.6 if None: see `Generator.translate`.
    shard
        The part of the run to plan.
    random_classes
        Whether each image keeps a random subset of the classes, drawn from its seed as training draws them.
    **how
        As for `Generator.__call__`, for every image.

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
    settings = _settings(manifest, how, random_classes=random_classes, real=real, at=at)
    found = LabelMapSet.open(Path(masks))
    total = len(found) * count
    target = _output(output)
    if shard.of > 1 and not target.is_folder:
        raise OptionError(f"{target.path} is one file, and a shard draws a part of the run: give a folder with -o")
    if noise is not None and real is not None:
        raise OptionError("noise is to start from, and so is a real image: give one of them")
    target.writer.check(_stack(manifest, 1 if target.is_folder else total))
    _check_apart(Path(masks), bundle.path, target.path)
    _check_label_maps(found, manifest, settings.classes)
    start = None if noise is None else _open_noise(Path(noise), manifest, total)
    check_writable(target.path if target.is_folder else target.path.parent)
    return Plan(bundle, found, seed, count, settings, target, start, shard)


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
    _check_label_maps(masks, manifest, None)
    return _fitted(_checked(masks.files[0], 0, manifest), manifest)


def refuse_inputs(output: Path, *inputs: Path) -> None:
    """Refuse to write over what is read.

    Raises
    ------
    OptionError
        The output is one of the inputs.
    """
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise OptionError(f"{output} is an input: give another file with -o")


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
    manifest: Manifest, how: HowToDraw, *, random_classes: bool, real: str | Path | None, at: float | None
) -> Settings:
    drawing = Drawing.resolve(manifest, how)
    if random_classes and manifest.mask.trained_with_ablation is False:
        warnings.warn(
            "this network was trained on whole masks: random subsets are guesses", AblationWarning, stacklevel=3
        )
    if random_classes and (how.get("keep") is not None or how.get("drop") is not None):
        raise OptionError("classes are kept at random: give neither keep nor drop")
    if at is not None and real is None:
        raise OptionError("at says how far a real image is noised: give that too")
    if real is not None:
        at = 0.6 if at is None else at
        entry_step(drawing.table, manifest.schedule, at)
    against, spacing = how.get("against"), how.get("spacing")
    return Settings(
        sampler=drawing.sampler,
        steps=len(drawing.table),
        eta=how.get("eta") or 0.0,
        spacing=manifest.schedule.spacing if spacing is None else Spacing(spacing),
        guidance=how.get("guidance") or 0.0,
        against=None if against is None else ((against,) if isinstance(against, str) else tuple(against)),
        classes=None if random_classes else tuple(manifest.classes[i].name for i in drawing.kept),
        real=None if real is None else Path(real),
        at=at,
    )


def _check_apart(masks: Path, bundle: Path, output: Path) -> None:
    """Refuse to write over label maps, where the next run would take images for label maps, or into the bundle."""
    places = [place for place in (output, output.parent) if place.exists()]
    if any(masks.samefile(place) for place in places if place == output or masks.is_dir()):
        raise OptionError(f"{output} is where the label maps are: give images another place with -o")
    if any(bundle.samefile(place) for place in places):
        raise OptionError(f"{output} is the bundle's own folder: give images another place with -o")


def _check_label_maps(masks: LabelMapSet, manifest: Manifest, classes: tuple[str, ...] | None) -> None:
    """Read every label map, and say once what is unusual in how many."""
    size = (manifest.image.height, manifest.image.width)
    kept = [c.id for c in manifest.classes[1:] if classes is None or c.name in classes]
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
