"""What a file says of its making, held against the bundle it names: drawn again, and compared."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import GRAY_LEVEL, Precision, pixel_limit, rms, rms_limit
from seggd_rt.engine import EngineInfo, this_cpu
from seggd_rt.errors import DataError, EngineUnavailableError, OptionError, SeggdError
from seggd_rt.imaging import (
    MARK,
    PLAIN,
    WRITERS,
    Axis,
    Fit,
    Format,
    ImageStack,
    ImageWriter,
    LabelMapFile,
    LabelMapSet,
    NpyArray,
    PixelValues,
    Place,
    Provenance,
    Reading,
    ResizedImageWarning,
    Slice,
    StatedFile,
    find_real,
    find_region,
    require_reader,
    writer_of,
)
from seggd_rt.imaging.dicom import IMAGES, SEGMENTATION, plane_axis
from seggd_rt.inference import AUTO, Generator, HowToDraw, load_bundle
from seggd_rt.runs.mask_checks import checked, fitted
from seggd_rt.runs.records import computed_by, digest
from seggd_rt.wording import counted, printable, some_of

_MAX_BATCH = 1024
"""Of a record, which may be anybody's: a batch takes memory."""
_OF_A_SLICE = (
    "seed", "first_seed", "mask_sha256", "noise_sha256", "real_sha256", "region_sha256", "check", "batch",
)  # fmt: skip
"""Of a record what may differ from slice to slice of a volume."""
_OF_A_RUN = ("engine", "precision", "engine_version", "device", "threads", "cores")
"""Of a record what is the same of all images in one file."""
_NEEDS = {
    "at": "real_sha256",
    "weight": "real_sha256",
    "region_sha256": "real_sha256",
    "then_classes": "weight",
    "region_classes": "region_sha256",
    "check": "min_dice",
    "min_dice": "retries",
    "retries": "min_dice",
    "first_seed": "retries",
}
"""Maps a record's field to the field that it requires."""
_EXCLUDES = {
    "real_sha256": ("noise_sha256",),
    "region_sha256": ("at", "weight", "guidance", "against"),
}
"""Maps a record's field to the fields that it excludes: with it, they would not affect the image."""
_COMPARED = 4096
"""Pixels by which the nearest of many images is found, before all of its pixels are compared."""
_ROUNDING = 1e-6
"""How far apart two equal numbers of a header may be, relative to them: files round them to so many digits."""


@dataclass(frozen=True)
class Inputs:
    """What an image was drawn from, beside its seed.

    Attributes
    ----------
    masks
        Its label map, among others if need be: it is known by its hash.
    reading
        How label maps and real images are cut into slices.
    real, region, noise
        The files that were given, which may hold others too; None where there was none.
    """

    masks: Path
    reading: Reading
    real: Path | None = None
    region: Path | None = None
    noise: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """A file's images beside those drawn again: the worst image decides.

    Attributes
    ----------
    images
        How many there are.
    problems
        What is wrong with the file beside its pixels, a line each. Where there are any, pixels are not compared.
    worst
        The number of the image, or slice, that is farthest from its limit, from 0.
    max_error, rms_error
        Its largest difference of two pixels, and its RMS difference, in the file's own values.
    allowed
        The largest difference of the same image: 0 where the same engine drew it on the same kind of CPU.
    possible, possible_rms
        The largest differences that the precisions alone may make.
    unlike
        What is not as recorded, or not recorded, so that equality is not demanded.
    """

    images: int
    problems: tuple[str, ...] = ()
    worst: int = 0
    max_error: float = 0.0
    rms_error: float = 0.0
    allowed: float = 0.0
    possible: float = 0.0
    possible_rms: float = 0.0
    unlike: tuple[str, ...] = ()

    @property
    def alike(self) -> bool:
        """Whether they are the same images, in a file that states what it must."""
        return not self.problems and self.max_error <= self.allowed

    @property
    def is_undecided(self) -> bool:
        """Whether only a machine like the one that drew them can tell."""
        explained = self.max_error <= self.possible and self.rms_error <= self.possible_rms
        return not self.problems and not self.alike and explained

    @property
    def is_possible(self) -> bool:
        """Whether they may be the same images."""
        return self.alike or self.is_undecided


