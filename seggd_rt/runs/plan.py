"""The plan of a run over many label maps: which images, from what, with which seeds, to where.

`plan_run` reads every label map once and refuses, before the network runs, what would fail later. An image depends on
its own seed alone, which its place in the plan gives: a part of the plan gives the same files as the whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.diffusion import Sampler, Spacing, check_seed, derive_seed, draw_subset, entry_step, sampler_rows
from seggd_rt.errors import DataError, OptionError
from seggd_rt.files import check_name, check_regular, check_writable
from seggd_rt.imaging import (
    PLAIN,
    WRITERS,
    Format,
    ImageStack,
    LabelMapFile,
    LabelMapSet,
    NpyArray,
    Reading,
    ResizedImageWarning,
    read_real,
    require_unicode,
    stem,
)
from seggd_rt.imaging.dicom import check_said
from seggd_rt.inference import AblationWarning, Drawing, HowToDraw
from seggd_rt.runs.mask_checks import check_label_maps, checked, fitted
from seggd_rt.runs.output import Output, check_apart, check_file

MAX_IMAGES = 10_000_000
"""Of a run: all of their names are checked before the first is drawn."""


class SliceNoise(StrEnum):
    """The noise that the slices of a volume are drawn from."""

    INDEPENDENT = "independent"
    """Each slice has a seed of its own, derived from the volume's."""
    SHARED = "shared"
    """All have the volume's seed, so that slices of alike masks are alike."""


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


