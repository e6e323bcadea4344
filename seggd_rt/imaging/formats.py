"""The formats there are, by suffix and by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from seggd_rt.errors import DataError, OptionError
from seggd_rt.imaging.contract import Format, ImageWriter, LabelMapFile, Reader
from seggd_rt.imaging.dicom import SEGMENTATION, DicomReader, DicomWriter
from seggd_rt.imaging.nifti import NiftiReader, NiftiWriter
from seggd_rt.imaging.npy import NpyReader, NpyWriter
from seggd_rt.imaging.png import PngReader, PngWriter
from seggd_rt.wording import printable

READERS: tuple[Reader, ...] = (PngReader(), NpyReader(), NiftiReader(), DicomReader())
WRITERS: dict[Format, ImageWriter] = {
    Format.PNG: PngWriter(),
    Format.NPY: NpyWriter(),
    Format.NIFTI: NiftiWriter(),
    Format.DICOM: DicomWriter(),
}
"""In the order of names in messages."""


def find_reader(path: Path) -> Reader | None:
    """Return the reader of a file by its suffix, whatever its case, or of a folder that is one file; or None."""
    if path.is_dir():
        return next((reader for reader in READERS if reader.owns(path)), None)
    return next((reader for reader in READERS if path.name.lower().endswith(reader.suffixes)), None)


def require_input(path: Path, wanted: str) -> None:
    """Refuse a path that is missing, or that is neither a file nor a folder.

    Parameters
    ----------
    path
        An input that the user gave.
    wanted
        What to give, in the message about a missing path: "a label map".

    Raises
    ------
    DataError
    """
    if not path.exists():
        raise DataError(f"{printable(str(path))} is not there: give {wanted}")
    if not path.is_file() and not path.is_dir():
        raise DataError(f"{printable(str(path))} is a pipe or a device: give a file")


def require_reader(path: Path) -> Reader:
    """Return the reader of a file's suffix.

    Raises
    ------
    DataError
        There is none.
    """
    reader = find_reader(path)
    if reader is None:
        raise DataError(f"{path} is of no format known here: label maps and images are read from {_listed(READERS)}")
    return reader


def require_writer(path: Path) -> ImageWriter:
    """Return the writer of a file's suffix.

    Raises
    ------
    OptionError
        There is none.
    """
    writer = _find_writer(path)
    if writer is None:
        raise OptionError(
            f"images cannot be written as '{path.name}': give {_listed(WRITERS.values())}, or a folder, its name "
            "ending in /"
        )
    return writer


def writer_of(path: Path) -> ImageWriter:
    """Return the writer of a file, or of a folder that is one, that is there.

    Raises
    ------
    OptionError
        There is none.
    """
    reader = find_reader(path) if path.is_dir() else None
    writer = _find_writer(path) if reader is None else WRITERS[reader.format]
    if writer is None:
        if not path.is_dir():
            raise OptionError(f"{path} is no image of seggd-rt, which writes {_listed(WRITERS.values())}")
        inside = _image_in(path)
        hint = "there is no image in it" if inside is None else f"give an image in it, such as {inside}"
        raise OptionError(f"{path} is a folder, and no image of seggd-rt: {hint}")
    return writer


def _image_in(folder: Path) -> Path | None:
    """Return the first file, or folder that is one, of a format that seggd-rt writes; hidden ones are passed over."""
    entries = sorted(each for each in folder.iterdir() if not each.name.startswith(".") and each.name != SEGMENTATION)
    for entry in entries:
        if find_reader(entry) is not None if entry.is_dir() else _find_writer(entry) is not None:
            return entry
    return next((found for each in entries if each.is_dir() and (found := _image_in(each)) is not None), None)


def _find_writer(path: Path) -> ImageWriter | None:
    return next((writer for writer in WRITERS.values() if path.name.lower().endswith(writer.suffixes)), None)


def stem(path: Path) -> str:
    """Return a label map file's name without its suffix, which may have two dots; a folder's other dots stay."""
    for reader in READERS:
        for suffix in sorted(reader.suffixes, key=len, reverse=True):
            if path.name.lower().endswith(suffix):
                return path.name[: -len(suffix)]
    return path.name if path.is_dir() else path.stem


def writer_like(source: LabelMapFile) -> ImageWriter:
    """Return the writer of the format that a label map file is of; of PNG where that holds pictures."""
    return WRITERS[Format.PNG if source.geometry is None else require_reader(source.path).format]


def _listed(formats: Iterable[Reader | ImageWriter]) -> str:
    return ", ".join(suffix for each in formats for suffix in each.suffixes)
