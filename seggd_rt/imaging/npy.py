"""NumPy's .npy: label maps, one or a stack, real images, and images as a stack of float32.

A .npy has no room for a record of its making, which lies beside it as NAME.npy.json.
"""

from __future__ import annotations

import math
import os
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from seggd_rt.bundle import Manifest
from seggd_rt.diffusion import check_axes
from seggd_rt.errors import DataError, LabelMapError, OutputError
from seggd_rt.files import MayReplace, NewFile, check_regular, open_regular, read_file
from seggd_rt.imaging.contract import (
    PLAIN,
    Format,
    ImageFile,
    ImageStack,
    PixelValues,
    Reading,
    StatedFile,
    check_integers,
    check_size,
    unmarked,
)
from seggd_rt.imaging.provenance import MAX_BYTES, Provenance, dump, parse

_HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_DAMAGE = (ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError, tokenize.TokenError)
"""What NumPy raises for headers that are damaged: it reads them as Python's literals."""
_BLOCK = 16 << 20
"""Bytes read at a time, where one part of an array lies between the others."""


@dataclass(frozen=True, slots=True)
class NpyArray:
    """An array in a .npy file, known by its header, which states no more than the file holds."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool = False

    @classmethod
    def open(cls, path: Path) -> NpyArray:
        """Read a file's header.

        Raises
        ------
        DataError
            It is not a .npy, holds Python objects, is not as long as its header says, or cannot be read.
        """
        try:
            with open_regular(path) as file:
                array = cls(path, *_header(file))
                size = os.fstat(file.fileno()).st_size - file.tell()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
        except _DAMAGE as error:
            raise DataError(f"{path} is not a .npy file, or not a whole one: save it again with numpy.save") from error
        shape, dtype = array.shape, array.dtype
        if dtype.hasobject:
            raise DataError(f"{path} holds Python objects, which are not safe to load: save it as an array of numbers")
        count = 1
        for length in shape:
            count *= length  # Python's integers do not overflow
        if any(isinstance(length, bool) for length in shape):
            raise DataError(f"{path} states an invalid shape {shape}: save it again with numpy.save")
        if min(shape, default=1) < 0 or count * dtype.itemsize != size:
            raise DataError(
                f"{path} states {dtype} {shape} and holds {size} bytes of it: copy it again, or save it again"
            )
        return array

    def read(self, index: int | None = None) -> NDArray[Any]:
        """Return a copy of the array, or of its part at an index of the first axis.

        Raises
        ------
        DataError
            The file was changed since it was opened, or cannot be read.
        """
        # Into memory: a mapped file that somebody truncates ends the process by a signal.
        try:
            with open_regular(self.path) as file:
                self._require_unchanged(file)
                return self._whole(file) if index is None else self._part(file, range(self.shape[0])[index])
        except OSError as error:
            raise DataError(f"{self.path} cannot be read any more ({error.strerror or error}): start again") from error

    def _require_unchanged(self, file: BufferedReader) -> None:
        """Refuse a file whose header is not the one that `open` read; leave it at its numbers."""
        try:
            same = _header(file) == (self.shape, self.dtype, self.fortran_order)
        except _DAMAGE:
            same = False
        if not same:
            raise DataError(f"{self.path} was changed while it was in use: start again")

    def _whole(self, file: BufferedReader) -> NDArray[Any]:
        order: Literal["F", "C"] = "F" if self.fortran_order else "C"
        return self._numbers(file, math.prod(self.shape)).reshape(self.shape, order=order)

    def _part(self, file: BufferedReader, index: int) -> NDArray[Any]:
        count, *rest = self.shape
        size = math.prod(rest)
        if not self.fortran_order:
            file.seek(index * size * self.dtype.itemsize, os.SEEK_CUR)
            return self._numbers(file, size).reshape(rest)
        # The parts lie interleaved: this one's numbers are picked out of a block at a time.
        part, step = np.empty(size, self.dtype), max(1, _BLOCK // (count * self.dtype.itemsize))
        for first in range(0, size, step):
            last = min(first + step, size)
            part[first:last] = self._numbers(file, (last - first) * count)[index::count]
        return part.reshape(rest, order="F")

    def _numbers(self, file: BufferedReader, count: int) -> NDArray[Any]:
        """Return the next numbers of a file."""
        numbers = np.empty(count, self.dtype)
        left = numbers.view(np.uint8).data
        while len(left):
            size = file.readinto(left)
            if not size:
                raise DataError(f"{self.path} is shorter than its header says: copy or save it again")
            left = left[size:]
        return numbers


def _header(file: BufferedReader) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Read a header, and return shape, type and whether the first axis is the fastest.

    Raises
    ------
    ValueError, or another of `_DAMAGE`
        It is none.
    """
    read = _HEADERS.get(npy_format.read_magic(file))
    if read is None:
        raise ValueError("its format is newer than 2.0")
    shape, fortran_order, dtype = read(file)
    return shape, dtype, fortran_order


@dataclass(frozen=True, slots=True)
class NpyLabelMaps:
    """A .npy of one label map, (H, W), or a stack, (N, H, W)."""

    array: NpyArray
    geometry: None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.array.path

    @property
    def stacked(self) -> bool:
        """Whether there is an axis of maps."""
        return len(self.array.shape) == 3

    def __len__(self) -> int:
        """Return the length of that axis, or 1."""
        return self.array.shape[0] if self.stacked else 1

    def read(self, index: int) -> NDArray[Any]:
        """Return one label map: see `LabelMapFile.read`."""
        return self.array.read(index if self.stacked else None)