@dataclass(frozen=True)
class Target:
    """A file in a plan's folder: a picture, or a volume with its slices.

    Attributes
    ----------
    name
        What it is called: after label map and seed.
    items
        The images it holds, in its order.
    """

    name: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Settings:
    """How the images of a run are drawn.

    Attributes
    ----------
    sampler, steps, eta, spacing, guidance, against
        See `seggd_rt.inference.sampling_params.HowToDraw`; what was left out is filled in.
    classes
        Names of the classes kept, the same in every image; None where each image keeps a random subset.
    real, at
        The real image that all are drawn from, and how far it is noised: see `Generator.translate`.
    slice_noise
        Of volumes.
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
    slice_noise: SliceNoise = SliceNoise.INDEPENDENT

    @classmethod
    def resolve(cls, manifest: Manifest, how: HowToDraw) -> Settings:
        """Check how images are drawn, and fill in what is left out.

        Raises
        ------
        OptionError
            A setting is unknown or outside its range.
        """
        drawing = Drawing.resolve(manifest, how)
        against, spacing = how.get("against"), how.get("spacing")
        return cls(
            sampler=drawing.sampler,
            steps=len(drawing.table),
            eta=how.get("eta") or 0.0,
            spacing=manifest.schedule.spacing if spacing is None else Spacing(spacing),
            guidance=how.get("guidance") or 0.0,
            against=None if against is None else ((against,) if isinstance(against, str) else tuple(against)),
            classes=tuple(manifest.classes[i].name for i in drawing.kept),
        )


@dataclass(frozen=True)
class Shard:
    """A part of a run: every `of`-th file, beginning with file `index` - 1. All parts together are the whole run."""

    index: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        """Check the range."""
        if not 1 <= self.index <= self.of:
            raise OptionError(f"shard {self.index}/{self.of} is none: it must be i/n with i from 1 to n")


@dataclass(frozen=True)
class Plan:
    """Which images a run draws: `count` of every label map. Made, and checked, by `plan_run`.

    A label map file is a place, or each map of a stack is one. The only picture, or volume, of a run has the run's
    seed; of several, copy c of that at place m has the seed `noise.derive_seed(seed, m, c)`. Slice k of a volume of
    seed v has v itself if slices share their noise or there is one, else `noise.derive_seed(v, k)`.
    """

    bundle: Bundle
    masks: LabelMapSet
    seed: int
    count: int
    settings: Settings
    output: Output
    noise: NpyArray | None
    reading: Reading = PLAIN
    shard: Shard = Shard()

    @property
    def total(self) -> int:
        """How many images the whole run has, of which this may be a shard."""
        return len(self.masks) * self.count

    def __len__(self) -> int:
        """Return how many images there are."""
        if any(file.geometry is not None for file in self.masks.files):
            return sum(len(target.items) for target in self.targets())
        return len(range(self.shard.index - 1, self.total, self.shard.of))

    def __iter__(self) -> Iterator[Item]:
        """Yield the images in order, those of a file after each other."""
        for target in self.targets():
            yield from target.items

    def targets(self) -> Iterator[Target]:
        """Yield the files in order, all copies of a label map, or volume, after each other."""
        whole = self._targets()
        yield from (target for place, target in enumerate(whole) if place % self.shard.of == self.shard.index - 1)

    def _targets(self) -> Iterator[Target]:
        """Yield the files of the whole run."""
        single = self.count * sum(1 if file.geometry is not None else len(file) for file in self.masks.files) == 1
        place = number = 0
        for file in self.masks.files:
            is_volume = file.geometry is not None
            for first in (0,) if is_volume else range(len(file)):
                for copy in range(self.count):
                    seed = self.seed if single else derive_seed(self.seed, place, copy)
                    if not is_volume:
                        item = Item(number, file, first, seed, self._classes(seed))
                        yield Target(_named(file, first, seed), (item,))
                        number += 1
                        continue
                    # A volume shows one patient: its slices keep the same classes.
                    classes, count = self._classes(seed), len(file)
                    items = tuple(
                        Item(number + index, file, index, self._slice_seed(seed, index, count), classes)
                        for index in range(count)
                    )
                    number += len(items)
                    if self.output.writer.holds_volume:
                        yield Target(f"{stem(file.path)}_{seed}", items)
                    else:
                        yield from (Target(_named(file, item.index, item.seed), (item,)) for item in items)
                place += 1

    def _classes(self, seed: int) -> tuple[str, ...]:
        """Return the names of the classes that a picture, or volume, of a seed keeps."""
        kept, classes = self.settings.classes, self.bundle.manifest.classes
        return tuple(classes[i].name for i in draw_subset(seed, len(classes) - 1)) if kept is None else kept

    def _slice_seed(self, seed: int, index: int, count: int) -> int:
        alike = count == 1 or self.settings.slice_noise is SliceNoise.SHARED
        return seed if alike else derive_seed(seed, index)

    def label_map(self, item: Item) -> NDArray[np.uint8]:
        """Return an image's label map in the bundle's size, (H, W) uint8.

        Raises
        ------
        DataError
            It was changed since it was checked.
        """
        label_map = checked(item.file, item.index, self.bundle.manifest)
        return fitted(item.file, label_map, self.bundle.manifest, self.reading.fit)

    def start(self, item: Item) -> NDArray[np.floating] | None:
        """Return the noise given for an image, (C, H, W), or None."""
        if self.noise is None:
            return None
        return self.noise.read(item.number if len(self.noise.shape) == 4 else None)

    def stack(self, items: Sequence[Item]) -> ImageStack:
        """Describe a file of images."""
        return _stack(self.bundle.manifest, self.output, self.reading, items[0].file, len(items))


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
    reading: Reading = PLAIN,
    slice_noise: SliceNoise = SliceNoise.INDEPENDENT,
    images_as: Format | None = None,
    keep_patient: bool = False,
    mark: bool = False,
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
    reading
        How label maps and the real image are read and fitted; its classes are the bundle's.
    slice_noise
        The noise that slices of a volume are drawn from.
    images_as
        The format of images in a folder; that of the label maps if None, PNG where those are pictures.
    keep_patient
        Whether whom a label map is of may be written into its images' file, which is DICOM's.
    mark
        Whether a corner of each image says that it is synthetic, in DICOM.
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
    ResizedMaskWarning, AspectRatioWarning, CutMaskWarning, OneHotWarning, EmptyMaskWarning, SkippedFilesWarning
        Once each, with counts.
    """
    manifest = bundle.manifest
    check_seed(seed)
    if count < 1:
        raise OptionError(f"count is {count}; it must be at least 1")
    settings = replace(Settings.resolve(manifest, how), slice_noise=SliceNoise(slice_noise))
    if random_classes:
        check_random_classes(manifest, how)
        settings = replace(settings, classes=None)
    if real is None and reading.index is not None:
        raise OptionError("a slice is given without a real image: give the real image too")
    if real is not None or at is not None:
        settings = _from_real(settings, manifest, real, 0.6 if at is None else at)
    for given in (noise, real):
        if given is not None:
            require_unicode(Path(given))
    if real is not None:
        with warnings.catch_warnings(action="ignore", category=ResizedImageWarning):  # said when it is drawn from
            read_real(Path(real), manifest, reading)
    found = LabelMapSet.open(Path(masks), reading.of_bundle(manifest))
    check_said(reading.segments, found.files)
    if settings.slice_noise is SliceNoise.SHARED and all(file.geometry is None for file in found.files):
        raise OptionError(f"--slice-noise shared needs a volume ({masks} holds images): leave --slice-noise out")
    reading = reading.of_bundle(manifest)
    total = len(found) * count
    if total > MAX_IMAGES:
        raise OptionError(
            f"this run would draw {total:,} images, and one may draw {MAX_IMAGES:,}: make several, each of its own seed"
        )
    target = replace(Output.find(output, found.files, images_as), keep_patient=keep_patient, mark=mark)
    if (keep_patient or mark) and target.writer is not WRITERS[Format.DICOM]:
        raise OptionError("a patient is kept, and images are marked, in DICOM alone: write that with --format dicom")
    if not target.is_folder and not target.writer.ending and total > 1:
        raise OptionError(
            f"{target.path} holds one slice, and this run draws {total}: give a folder with -o, and --format dicom"
        )
    if shard.of > 1 and not target.is_folder:
        raise OptionError(f"{target.path} is one file, and a shard draws a part of the run: give a folder with -o")
    if noise is not None and real is not None:
        raise OptionError("noise is to start from, and so is a real image: give one of them")
    if not target.is_folder and target.writer.holds_volume and (len(found.files), count) != (1, 1):
        raise OptionError(f"{target.path} is one volume, and this run draws several: give a folder with -o")
    for file in found.files:
        at_once = len(file) if target.writer.holds_volume else 1
        target.writer.check(_stack(manifest, target, reading, file, at_once if target.is_folder else total))
    inputs = [Path(each) for each in (masks, noise, real) if each is not None]
    check_apart(target.path, bundle.path, *inputs)
    check_label_maps(found, manifest, settings.classes, reading.fit)
    start = None if noise is None else _open_noise(Path(noise), manifest, total)
    plan = Plan(bundle, found, seed, count, settings, target, start, reading, shard)
    if target.is_folder:
        read = {given.name for given in inputs if given.parent.resolve() == target.path.resolve()}
        for each in plan.targets():
            path = target.path / target.file_name(each.name)
            check_name(path)
            check_regular(path, folder=not target.writer.ending)
            if path.name in read:
                raise OptionError(f"{path} is an input: give images another place with -o")
        check_writable(target.path)
    else:
        check_file(target.path)
    return plan


