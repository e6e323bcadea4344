"""Files that are damaged, or state more than they hold."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest

from tests.bad_input import Arrange

nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")

VOLUME = np.random.default_rng(0).integers(0, 4, (32, 24, 3)).astype(np.uint8)


def nifti(name: str, array: np.ndarray, affine: np.ndarray | None = None) -> Arrange:
    return lambda folder: nib.save(
        nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine, dtype=array.dtype),
        folder / name,
    )


def stated(
    shape: tuple[int, ...], dtype: type = np.uint8, *, extension: bytes = b"\0\0\0\0", offset: float = 352
) -> bytes:
    """Return a NIfTI file that states a shape, and has 1000 bytes of it."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header["dim"][: len(shape) + 1] = (len(shape), *shape)
    header["sform_code"], header["srow_x"], header["srow_y"], header["srow_z"] = (
        1,
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 0),
    )
    header["magic"], header["vox_offset"] = b"n+1", offset
    return bytes(header.binaryblock) + extension + bytes(1000)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes, size: tuple[int, int] = (32, 24), depth: int = 8, color: int = 0) -> bytes:
    """Return a grey PNG of zeros with chunks before its end."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((size[0] + 1) * size[1]) if size[0] < 1000 else b""))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + b"".join(chunks) + chunk(b"IEND", b"")


def two_headers() -> bytes:
    """Return a PNG whose second header states far more pixels than its first."""
    whole = png()
    return whole[:33] + chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 16, 1 << 16, 8, 0, 0, 0, 0)) + whole[33:]


def inflating_text() -> bytes:
    """Return a PNG before whose pixels lies a text of a few kilobytes that becomes 100 MB."""
    packed = zlib.compress(bytes(100 << 20), 9)
    whole = png()
    return whole[:33] + chunk(b"iTXt", b"seggd-rt\0\1\0\0\0" + packed) + whole[33:]
