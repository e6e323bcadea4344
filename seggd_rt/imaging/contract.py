"""The two contracts of a format: reading label maps and real images, and writing images.

A reader opens a file by its header alone and reads its maps one at a time; a writer takes images one at a time. So a
stack of any length passes through bounded memory; a volume, whose slices belong together, is held whole. A format with
a geometry states it of its label map files, and its writer puts images there.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import MAX_PIXELS, Manifest
from seggd_rt.diffusion import LabelClass
from seggd_rt.errors import DataError, LabelMapError
from seggd_rt.files import MayReplace
from seggd_rt.imaging.fit import Fit, Window
from seggd_rt.imaging.geometry import Axis, Geometry
from seggd_rt.imaging.provenance import Provenance

MAX_VOXELS = 1 << 28
"""Largest volume that is read or written: 1 GiB as float32."""
SAME_SHARE = 1e-3
"""Of the smallest side of a voxel: files round a place, and two that differ by no more state the same."""


class Format(StrEnum):
    """What files hold label maps and images."""

    PNG = "png"
    NPY = "npy"
    NIFTI = "nifti"
    DICOM = "dicom"


@dataclass(frozen=True)
class Reading:
    """How files are read, where there is a choice.

    Attributes
    ----------
    axis
        Along which volumes are cut into slices; None for axial, and for the thin axis of a volume of one slice.
    index
        Which slice is meant where one picture is asked for; None for the only one.
    fit
        How slices of another size than the bundle's are fitted.
    classes
        The bundle's, background first: what segments are matched to by name.
    segments
        Names of a segmentation's segments, and of the classes they are; others are matched by name.
    threshold
        From which share of its largest value on a pixel of a segmentation of fractions belongs to a segment; None
        where such are not to be read.
    """

    axis: Axis | None = None
    index: int | None = None
    fit: Fit = Fit.RESIZE
    classes: tuple[LabelClass, ...] = ()
    segments: Mapping[str, str] = field(default_factory=dict)
    threshold: float | None = None

    def of_bundle(self, manifest: Manifest) -> Reading:
        """Return how files are read for a bundle: its map of segments holds where this one says nothing."""
        stated = {} if manifest.dicom is None else manifest.dicom.segments
        return replace(self, classes=manifest.classes, segments={**stated, **self.segments})


PLAIN = Reading()
"""Nothing is chosen."""


class LabelMapFile(Protocol):
    """A file with one label map or a stack of them, known by its header; no file handle stays open."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def stacked(self) -> bool:
        """Whether its maps are told apart by an index, be there but one."""

    @property
    def geometry(self) -> Geometry | None:
        """Where its maps lie in the patient, as slices of one volume; None where each is a picture of its own."""

    def __len__(self) -> int:
        """Return how many label maps it holds, at least 1."""

    def read(self, index: int) -> NDArray[Any]:
        """Return one label map, (H, W) integers or booleans as they are in the file.

        Raises
        ------
        DataError
            The file is damaged or cannot be read.
        """


@dataclass(frozen=True)
class Slice:
    """One label map of a file, as a file of its own: see `LabelMapFile`."""

    file: LabelMapFile
    index: int
    stacked: bool = False

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.file.path

    @property
    def geometry(self) -> Geometry | None:
        """Where the label map lies in the patient."""
        whole = self.file.geometry
        return None if whole is None else whole.of_slice(self.index)

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def read(self, index: int) -> NDArray[Any]:
        """Return it: see `LabelMapFile.read`."""
        return self.file.read(self.index)


