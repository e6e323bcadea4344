"""Arrays from an `.npz` that someone else made."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError
from seggd_rt.files import open_regular

_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, LookupError, SyntaxError, RuntimeError, OverflowError, MemoryError,
    tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile and NumPy raise for archives and headers that are damaged, encrypted or packed in other ways."""


def read_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return those arrays of some names that an `.npz` has.

    Raises
    ------
    DataError
        It cannot be read, is no regular file, or is no archive of plain arrays.
    """
    try:
        # A file of our own: NumPy leaves its own open when the content is damaged.
        with open_regular(path) as opened:
            if not zipfile.is_zipfile(opened):
                raise ValueError("it is no archive")
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in names if name in file}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or any(type(length) is not int for length in array.shape):
                raise ValueError(f"'{name}' is no array")
    except _DAMAGE as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} cannot be read as an .npz of plain arrays ({reason}): save it again with numpy.savez"
        ) from error
    return arrays