@dataclass(frozen=True, slots=True)
class NpyReal:
    """A .npy of one real image, (H, W[, C]): floats in [0, 1], bytes up to 255, or booleans."""

    array: NpyArray
    geometry: None = None
    physical: bool = False

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.array.path

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def read(self, index: int) -> NDArray[Any]:
        """Return the image: see `RealFile.read`."""
        return self.array.read()


class NpyReader:
    """Reads label maps and real images from .npy."""

    format = Format.NPY
    suffixes: tuple[str, ...] = (".npy",)

    def owns(self, folder: Path) -> bool:
        """Return False: see `Reader.owns`."""
        return False

    def open_real(self, path: Path, reading: Reading = PLAIN) -> NpyReal:
        """Open a real image: see `Reader.open_real`."""
        array = NpyArray.open(path)
        if len(array.shape) not in (2, 3) or not (array.dtype in (np.uint8, np.bool_) or array.dtype.kind == "f"):
            raise DataError(
                f"{path} holds {array.dtype} {array.shape}; a real image is float in [0, 1] or uint8, (H, W[, C])"
            )
        check_size(path, *array.shape[:2])
        return NpyReal(array)

    def open_region(self, path: Path, reading: Reading = PLAIN) -> NpyLabelMaps:
        """Open a region as a label map, whose numbers may be saved as floats: see `Reader.open_region`."""
        return _label_maps(NpyArray.open(path))

    def open(self, path: Path, reading: Reading = PLAIN) -> NpyLabelMaps:
        """Open a .npy by its header: see `Reader.open`."""
        array = NpyArray.open(path)
        check_integers(path, array.dtype)
        return _label_maps(array)


class NpyWriter:
    """Writes images as one .npy, (N, H, W) or, with several channels, (N, H, W, C), float32 in [0, 1]."""

    suffixes: tuple[str, ...] = (".npy",)
    ending = ".npy"
    holds_many = True
    holds_volume = False

    def check(self, stack: ImageStack) -> None:
        """Accept all: see `ImageWriter.check`."""

    @contextmanager
    def create(self, path: Path, stack: ImageStack, may_replace: MayReplace | None = None) -> Iterator[ImageFile]:
        """Start a .npy: see `ImageWriter.create`."""
        _check_ours(_beside(path))
        shape: tuple[int, ...] = (stack.count, stack.height, stack.width)
        shape = shape if stack.channels == 1 else (*shape, stack.channels)
        # The record takes its place first: there is no .npy that lacks its record.
        with NewFile(path, may_replace=may_replace) as file:
            images = _NpyImages(file, shape)
            yield images
            images.check_whole()
            if images.made:
                file.write_beside(_beside(path), dump(images.made))

    def made(self, path: Path) -> tuple[Provenance, ...]:
        """Return how a file's images were made, from the .json beside it: see `ImageWriter.made`."""
        NpyArray.open(path)
        try:
            data = read_file(_beside(path), MAX_BYTES)
        except FileNotFoundError as error:
            raise unmarked(path) from error
        except OSError as error:
            raise DataError(f"{_beside(path)} cannot be read ({error.strerror or error})") from error
        return parse(data, str(_beside(path)))

    def stated(self, path: Path, *, kept: bool = False) -> tuple[StatedFile, ...]:
        """Return nothing but the name: see `ImageWriter.stated`."""
        return (StatedFile(path.name),)

    def values(self, manifest: Manifest) -> PixelValues:
        """Return floats in [0, 1]: see `ImageWriter.values`."""
        return PixelValues(1, 0)


def _label_maps(array: NpyArray) -> NpyLabelMaps:
    """Return an array as label maps.

    Raises
    ------
    LabelMapError
        Its shape is not theirs.
    """
    path = array.path
    if len(array.shape) not in (2, 3):
        raise LabelMapError(f"{path} has the wrong shape {array.shape}: give (H, W), or a stack (N, H, W)")
    if len(array.shape) == 3 and array.shape[0] == 0:
        raise LabelMapError(f"{path} is an empty stack (shape {array.shape}): give at least one label map")
    try:
        check_axes(array.shape)
    except LabelMapError as error:
        raise LabelMapError(f"{path}: {error}") from error
    check_size(path, *array.shape[-2:])
    return NpyLabelMaps(array)


def _check_ours(record: Path) -> None:
    """Refuse to replace a file that is no record of an image's making, though it has the name of one."""
    check_regular(record)
    try:
        if record.exists():
            parse(read_file(record, MAX_BYTES), str(record))
    except (OSError, DataError) as error:
        raise OutputError(
            f"{record} already exists and was not written by seggd-rt: delete it or choose another place with -o"
        ) from error


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


class _NpyImages:
    """Writes the header and image after image: a mapped file would die of a full disk, not say so."""

    def __init__(self, file: NewFile, shape: tuple[int, ...]) -> None:
        self._file, self._shape, self._written = file, shape, 0
        self.made: list[Provenance] = []

    def append(self, image: NDArray[np.float32], made: Provenance | None = None) -> None:
        if not self._written:
            dtype = npy_format.dtype_to_descr(np.dtype("<f4"))
            npy_format.write_array_header_1_0(
                self._file, {"descr": dtype, "fortran_order": False, "shape": self._shape}
            )
        self._file.write(image.astype("<f4").reshape(self._shape[1:]).tobytes())
        self._written += 1
        if made is not None:
            self.made.append(made)

    def check_whole(self) -> None:
        if self._written != self._shape[0]:
            raise ValueError(f"{self._written} images were written of {self._shape[0]}")
