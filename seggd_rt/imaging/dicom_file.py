"""DICOM files opened with care: what they are by their first bytes, their headers, and how much a header may promise.

What comes in is data of others. Pixel data is decoded only where it is uncompressed, or run lengths, and where the file
is as long as its header says; so no file makes a reader take more memory than a bound times its own length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError, SeggdError
from seggd_rt.imaging.contract import check_size
from seggd_rt.optional import require

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIX = ".dcm"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, and Label Map Segmentation Storage."""
DIRECTORY = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage: a DICOMDIR."""
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Implicit little endian, explicit little endian, explicit big endian."""
_RUN_LENGTHS = "1.2.840.10008.1.2.5"
_MOST_OF_RUN_LENGTHS = 64
"""Bytes that one byte of run lengths can become at most."""
_SOP_CLASS = b"\x02\x00\x02\x00UI"
_SHOWN = 160


def sop_class(path: Path) -> str | None:
    """Return the SOP class in a file's first bytes, "" where it states none; None where it is no DICOM file."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return None
    if head[128:132] != b"DICM":
        return None
    start = head.find(_SOP_CLASS, 132)
    if start < 0 or start + 8 > len(head):
        return ""
    (length,) = struct.unpack_from("<H", head, start + 6)
    return head[start + 8 : start + 8 + length].decode("ascii", "replace").rstrip("\0 ")


def read_header(path: Path, tags: Sequence[str] | None = None) -> Dataset:
    """Return a file's data set up to its pixel data, or only these of it.

    Raises
    ------
    DataError
        It is no DICOM file, is damaged, or its pixel data is compressed in a way that is not read.
    """
    pydicom = _pydicom()
    with damage(path):
        meta = pydicom.filereader.read_file_meta_info(path)
        syntax = meta.get("TransferSyntaxUID")
        if syntax is None:
            raise DataError(f"{path} does not state how it is encoded (it has no transfer syntax): export it again")
        if syntax not in (*_PLAIN, _RUN_LENGTHS):
            raise DataError(
                f"{path} is compressed as {pydicom.uid.UID(syntax).name}: decompress it first, as dcmdjpeg, dcmconv or "
                "gdcmconv --raw do"
            )
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=None if tags is None else list(tags))


def pixel_size(path: Path, header: Dataset, size: int) -> tuple[int, int, int]:
    """Return how many frames, rows and columns a header states; its file has `size` bytes.

    Raises
    ------
    DataError
        There is no grey pixel, more than memory is meant for, or more than the file can hold.
    LabelMapError
        A frame is too large.
    """
    with damage(path):
        frames, rows, columns = (int(header.get(name) or 0) for name in ("NumberOfFrames", "Rows", "Columns"))
        frames, bits = max(frames, 1), int(header.get("BitsAllocated") or 0)
        samples, syntax = int(header.get("SamplesPerPixel") or 1), header.file_meta.TransferSyntaxUID
    if not rows or not columns or bits not in (1, 8, 16, 32):
        raise DataError(f"{path} has no pixels that are read: give images or segmentations")
    if samples != 1:
        raise DataError(f"{path} has {samples} samples a pixel, as colours have: convert it to grey first")
    check_size(path, rows, columns)
    needed = -(-frames * rows * columns * bits // 8)
    if needed > size * (_MOST_OF_RUN_LENGTHS if syntax == _RUN_LENGTHS else 1):
        raise DataError(f"{path} states {frames} frames of {rows}x{columns} and is too short for them: copy it again")
    return frames, rows, columns


def read_frames(path: Path, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Yield frames of a file in the order given, (H, W) as they are stored.

    Raises
    ------
    DataError
        It is damaged, or not whole.
    """
    pixels = _pydicom().pixels
    with damage(path):
        for frame in pixels.iter_pixels(path, indices=list(frames), raw=True):
            yield np.asarray(frame)


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn what reading a damaged file raises into DataError."""
    errors = _pydicom().errors
    try:
        yield
    except SeggdError:
        raise
    except errors.InvalidDicomError as error:
        raise DataError(f"{path} is not a DICOM file: export it again, or leave it out") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except (
        EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, struct.error
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is damaged, or not whole ({reason[:_SHOWN]}): copy it again") from error


def text(value: object) -> str:
    """Return a file's text so that it can be shown: one line, printable."""
    return "".join(c if c.isprintable() else "?" for c in str(value or "")).strip()


def _pydicom() -> Any:
    module = require("pydicom", extra="dicom", feature="DICOM")
    require("pydicom.pixels", extra="dicom", feature="DICOM")
    return module