class RealFile(Protocol):
    """A file with one real image or a stack of them, known by its header; no file handle stays open."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def geometry(self) -> Geometry | None:
        """Where its images lie, as slices of one volume; None where each is a picture of its own."""

    @property
    def physical(self) -> bool:
        """Whether values are the modality's own, as Hounsfield units, and not shares of the type's largest."""

    def __len__(self) -> int:
        """Return how many images it holds, at least 1."""

    def read(self, index: int) -> NDArray[Any]:
        """Return one image, (H, W[, C]) as it is in the file: bytes, integers or floats.

        Raises
        ------
        DataError
            The file is damaged or cannot be read.
        """


class Reader(Protocol):
    """Reads the label maps, and the real images, of one format."""

    format: Format
    suffixes: tuple[str, ...]
    """In lower case, with their dots: (".nii", ".nii.gz")."""

    def owns(self, folder: Path) -> bool:
        """Whether a folder is one file of this format: a series of DICOM, say."""

    def open(self, path: Path, reading: Reading) -> LabelMapFile:
        """Open a file by its header.

        Raises
        ------
        DataError
            It is not of this format, is damaged, or cannot be read.
        LabelMapError
            What it holds cannot be a label map.
        """

    def open_real(self, path: Path, reading: Reading) -> RealFile:
        """Open a file of real images by its header.

        Raises
        ------
        DataError
            It is not of this format, is damaged, cannot be read, or what it holds cannot be an image.
        """

    def open_region(self, path: Path, reading: Reading) -> LabelMapFile:
        """Open a file of regions by its header: maps of values that `check_region` takes or refuses.

        Segments of a segmentation are all 1, whatever their names.

        Raises
        ------
        DataError, LabelMapError
            See `open`.
        """


@dataclass(frozen=True)
class ImageStack:
    """The images a file is to hold.

    Attributes
    ----------
    count, height, width, channels
        How many images come, and their size: the bundle's.
    manifest
        Of the bundle that draws them: what pixel values mean, and the classes. None where nothing is known.
    source
        The label map file whose slices they are drawn from, in its order; None where they have no place in a patient.
    fit
        How those slices were fitted to the bundle's size.
    keep_patient
        Whether whom the source is of may be written into the file.
    mark
        Whether a corner of each image says that it is synthetic.
    """

    count: int
    height: int
    width: int
    channels: int
    manifest: Manifest | None = None
    source: LabelMapFile | None = None
    fit: Fit = Fit.RESIZE
    keep_patient: bool = False
    mark: bool = False

    def window(self, size: tuple[int, int]) -> Window:
        """Return which of a source's pixels, (height, width) of them, an image covers."""
        geometry = None if self.source is None else self.source.geometry
        return Window.of(self.fit, size, (self.height, self.width), geometry)


class ImageFile(Protocol):
    """A file of images being written; it takes its place when its context ends without an error."""

    def append(self, image: NDArray[np.float32], made: Provenance | None = None) -> None:
        """Write the next image, (H, W[, C]) float32 in [0, 1], and how it was made.

        Raises
        ------
        OutputError
            It cannot be written.
        """


@dataclass(frozen=True)
class PixelValues:
    """The pixel values of a written file: how far white is from black, and the least step of two, 0 of floats."""

    span: float
    step: float


@dataclass(frozen=True)
class StatedFile:
    """What a written file states beside its pixels: its whole header.

    Attributes
    ----------
    name
        The file's name.
    texts, numbers
        By what they are called in the format, after a point where they lie in something else.
    tolerances
        How far numbers of a place may be from those of a file of the same place; others must be equal.
    of_mask
        Names of the texts that come from the header of the label map's file, which differ in files of equal label maps.
    """

    name: str
    texts: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    tolerances: Mapping[str, float] = field(default_factory=dict)
    of_mask: frozenset[str] = frozenset()


class ImageWriter(Protocol):
    """Writes images in one format."""

    suffixes: tuple[str, ...]
    """In lower case, with their dots: what names of its files end in."""
    ending: str
    """What names of new files in a folder end in; nothing where each is a folder."""
    holds_many: bool
    """Whether images are told apart by an index, be there but one."""
    holds_volume: bool
    """Whether images are slices that lie where their label maps do."""

    def check(self, stack: ImageStack) -> None:
        """Say whether a file of this format can hold these images.

        Raises
        ------
        OptionError
            It cannot; the message names a format that can.
        """

    def create(
        self, path: Path, stack: ImageStack, may_replace: MayReplace | None = None
    ) -> AbstractContextManager[ImageFile]:
        """Start a file that appears at `path` when the context ends, and not at all if an error ends it.

        Where there is a file then, `may_replace` is called: see `seggd_rt.files.atomic.MayReplace`.
        """

    def made(self, path: Path) -> tuple[Provenance, ...]:
        """Return how a file's images were made.

        Raises
        ------
        DataError
            It cannot be read, carries no such record, or one that was changed.
        """

    def stated(self, path: Path, *, kept: bool = False) -> tuple[StatedFile, ...]:
        """Return what a file states beside its pixels; of a folder, each of its files, images in their order first.

        With `kept` the patient is the label map's, and is stated as it is.

        Raises
        ------
        DataError
            It cannot be read.
        """

    def values(self, manifest: Manifest) -> PixelValues:
        """Return the range and the step of pixel values in the files of a bundle's images."""


def unmarked(path: Path) -> DataError:
    """Say that a file carries no record of its making."""
    return DataError(f"{path} carries no record of its making: seggd-rt did not write it, or something removed it")


def check_size(path: Path, height: int, width: int) -> None:
    """Raise LabelMapError unless a label map of this size has pixels, and not more than memory is meant for."""
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise LabelMapError(f"{path} states a label map of {height}x{width}: it must have 1 to {MAX_PIXELS} pixels")


def check_integers(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise LabelMapError unless pixels are integers or booleans."""
    if dtype.kind not in "iub":
        raise LabelMapError(
            f"{path} holds {dtype}; a label map must hold integers, one class id a pixel: "
            "save it as such (mask.astype('uint8'))"
        )
