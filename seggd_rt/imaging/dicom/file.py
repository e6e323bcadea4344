"""DICOM files opened with care: what they are by their first bytes, their headers, and how much a header may promise.

What comes in is data of others. Pixel data is decoded only where it is uncompressed, or run lengths, and where the file
is as long as its header says; so no file makes a reader take more memory than a bound times its own length.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError, SeggdError
from seggd_rt.files import open_regular
from seggd_rt.imaging.contract import check_size
from seggd_rt.optional import require
from seggd_rt.wording import printable

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIX = ".dcm"
IMAGES, SEGMENTATION = "images", "segmentation"
"""The folders of images, and of the segmentation they were drawn from, in a volume's folder that seggd-rt writes."""
GROUP, CREATOR, RECORD = 0x5347, "SEGGD-RT", 0x01
"""The private block of each image that seggd-rt writes, and its element with the record of its making, JSON."""
WHITE = 65535
"""White in what seggd-rt writes for a bundle without an intensity range; black is 0."""
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, and Label Map Segmentation Storage."""
DIRECTORY = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage: a DICOMDIR."""
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_PLAIN = (_IMPLICIT, "1.2.840.10008.1.2.1", _BIG_ENDIAN)
"""Transfer syntaxes without compression: implicit little endian, explicit little and big endian."""
_RUN_LENGTHS = "1.2.840.10008.1.2.5"
_MOST_OF_RUN_LENGTHS = 64
"""Bytes that one byte of run lengths can become at most."""
_PREAMBLE, _MAGIC = 128, b"DICM"
"""A file begins with so many bytes of any kind, and this."""
_SOP_CLASS = b"\x02\x00\x02\x00UI"
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
"""Float, double float, and whole pixel data."""
_PIXEL_DATA, _UNDEFINED, _END_OF_ITEMS = (0x7FE0, 0x0010), 0xFFFFFFFF, (0xFFFE, 0xE0DD)
_SHOWN = 160


def sop_class(path: Path) -> str | None:
    """Return the SOP class in a file's first bytes, "" where it states none; None where it is no DICOM file."""
    try:
        with open_regular(path) as file:
            head = file.read(512)
    except OSError:
        return None
    if not head[_PREAMBLE:].startswith(_MAGIC):
        return None
    start = head.find(_SOP_CLASS, _PREAMBLE)
    if start < 0 or start + 8 > len(head):
        return ""
    (length,) = struct.unpack_from("<H", head, start + 6)
    return head[start + 8 : start + 8 + length].decode("ascii", "replace").rstrip("\0 ")


def read_header(path: Path) -> Dataset:
    """Return a file's data set up to its pixel data.

    Raises
    ------
    DataError
        It is no DICOM file, is damaged, or is compressed in a way that is not read.
    """
    with damage(path), _opened(path) as file:
        return _read(path, file, None)


def read_after_pixels(path: Path) -> Dataset:
    """Return the elements of a file that follow its pixel data.

    Raises
    ------
    DataError
        As for `read_header`; or it has no pixel data, or ends within it.
    """
    with damage(path), _opened(path) as file:
        syntax = _read(path, file, None).file_meta.TransferSyntaxUID
        order, size = ">" if syntax == _BIG_ENDIAN else "<", 8 if syntax == _IMPLICIT else 12
        (length,) = struct.unpack(f"{order}I", file.read(size)[-4:])
        if length != _UNDEFINED:
            file.seek(length, os.SEEK_CUR)
        else:
            while (item := struct.unpack("<HHI", file.read(8)))[:2] != _END_OF_ITEMS:
                file.seek(item[2], os.SEEK_CUR)
        rest: Dataset = _pydicom().filereader.read_dataset(file, syntax.is_implicit_VR, syntax.is_little_endian)
        return rest


