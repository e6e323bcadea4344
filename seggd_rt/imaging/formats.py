"""The formats there are, by suffix."""

from __future__ import annotations

from pathlib import Path

from seggd_rt.errors import DataError, OptionError
from seggd_rt.imaging.contract import ImageWriter, LabelMapReader
from seggd_rt.imaging.npy import NpyReader, NpyWriter
from seggd_rt.imaging.png import PngReader, PngWriter

READERS: tuple[LabelMapReader, ...] = (PngReader(), NpyReader())
WRITERS: tuple[ImageWriter, ...] = (PngWriter(), NpyWriter())


def find_reader(path: Path) -> LabelMapReader | None:
    """Return the reader of a file's suffix, whatever its case, or None."""
    return next((reader for reader in READERS if path.name.lower().endswith(reader.suffixes)), None)


def require_reader(path: Path) -> LabelMapReader:
    """Return the reader of a file's suffix.

    Raises
    ------
    DataError
        There is none.
    """
    reader = find_reader(path)
    if reader is None:
        raise DataError(f"{path} is of no format known here: label maps are read from {_listed(READERS)}")
    return reader


def require_writer(path: Path) -> ImageWriter:
    """Return the writer of a file's suffix.

    Raises
    ------
    OptionError
        There is none.
    """
    writer = next((writer for writer in WRITERS if path.name.lower().endswith(writer.suffixes)), None)
    if writer is None:
        raise OptionError(
            f"images cannot be written as '{path.name}': give {_listed(WRITERS)}, or a folder, its name ending in /"
        )
    return writer


def stem(path: Path) -> str:
    """Return a label map file's name without its suffix, which may have two dots."""
    for reader in READERS:
        for suffix in sorted(reader.suffixes, key=len, reverse=True):
            if path.name.lower().endswith(suffix):
                return path.name[: -len(suffix)]
    return path.stem


def _listed(formats: tuple[LabelMapReader, ...] | tuple[ImageWriter, ...]) -> str:
    return ", ".join(suffix for each in formats for suffix in each.suffixes)