@dataclass(frozen=True)
class _Wanted:
    """An image to draw again: how it was made, its label map, (H, W) uint8, and where that lies."""

    made: Provenance
    label_map: NDArray[np.uint8]
    place: Place

    def may_join(self, other: _Wanted) -> bool:
        """Say whether one call draws both: all is the same but label map, classes, seed and noise."""
        if self.made.weight is not None or self.made.region_sha256 is not None:
            return False
        return all(
            getattr(self.made, name) == getattr(other.made, name)
            for name in ("sampler", "steps", "eta", "spacing", "guidance", "against", "real_sha256", "at", "weight",
                         "region_sha256", "batch")
        ) and (self.made.noise_sha256 is None) == (other.made.noise_sha256 is None)  # fmt: skip


def read_making(path: Path) -> tuple[Provenance, ...]:
    """Return how a file's images were made, in the file's order.

    Raises
    ------
    DataError
        It is not there, cannot be read, carries no record of its making, or one that was changed.
    OptionError
        It is of no format that seggd-rt writes.
    """
    if not path.exists():
        raise DataError(f"{path} is not there: give an image that seggd-rt drew")
    made = writer_of(path).made(path)
    unknown = {each.fit for each in made} - set(Fit)
    if unknown:
        raise DataError(f"{path} states that it was fitted by {min(unknown)}, which is no way to fit: it was changed")
    if unknown := {each.precision for each in made} - set(Precision):
        raise DataError(f"{path} states the precision {printable(min(unknown))}, which is none: it was changed")
    _check_one_run(path, made, [name for name in made[0].__struct_fields__ if name not in _OF_A_RUN])
    for name, needed in _NEEDS.items():
        if any(getattr(each, name) is not None and getattr(each, needed) is None for each in made):
            raise DataError(f"{path} states {name} without {needed}: the record was changed, use the original file")
    for name, others in _EXCLUDES.items():
        for other in others:
            unset = 0 if other == "guidance" else None
            if any(getattr(each, name) is not None and getattr(each, other) != unset for each in made):
                stated = f"{path} states {other} beside {name}, which excludes it"
                raise DataError(f"{stated}: the record was changed, use the original file")
    if any(each.mark not in (None, MARK) for each in made):
        raise DataError(f"{path} has a changed record (the watermark is not '{MARK}'): use the original file")
    if writer_of(path) is not WRITERS[Format.DICOM] and any(each.mark or each.keep_patient for each in made):
        raise DataError(f"{path} states a mark or a kept patient, which only DICOM has: it was changed")
    if strange := [each.batch for each in made if each.batch is not None and not 1 <= each.batch <= _MAX_BATCH]:
        raise DataError(f"{path} states an invalid batch size ({strange[0]}, not 1 to {_MAX_BATCH}): it was changed")
    return made


def load_as_recorded(
    bundle: Bundle,
    made: Provenance,
    *,
    engine: str | None = None,
    precision: str | None = None,
    device: str = AUTO,
    threads: int | None = None,
    on_unavailable: Callable[[str], None] | None = None,
) -> Generator:
    """Load a bundle with the engine, precision and threads that an image was drawn with.

    Parameters
    ----------
    bundle
        The bundle that drew it.
    made
        How the image was made.
    engine, precision, threads
        What to take in place of the recorded ones.
    device
        See `seggd_rt.load`.
    on_unavailable
        Called with a message where the recorded engine, precision or threads cannot be had here, or do not go with
        those given, before others are tried.

    Raises
    ------
    EngineUnavailableError
        No engine can run here as asked.
    """
    tries = dict.fromkeys(
        [
            (engine or made.engine, precision or made.precision),
            (engine or AUTO, precision or made.precision),
            (engine or AUTO, precision or AUTO),
        ]
    )
    *first, last = tries
    if threads is None and made.threads is not None:
        cores = this_cpu().usable_cores
        threads = made.threads if made.threads <= cores else None
        if threads is None and on_unavailable is not None:
            on_unavailable(
                f"recorded settings are not available: {made.threads} threads are recorded, and this machine has "
                f"{counted(cores, 'core')}"
            )
    for name, computed in first:
        try:
            return load_bundle(bundle, engine=name, precision=computed, device=device, threads=threads)
        except EngineUnavailableError as error:
            if on_unavailable is not None:
                on_unavailable(_why_unavailable(made, engine, precision, error))
    return load_bundle(bundle, engine=last[0], precision=last[1], device=device, threads=threads)


