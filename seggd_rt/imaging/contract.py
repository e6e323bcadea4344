"""The two contracts of a format: reading label maps, and writing images.

A reader opens a file by its header alone and reads its maps one at a time; a writer takes images one at a time. So a
stack of any length passes through bounded memory. A format with a geometry keeps it in its own label map file, from
which its writer will take it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import LabelMapError
from seggd_rt.manifest import MAX_PIXELS


class LabelMapFile(Protocol):
    """A file with one label map or a stack of them, known by its header; no file handle stays open."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def stacked(self) -> bool:
        """Whether its maps are told apart by an index, be there but one."""

    def __len__(self) -> int:
        """Return how many label maps it holds, at least 1."""

    def read(self, index: int) -> NDArray[Any]:
        """Return one label map, (H, W) integers or booleans as they are in the file.

        Raises
        ------
        DataError
            The file is damaged or cannot be read.
        """


class LabelMapReader(Protocol):
    """Reads the label maps of one format."""

    suffixes: tuple[str, ...]
    """In lower case, with their dots: (".nii", ".nii.gz")."""

    def open(self, path: Path) -> LabelMapFile:
        """Open a file by its header.

        Raises
        ------
        DataError
            It is not of this format, is damaged, or cannot be read.
        LabelMapError
            What it holds cannot be a label map.
        """


@dataclass(frozen=True)
class ImageStack:
    """The images a file is to hold: how many, and their size."""

    count: int
    height: int
    width: int
    channels: int


class ImageFile(Protocol):
    """A file of images being written; it takes its place when its context ends without an error."""

    def append(self, image: NDArray[np.float32]) -> None:
        """Write the next image, (H, W[, C]) float32 in [0, 1].

        Raises
        ------
        OutputError
            It cannot be written.
        """


class ImageWriter(Protocol):
    """Writes images in one format."""

    suffixes: tuple[str, ...]
    """In lower case, with their dots; new files get the first."""
    holds_many: bool
    """Whether images are told apart by an index, be there but one."""

    def check(self, stack: ImageStack) -> None:
        """Say whether a file of this format can hold these images.

        Raises
        ------
        OptionError
            It cannot; the message names a format that can.
        """

    def create(self, path: Path, stack: ImageStack) -> AbstractContextManager[ImageFile]:
        """Start a file that appears at `path` when the context ends, and not at all if an error ends it."""


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