def open_pixels(path: Path, tags: Sequence[str] | None = None) -> tuple[Dataset, tuple[int, int, int]]:
    """Return a file's data set up to its pixel data, or these of it, and how many frames, rows and columns it has.

    Raises
    ------
    DataError
        As for `read_header`; or it has no grey pixels, or fewer than it states.
    LabelMapError
        A frame has more pixels than memory is meant for.
    """
    with damage(path), _opened(path) as file:
        header = _read(path, file, tags)
        syntax = header.file_meta.TransferSyntaxUID
        there = _pixel_bytes(file, syntax)
        frames, rows, columns, bits = (
            int(header.get(name) or 0) for name in ("NumberOfFrames", "Rows", "Columns", "BitsAllocated")
        )
        samples = int(header.get("SamplesPerPixel") or 1)
    if not there or not rows or not columns or bits not in (1, 8, 16, 32):
        raise DataError(f"{path} has no pixels that are read: give images or segmentations")
    if samples != 1:
        raise DataError(f"{path} has {samples} samples a pixel, as colours have: convert it to grey first")
    check_size(path, rows, columns)
    frames = max(frames, 1)
    needed = -(-frames * rows * columns * bits // 8)
    if needed > there * (_MOST_OF_RUN_LENGTHS if syntax == _RUN_LENGTHS else 1):
        raise DataError(f"{path} states {frames} frames of {rows}x{columns} and is too short for them: copy it again")
    return header, (frames, rows, columns)


def _read(path: Path, file: BinaryIO, tags: Sequence[str] | None) -> Dataset:
    """Read a header, leaving the file where its pixel data begins.

    By parts, as `pydicom.dcmread` unpacks a deflated file whole before anybody can ask how large it is.
    """
    pydicom = _pydicom()
    file.seek(_PREAMBLE)
    if file.read(len(_MAGIC)) != _MAGIC:
        raise pydicom.errors.InvalidDicomError
    read = pydicom.filereader.read_dataset
    meta = pydicom.dataset.FileMetaDataset(read(file, False, True, stop_when=lambda tag, *_: tag.group != 2))
    syntax = pydicom.uid.UID(meta.get("TransferSyntaxUID") or "")
    if not syntax:
        raise DataError(f"{path} does not state how it is encoded (it has no transfer syntax): export it again")
    if syntax not in (*_PLAIN, _RUN_LENGTHS):
        raise DataError(
            f"{path} is compressed as {text(syntax.name)}: decompress it first, as dcmdjpeg, dcmconv or "
            "gdcmconv --raw do"
        )
    header: Dataset = read(
        file,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, *_: tag in _PIXELS,
        specific_tags=None if tags is None else [pydicom.tag.Tag(tag) for tag in tags],
    )
    header.file_meta = meta
    if tags is not None:
        for _ in header:  # each is decoded here, where it is known what is raised for one that is none
            pass
    return header


class _Within(io.BufferedReader):
    """A file of which no more is read, nor room made for, than it has: lengths in DICOM go to 4 GiB."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self._end = self.seek(0, os.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        rest = max(self._end - self.tell(), 0)
        return super().read(rest if size is None or size < 0 else min(size, rest))


def _opened(path: Path) -> _Within:
    return _Within(open_regular(path).detach())


def _pixel_bytes(file: BinaryIO, syntax: str) -> int:
    """Return how many bytes of pixel data there are, the file being where they begin."""
    order = ">" if syntax == _BIG_ENDIAN else "<"
    start, head = file.tell(), file.read(12)
    if len(head) < 12 or struct.unpack(f"{order}HH", head[:4]) != _PIXEL_DATA:
        return 0
    long = syntax != _IMPLICIT
    (stated,) = struct.unpack(f"{order}I", head[8:12] if long else head[4:8])
    rest = file.seek(0, os.SEEK_END) - start - (12 if long else 8)
    return rest if stated == _UNDEFINED else min(stated, rest)


def read_frames(path: Path, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Yield frames of a file in the order given, (H, W) as they are stored.

    Raises
    ------
    DataError
        It is damaged, or not whole.
    """
    pixels = _pydicom().pixels
    with damage(path), _opened(path) as file:
        for frame in pixels.iter_pixels(file, indices=list(frames), raw=True):
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
        EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, AssertionError,
        struct.error, errors.BytesLengthException,
    ) as error:  # fmt: skip
        reason = text(" ".join(str(error).split()))
        raise DataError(f"{path} is damaged, or not whole ({reason[:_SHOWN]}): copy it again") from error


def text(value: object) -> str:
    """Return a file's text so that it can be shown: one line, printable."""
    return printable(str(value or "")).strip()


def _pydicom() -> Any:
    module = require("pydicom", extra="dicom", feature="DICOM")
    require("pydicom.pixels", extra="dicom", feature="DICOM")
    return module