def _why_unavailable(made: Provenance, engine: str | None, precision: str | None, error: EngineUnavailableError) -> str:
    """Return why the recorded settings cannot be used here, or which given option does not fit them."""
    pairs = (("engine", engine, made.engine), ("precision", precision, made.precision))
    given = [name for name, value, recorded in pairs if value not in (None, recorded)]
    if not given:
        return f"recorded settings are not available: {error}"
    options = " ".join(f"--{name} {value}" for name, value, _ in pairs if name in given)
    names = " and ".join(f"--{name}" for name in given)
    return (
        f"{options} cannot run with the recorded settings, {made.engine} in {made.precision} ({error}), and others "
        f"are used: leave {names} out to verify with the recorded ones"
    )


def compare(path: Path, generator: Generator, inputs: Inputs, *, batch: int | None = None) -> Comparison:
    """Draw a file's images again and compare.

    Parameters
    ----------
    path
        The file.
    generator
        Of the bundle that the file names; its engine may be another than drew it.
    inputs
        What the images were drawn from.
    batch
        Images drawn at a time; as many as recorded if None, the last batch filled up by its last image.

    Raises
    ------
    DataError
        A label map, real image, region or noise is not the one that the file names by its hash, or cannot be read.
    OptionError
        Something that the images were drawn from was not given, the generator is of another bundle, or the file holds a
        grid, which cannot be taken apart.
    """
    made = read_making(path)
    if any(each.bundle != generator.bundle.sha256 for each in made):
        raise OptionError(
            f"{path} was drawn by the bundle {made[0].bundle[:12]}..., and this one is "
            f"{generator.bundle.sha256[:12]}..."
        )
    if batch is not None and batch < 1:
        raise OptionError(f"batch is {batch}; it must be at least 1")
    writer = writer_of(path)
    if len(made) > 1 and not writer.holds_many:
        raise OptionError(f"{path} is a grid of {len(made)} images: it can be read, and not drawn again")
    manifest, image = generator.manifest, generator.manifest.image
    if writer.holds_volume:
        _check_one_run(path, made, _OF_A_SLICE)
    else:
        old = _pixels(path, PLAIN)
        if not writer.holds_many and old.shape[1:3] != (image.height, image.width):
            raise OptionError(f"{path} is a grid or was resized, so it cannot be regenerated: leave --mask out")
        if len(old) != len(made) and not writer.holds_many:
            raise DataError(f"{path} was changed: it holds {len(old)} images, but {len(made)} records")
    sources = _sources(path, made, generator, inputs)
    if not isinstance(sources, str) and writer.holds_volume and _repeats_some_seeds(made):
        sources = "some of its slices have the same seed, and others another"
    if isinstance(sources, str):
        return Comparison(len(made), (sources,))
    stack = ImageStack(
        len(made),
        image.height,
        image.width,
        image.channels,
        manifest=manifest,
        fit=Fit(made[0].fit),
        keep_patient=made[0].keep_patient,
        mark=made[0].mark is not None,
    )
    found = _Attempts(path, writer, made, stack, generator, inputs, batch).nearest(sources)
    if found.problems or found.pixels is None:
        return Comparison(len(made), found.problems)
    pixels = found.pixels
    compared = [pixels.compared(index, index) for index in range(len(made))]
    if misplaced := pixels.misplaced([index for index, each in enumerate(compared) if not each.is_possible]):
        return Comparison(len(made), misplaced)
    worst = max(compared, key=lambda one: (not one.alike, not (one.alike or one.is_undecided), one.max_error))
    return replace(worst, images=len(made))


