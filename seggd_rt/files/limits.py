"""What keeps files of others within bounds: regular files alone, of a limited size, and values that are not too nested.

A pipe among them would make a command wait for ever, a device would never end, and what is nested too deeply cannot be
written again.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 16 << 20
"""The largest settings file."""
MAX_MANIFEST_VALUES = 1 << 16
"""How many values a bundle manifest may have: objects, lists and what they hold. 256 classes with their bounds need
2,800. The C++ SDK has the same limit, `kMaxJsonValues`."""
MAX_NESTING = 32
"""How many lists and objects may lie in each other, where a file's values are of no known form."""


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a file to read its bytes; a pipe, a socket or a device is none, and is not waited for.

    Parameters
    ----------
    path
        The file.
    follow
        Whether the last part of its path may be a link.

    Raises
    ------
    OSError
        It cannot be opened, or is no regular file.
    """
    # O_NONBLOCK: to open a pipe would wait until somebody writes into it.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_file(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file.

    Raises
    ------
    OSError
        It cannot be read, is no regular file, or has more than `limit` bytes.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is over {_shown(limit)}", str(path))
    return data


def check_nesting(value: Any, levels: int = MAX_NESTING) -> None:
    """Raise ValueError where lists and dicts, as JSON has them, lie in each other more than so many levels deep."""
    if not isinstance(value, dict | list):
        return
    if not levels:
        raise ValueError(f"values are nested more than {MAX_NESTING} levels deep")
    for inner in value.values() if isinstance(value, dict) else value:
        check_nesting(inner, levels - 1)


def _shown(size: int) -> str:
    return f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"
