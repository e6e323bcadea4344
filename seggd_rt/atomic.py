"""Files, and folders of them, that appear whole or not at all.

A new file is written beside its place as `.NAME.part` and moved there when it is complete: a reader, or a run that
is killed, sees the old file or the new one. A `.part` left by a killed process is overwritten by the next try.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from seggd_rt.errors import OutputError

_LONGEST_NAME = 255 - len("..json.part")
"""Bytes of a file's name, which the part of a record beside it makes longer: 255 are the most on the systems in use."""


_partial: set[Path] = set()
"""Partial files and folders that this process is writing."""


def remove_partial_files() -> None:
    """Remove every partial file and folder that this process is writing, just before it ends without cleaning up.

    Any thread may call it: it waits for no other thread, raises nothing and keeps what is complete. Writers that go on
    after it fail.
    """
    for part in list(_partial):
        with contextlib.suppress(OSError):
            _remove(part)


class NewFile:
    """A file being written. Use it as a context manager: an error in its block leaves nothing behind.

    The part is made by the first write. Were it made on entering, an interrupt between entering and the block's first
    line would leave it there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.part")
        self._file: BinaryIO | None = None

    def __enter__(self) -> NewFile:
        """Return the file."""
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises
        ------
        OutputError
            They cannot be written: the folder is read only, or the disk is full, say.
        """
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(data)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def flush(self) -> None:
        """Hand everything that was written to the system, which may have no room for it.

        Raises
        ------
        OutputError
            See `write`.
        """
        try:
            if self._file is not None:
                self._file.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Move the part to its place, or remove it."""
        whole = False
        try:
            if kind is None:
                self.write(b"")
            if self._file is not None:
                self._file.close()
            if kind is None:
                self._part.replace(self.path)
                whole = True
        except OSError as failure:
            if kind is None:
                raise unwritable(self.path, failure) from failure
        finally:
            if not whole:
                self._part.unlink(missing_ok=True)
            _partial.discard(self._part)

    def _open(self) -> BinaryIO:
        self._part.unlink(missing_ok=True)
        # O_EXCL: never write through a link that someone else put here.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        _partial.add(self._part)
        return os.fdopen(os.open(self._part, flags, 0o666), "wb")


class NewFolder:
    """A folder of files being written, to be used as `NewFile` is.

    A folder that is there already gives way if every file in it, and in folders in it, `may_go`, as an earlier try left
    it: between the two there may be neither, never a half.
    """

    def __init__(self, path: Path, may_go: Callable[[Path], bool]) -> None:
        self.path, self._may_go = path, may_go
        self._part, self._old = (path.with_name(f".{path.name}.{name}") for name in ("part", "old.part"))
        self._made = False

    def __enter__(self) -> NewFolder:
        """Return the folder."""
        return self

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put a file into the folder, or into one in it: "images/0001.dcm".

        Raises
        ------
        OutputError
            It cannot be written, or another folder is in the way.
        """
        try:
            if not self._made:
                self._make()
            place = self._part / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:
                file.write(data)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Move the part to its place, or remove it."""
        whole = False
        try:
            if kind is None:
                if not self._made:
                    self._make()
                self._take_place()
                whole = True
        except OSError as failure:
            raise unwritable(self.path, failure) from failure
        finally:
            if not whole and self._made:
                _remove(self._part)
            _partial.discard(self._part)

    def _make(self) -> None:
        if self._in_the_way():
            raise OSError(f"another {'folder' if self.path.is_dir() else 'file'} has its name")
        _remove(self._part)
        self._made = True
        _partial.add(self._part)
        self._part.mkdir()

    def _in_the_way(self) -> bool:
        if self.path.is_symlink() or not self.path.is_dir():
            return self.path.is_symlink() or self.path.exists()
        for name, folders, files in os.walk(self.path, onerror=_fail):
            here = Path(name)
            is_empty = not folders and not files and here != self.path  # nothing of ours
            if is_empty or any((here / each).is_symlink() for each in folders):
                return True
            if not all((here / each).is_file() and self._may_go(here / each) for each in files):
                return True
        return False

    def _take_place(self) -> None:
        _remove(self._old)
        if not self.path.exists():
            self._part.rename(self.path)
            return
        self.path.rename(self._old)
        try:
            self._part.rename(self.path)
        except BaseException:
            self._old.rename(self.path)
            raise
        _remove(self._old)


def _fail(error: OSError) -> None:
    raise error


def _remove(path: Path) -> None:
    """Remove a folder with all in it, or a file, or what a link is; nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    with NewFile(path) as file:
        file.write(data)


def write_new_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file where there is none, never over another, open to those whom a mode (less the umask) names.

    Raises
    ------
    OutputError
        There is a file already, or it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags, mode)
    except FileExistsError as error:
        raise OutputError(f"{path} is there already and is not replaced: choose another name") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}): choose another place") from error
    whole = False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        whole = True
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}): choose another place") from error
    finally:
        if not whole:
            path.unlink(missing_ok=True)


def check_name(path: Path) -> None:
    """Find out whether a file's name leaves room for what is put around it on the way.

    Raises
    ------
    OutputError
        It is too long.
    """
    size = len(os.fsencode(path.name))
    if size > _LONGEST_NAME:
        raise OutputError(
            f"{path} cannot be written: its name has {size} bytes, and {_LONGEST_NAME} are the most; give shorter names"
        )


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless it is there.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def check_writable(folder: Path) -> None:
    """Find out whether files can be put into a folder, or a folder made that is not there yet; leave no trace.

    Raises
    ------
    OutputError
        They cannot.
    """
    there = folder
    try:
        while not there.exists() and not there.is_symlink() and there != there.parent:
            there = there.parent
        with tempfile.TemporaryFile(dir=there):
            pass
        if there != folder:
            with tempfile.TemporaryDirectory(dir=there):
                pass
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(path: Path, error: OSError) -> OutputError:
    """Say that a path cannot be written, why, and what to do."""
    return OutputError(f"{path} cannot be written ({error.strerror or error}): free or choose another place with -o")