def _compared(
    index: int,
    made: Provenance,
    difference: NDArray[np.float64],
    values: PixelValues,
    info: EngineInfo,
    batch: int | None,
) -> Comparison:
    """Compare one image, or slice, by the limits of its own record."""
    unlike = _unlike(made, info, batch)
    allowed = possible = possible_rms = 0.0
    if unlike:
        precise = {made.precision, info.precision} == {Precision.FP32}
        possible = values.step + values.span * pixel_limit(made.precision, info.precision)
        possible_rms = values.step + values.span * rms_limit(made.precision, info.precision)
        level = values.span * GRAY_LEVEL
        allowed = possible if precise else level
        if values.step >= level:  # 8 bits
            allowed = values.step
    return Comparison(
        1, (), index, float(np.abs(difference).max()), rms(difference), allowed, possible, possible_rms, unlike
    )


@dataclass(frozen=True)
class _Pixels:
    """The images of a file, `old`, and those drawn again, `new`, both (N, H, W[, C]) in the file's own values.

    Attributes
    ----------
    noun
        What an image is called: "slice" in a volume.
    """

    old: NDArray[Any]
    new: NDArray[Any]
    made: Sequence[Provenance]
    values: PixelValues
    info: EngineInfo
    batch: int | None
    noun: str

    def compared(self, index: int, other: int) -> Comparison:
        """Compare an image of the file with one that is drawn again, by that one's record."""
        difference = self.old[index].astype(np.float64) - self.new[other]
        return _compared(index, self.made[other], difference, self.values, self.info, self.batch)

    def miscounted(self) -> tuple[str, ...]:
        """Return a line if images are missing or added: from which on."""
        count, expected = len(self.old), len(self.new)
        if count == expected:
            return ()
        both = range(min(count, expected))
        first = next((index for index in both if not self.compared(index, index).is_possible), len(both))
        return (_miscounted(self.noun, count, expected, first),)

    def misplaced(self, differing: Sequence[int]) -> tuple[str, ...]:
        """Return a line if some of the images that differ are other ones of the file, moved or repeated."""
        step = -(-self.new[0].size // _COMPARED)
        thin = self.new.reshape(len(self.new), -1)[:, ::step].astype(np.float64)
        found = dict[int, int]()
        for index in differing:
            one = self.old[index].reshape(-1)[::step]
            nearest = int(np.square(thin - one).mean(axis=1).argmin())
            if self.compared(index, nearest).is_possible:
                found[index] = nearest
        if not found:
            return ()
        shown = some_of([f"{self.noun} {index} holds {self.noun} {other}" for index, other in found.items()])
        edited = [str(index) for index in differing if index not in found]
        more = f"; {counted(len(edited), f'other {self.noun}')} changed ({some_of(edited)})" if edited else ""
        return (f"{self.noun}s were moved or repeated: {shown}{more}",)


def _unlike(made: Provenance, info: EngineInfo, batch: int | None) -> tuple[str, ...]:
    """Return what an image's last bits depend on and is not as recorded: nothing where it must be equal.

    It must on a CPU of the same kind. On a GPU, libraries choose kernels by timing them.
    """
    unlike = [name for name, value in computed_by(info).items() if getattr(made, name) != value]
    if made.batch is None or batch not in (None, made.batch):
        unlike.append("batch")
    return tuple(unlike) if info.device == "cpu" else (*unlike, "GPU")


def _differing(
    path: Path, found: Sequence[StatedFile], expected: Sequence[StatedFile], images: int, mask: Path
) -> tuple[str, ...]:
    """Return what files state otherwise than those drawn again: a line for each file and attribute.

    A folder of images alone, as an archive keeps a series, need not have the segmentation beside them.
    """
    if len(found) == images and not (path / SEGMENTATION).is_dir():
        expected = expected[:images]
    if len(found) != len(expected):
        return (f"it has {counted(len(found), 'file')}, but its record gives {len(expected)}",)
    pairs = list(zip(found, expected, strict=True))
    lines = [line for file, other in pairs for line in dict.fromkeys(_differing_elements(file, other))]
    return (*_of_another_mask(pairs, mask), *lines)


def _of_another_mask(pairs: Sequence[tuple[StatedFile, StatedFile]], mask: Path) -> Iterator[str]:
    """Yield one line if files differ in what comes from the header of the label map's file."""
    differing = [
        (file.name, sorted(name for name in file.of_mask & other.of_mask if file.texts[name] != other.texts[name]))
        for file, other in pairs
    ]
    differing = [(file, names) for file, names in differing if names]
    if differing:
        names = dict.fromkeys(name.rpartition(".")[2] for _, each in differing for name in each)
        others = f" (and {counted(len(differing) - 1, 'other file')})" if differing[1:] else ""
        yield (
            f"{differing[0][0]}{others} has another {', '.join(names)} than the regenerated file: this comes from the "
            f"header of the label map's file, so give the file that it was drawn from; if that is {mask}, "
            "the image was changed"
        )


def _differing_elements(file: StatedFile, other: StatedFile) -> Iterator[str]:
    """Yield a line for each other thing that a file states otherwise than the file drawn again, naming no value."""
    some: dict[str, str | tuple[float, ...]] = {**file.texts, **file.numbers}
    others: dict[str, str | tuple[float, ...]] = {**other.texts, **other.numbers}
    for name in sorted({*some, *others} - (file.of_mask & other.of_mask)):
        short = name.rpartition(".")[2]
        if name not in others:
            yield f"{file.name} has {short}, which the regenerated file lacks"
        elif name not in some:
            yield f"{file.name} lacks {short}, which the regenerated file has"
        elif not _same(some[name], others[name], other.tolerances.get(name)):
            yield f"{file.name} has another {short} than the regenerated file"


def _same(one: str | tuple[float, ...], other: str | tuple[float, ...], tolerance: float | None) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    close = (
        partial(np.allclose, rtol=_ROUNDING, atol=0)
        if tolerance is None
        else partial(np.allclose, rtol=0, atol=tolerance)
    )
    return len(one) == len(other) and bool(close(one, other, equal_nan=True))


def _drawn_again(
    made: Sequence[Provenance],
    places: Sequence[tuple[LabelMapFile, int]],
    generator: Generator,
    inputs: Inputs,
    batch: int | None,
) -> Iterator[NDArray[np.float32]]:
    """Yield the images, drawn in batches as they are recorded."""
    group: list[_Wanted] = []
    for each, (file, index) in zip(made, places, strict=True):
        whole = checked(file, index, generator.manifest)
        place = Place(Slice(file, index).geometry, (whole.shape[0], whole.shape[1]))
        wanted = _Wanted(each, fitted(file, whole, generator.manifest, Fit(each.fit)), place)
        size = batch or (group[0].made.batch if group else None) or 1
        if group and (len(group) == size or not wanted.may_join(group[0])):
            yield from _draw(generator, group, inputs, size)
            group = []
        group.append(wanted)
    yield from _draw(generator, group, inputs, batch or group[0].made.batch or 1)


@dataclass(frozen=True)
class _Source:
    """Label maps that images may have been drawn from.

    Attributes
    ----------
    places
        The file and index of each image's label map.
    stack
        The file of label maps that a volume, or a file of it, was written for; None of pictures.
    parts
        Which slices of that volume the file may be, where it is one file of a volume's folder; else nothing.
    """

    places: tuple[tuple[LabelMapFile, int], ...]
    stack: LabelMapFile | None = None
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Attempt:
    """A file compared with one regenerated from a source: what differs in the header, and the pixels of both."""

    problems: tuple[str, ...]
    pixels: _Pixels | None


@dataclass(frozen=True)
class _Attempts:
    """Draws a file again from equal label maps that lie in different places or are of different patients."""

    path: Path
    writer: ImageWriter
    made: Sequence[Provenance]
    stack: ImageStack
    generator: Generator
    inputs: Inputs
    batch: int | None

    def nearest(self, sources: Sequence[_Source]) -> _Attempt:
        """Return the first attempt without problems, else the one with the fewest."""
        best: _Attempt | None = None
        refusal: SeggdError | None = None
        images: list[NDArray[np.float32]] | None = None
        for source in sources:
            try:
                if images is None or self._depends_on_place:
                    images = list(_drawn_again(self.made, source.places, self.generator, self.inputs, self.batch))
                for attempt in self._written(source, images):
                    if best is None or len(attempt.problems) < len(best.problems):
                        best = attempt
                    if not attempt.problems:
                        return attempt
            except SeggdError as error:  # of this source; another may do
                refusal = refusal or error
        if best is None:
            raise refusal or ValueError("there are no sources")
        return best

    @property
    def _depends_on_place(self) -> bool:
        return any(each.weight is not None or each.region_sha256 is not None for each in self.made)

    def _written(self, source: _Source, images: Sequence[NDArray[np.float32]]) -> Iterator[_Attempt]:
        """Yield a file as it is drawn again; of one file of a volume each slice that it may be."""
        reading = _as_written(self.writer, source.stack, self.inputs.reading.axis)
        found = self.writer.stated(self.path, kept=self.stack.keep_patient)
        count = 1 if source.stack is None else len(source.stack)
        stack = replace(self.stack, source=source.stack, count=count if source.parts else self.stack.count)
        self.writer.check(stack)
        with tempfile.TemporaryDirectory() as folder:
            again = Path(folder) / ("volume" if source.parts else self.path.name)
            with self.writer.create(again, stack) as file:
                pairs = [(images[0], self.made[0])] * count if source.parts else zip(images, self.made, strict=True)
                for pixels, each in pairs:
                    file.append(pixels, each)
            parts = [sorted((again / IMAGES).iterdir())[part] for part in source.parts] or [again]
            for part in parts:
                stated = self.writer.stated(part, kept=self.stack.keep_patient)
                problems = _differing(self.path, found, stated, len(self.made), self.inputs.masks)
                if problems and self.writer is WRITERS[Format.DICOM]:  # its headers say how pixels are read
                    yield _Attempt(problems, None)
                    continue
                both = self._compared(_pixels(self.path, reading), _pixels(part, reading))
                yield _Attempt(both.miscounted() or problems, both)

    def _compared(self, old: NDArray[Any], new: NDArray[Any]) -> _Pixels:
        if old.shape[1:] != new.shape[1:] or old.dtype.newbyteorder("=") != new.dtype.newbyteorder("="):
            raise DataError(
                f"{self.path} holds {old.dtype} {old.shape}, and drawn again {new.dtype} {new.shape}: it was changed"
            )
        if not np.isfinite(old).all():
            raise DataError(f"{self.path} holds infinities or NaNs: it was changed")
        values, noun = self.writer.values(self.generator.manifest), "slice" if self.writer.holds_volume else "image"
        return _Pixels(old, new, self.made, values, self.generator.engine, self.batch, noun)


def _as_written(writer: ImageWriter, source: LabelMapFile | None, axis: Axis | None) -> Reading:
    """Return how a file is cut into the slices of its label map, which were cut along `axis` or stored as slices.

    DICOM keeps them as slices. NIfTI keeps the array: that of a NIfTI label map, or one of the slices of DICOM.
    """
    if source is None or writer is WRITERS[Format.DICOM]:
        return PLAIN
    if require_reader(source.path).format is Format.NIFTI:
        return Reading(axis=axis)
    if source.geometry is None or not source.geometry.is_known:
        return PLAIN
    return Reading(axis=Axis.THIRD if axis is Axis.FIRST else plane_axis(source.geometry.affine))


def _check_one_run(path: Path, made: Sequence[Provenance], free: Sequence[str]) -> None:
    """Raise DataError unless the images of a file were made by one run: all is the same but what is `free`."""
    for name in made[0].__struct_fields__:
        if name not in free and any(getattr(each, name) != getattr(made[0], name) for each in made):
            raise DataError(f"{path} states several values of {name}, though one run drew it: it was changed")
    if len({each.batch is None for each in made}) > 1:
        raise DataError(f"{path} states the batch of some of its images only: it was changed")


def _repeats_some_seeds(made: Sequence[Provenance]) -> bool:
    """Say whether a volume's slices share some seeds: a run gives them one seed, or each its own."""
    seeds = {each.seed if each.first_seed is None else each.first_seed for each in made}
    return len(seeds) not in (1, len(made))


def _sources(path: Path, made: Sequence[Provenance], generator: Generator, inputs: Inputs) -> tuple[_Source, ...] | str:
    """Return the label maps that images may be drawn from, or what is wrong with a volume that is of none."""
    manifest, writer = generator.manifest, writer_of(path)
    masks = LabelMapSet.open(inputs.masks, inputs.reading.of_bundle(manifest))
    fit, wanted = Fit(made[0].fit), [each.mask_sha256 for each in made]
    hashes = {
        file.path: [digest(fitted(file, checked(file, index, manifest), manifest, fit)) for index in range(len(file))]
        for file in masks.files
    }
    places = {each: (file, index) for file in reversed(masks.files) for index, each in enumerate(hashes[file.path])}
    missing = len(set(wanted) - set(places))
    if missing:
        raise DataError(
            f"{inputs.masks} has no label map of which {missing} of these images were drawn: give theirs, with the "
            "--map, --threshold and --axis that they were read with"
        )
    if not writer.holds_volume:
        return (_Source(tuple(places[each] for each in wanted)),)
    volumes = [file for file in masks.files if file.geometry is not None]
    if len(wanted) > 1:
        found = [
            _Source(tuple((file, index) for index in range(len(file))), file)
            for file in volumes
            if hashes[file.path] == wanted
        ]
        return tuple(found) or _why_none(wanted, [hashes[file.path] for file in volumes])
    found = []
    for file in volumes:
        parts = tuple(index for index, each in enumerate(hashes[file.path]) if each == wanted[0])
        if len(file) > 1 and parts and not path.is_dir() and not writer.ending:  # a file of a volume's folder
            found.append(_Source(((file, parts[0]),), file, parts))
        found += [_Source(((file, index),), Slice(file, index) if len(file) > 1 else file) for index in parts]
    return tuple(found) or f"no volume in {inputs.masks} has its label map"


def _why_none(wanted: Sequence[str], volumes: Sequence[Sequence[str]]) -> str:
    """Return why slices, whose label maps are all there, are those of no volume."""
    whole = [hashes for hashes in volumes if set(wanted) <= set(hashes)]
    if not whole:
        return "its slices are of several label maps"
    pairs = enumerate(zip(wanted, whole[0], strict=False))
    count, expected = len(wanted), len(whole[0])
    place = next((index for index, (one, other) in pairs if one != other), min(count, expected))
    if count != expected:
        return _miscounted("slice", count, expected, place)
    return f"its slices are not in its label map's order, from slice {place} on: give the --axis that it was drawn with"


def _miscounted(noun: str, count: int, expected: int, first: int) -> str:
    """Say that a file has too few or too many images, and which is the first that is not its own."""
    return f"{noun}s are {'missing' if count < expected else 'added'}: {count}, not {expected}, from {noun} {first} on"


def _draw(generator: Generator, group: list[_Wanted], inputs: Inputs, batch: int) -> NDArray[np.float32]:
    """Draw images of one kind again, (N, H, W[, C]), as a batch of this size that the last of them fills up."""
    made, place = group[0].made, group[0].place
    full = [*group, *[group[-1]] * (batch - len(group))]
    label_maps, seeds = np.stack([each.label_map for each in full]), [each.made.seed for each in full]
    how: HowToDraw = {
        "sampler": made.sampler,
        "steps": made.steps,
        "eta": made.eta,
        "spacing": made.spacing,
        "guidance": made.guidance,
        "against": made.against,
    }
    keep_each = [each.made.classes for each in full]
    for given, needed, name in (
        (inputs.real, made.real_sha256, "--real"),
        (inputs.region, made.region_sha256, "--region"),
        (inputs.noise, made.noise_sha256, "--noise"),
    ):
        if given is not None and needed is None:
            raise OptionError(f"this image was drawn without {given}: leave {name} out")
    if made.real_sha256 is None:
        starts = [start for start in (_noise(each.made, inputs) for each in full) if start is not None]
        noise = np.stack(starts) if starts else None
        return generator(label_maps, seeds=seeds, noise=noise, keep_each=keep_each, **how)[: len(group)]
    if inputs.real is None:
        raise OptionError("this image was drawn from a real one: give it with --real")
    # A run of many label maps reads its real image once, for all of them: it has no place then.
    beside = None if made.weight is None and made.region_sha256 is None else place
    real = _known(find_real, inputs.real, generator, inputs, beside, made.real_sha256)
    if made.region_sha256 is not None:
        if inputs.region is None:
            raise OptionError("a region of this image was drawn anew: give it with --region")
        find = partial(find_region, classes=made.region_classes)
        region = _known(find, inputs.region, generator, inputs, place, made.region_sha256)
        without = {name: value for name, value in how.items() if name not in ("guidance", "against")}
        return generator.inpaint(real, region, label_maps, seeds=seeds, keep=made.classes, **without)[:1]  # type: ignore[arg-type]
    at = 0.6 if made.at is None else made.at
    if made.weight is None:
        return generator.translate(real, label_maps, at=at, seeds=seeds, keep_each=keep_each, **how)[: len(group)]
    how["keep"] = made.classes
    return generator.interpolate(
        label_maps[0], real, weight=[made.weight] * batch, at=at, seed=made.seed, then_keep=made.then_classes, **how
    )[:1]


def _noise(made: Provenance, inputs: Inputs) -> NDArray[np.float32] | None:
    """Return the noise that an image was drawn from in its seed's place."""
    if made.noise_sha256 is None:
        return None
    if inputs.noise is None:
        raise OptionError("this image was drawn from given noise: give it with --noise")
    array = NpyArray.open(inputs.noise)
    several = array.shape[0] if len(array.shape) == 4 else 1
    for index in range(several):
        noise = array.read(index if len(array.shape) == 4 else None).astype(np.float32)
        if digest(noise) == made.noise_sha256:
            return noise
    raise DataError(f"{inputs.noise} has not the noise that this image was drawn from")


def _known(
    find: Callable[..., NDArray[np.float32] | None],
    path: Path,
    generator: Generator,
    inputs: Inputs,
    place: Place | None,
    expected: str,
) -> NDArray[np.float32]:
    """Return the real image, or region, of a hash."""
    with warnings.catch_warnings(action="ignore", category=ResizedImageWarning):
        image = find(path, generator.manifest, inputs.reading, place, lambda image: digest(image) == expected)
    if image is None:
        raise DataError(f"{path} is not what this image was drawn from: its SHA-256 in the bundle's size is another")
    return image


def _pixels(path: Path, reading: Reading) -> NDArray[Any]:
    """Return all pixels of a file, in its own values, image by image."""
    if path.name.lower().endswith(".npy"):  # of many images, which is no real image
        array = NpyArray.open(path)
        if not array.shape:
            raise DataError(f"{path} holds one number, and no images: it was changed")
        return array.read()
    file = require_reader(path).open_real(path, reading)
    return np.stack([file.read(index) for index in range(len(file))])


def making_as_json(made: Sequence[Provenance]) -> str:
    """Return how images were made, as one line of JSON."""
    return msgspec.json.encode(list(made)).decode()