def check_random_classes(manifest: Manifest, how: HowToDraw) -> None:
    """Say whether each image may keep a random subset of the classes."""
    if manifest.mask.trained_with_ablation is False:
        warnings.warn(
            "this network was trained on whole masks: random subsets are guesses", AblationWarning, stacklevel=3
        )
    if how.get("keep") is not None or how.get("drop") is not None:
        raise OptionError("classes are kept at random: give neither keep nor drop")


def _from_real(settings: Settings, manifest: Manifest, real: str | Path | None, at: float) -> Settings:
    """Return settings of images that are drawn from a real one."""
    if real is None:
        raise OptionError("at says how far a real image is noised: give that too")
    rows = sampler_rows(settings.sampler, manifest.schedule, settings.steps, eta=settings.eta, spacing=settings.spacing)
    entry_step(rows, manifest.schedule, at)
    return replace(settings, real=Path(real), at=at)


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


def _stack(manifest: Manifest, output: Output, reading: Reading, file: LabelMapFile | None, count: int) -> ImageStack:
    return ImageStack(
        count,
        manifest.image.height,
        manifest.image.width,
        manifest.image.channels,
        manifest=manifest,
        source=file,
        fit=reading.fit,
        keep_patient=output.keep_patient,
        mark=output.mark,
    )


def _named(file: LabelMapFile, index: int, seed: int) -> str:
    """Return what a picture's file is named after: label map and seed."""
    place = f"_{index}" if file.stacked else ""
    return f"{stem(file.path)}{place}_{seed}"
