"""Files, and folders of them, that appear whole or not at all, also where several processes write one at once.

A new file is written beside its place as `.NAME.part` and moved there when it is complete: a reader, or a run that
is killed, sees the old file or the new one. Where another process writes the same file, the name is `.NAME.1.part` and
so on; each writer has its own. A writer keeps its partial file locked, so the next one knows those of killed processes
and removes them. `locking.output_lock` is held while a file takes its place.

No link is followed and nothing but a regular file is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Protocol

from seggd_rt.errors import OutputError
from seggd_rt.files.locking import hold, lock_file, output_lock

_LONGEST_NAME = 255 - len("..json.999.part")
"""Bytes of a file's name, which the part of a record beside it makes longer: 255 are the most on the systems in use."""
_WRITE = os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Neither follow a link nor wait at a pipe."""
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
MayReplace = Callable[[], None]
"""Called where a file is about to be replaced, while no other process can change it; raises to keep that file."""


class _Unfinished(Protocol):
    """A partial file or folder of this process."""

    def remove(self) -> None:
        """Remove it, unless it is gone or another process's."""


_unfinished: set[_Unfinished] = set()


def remove_partial_files() -> None:
    """Remove every partial file and folder that this process is writing, just before it ends without cleaning up.

    Any thread may call it: it waits for no other thread, raises nothing and keeps what is complete. Writers that go on
    after it fail.
    """
    for partial in list(_unfinished):
        with contextlib.suppress(OSError):
            partial.remove()


class _Part:
    """A partial file that becomes the file at `target`, and that no other writer has.

    Raises
    ------
    OSError
        It cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        for number in itertools.count():
            if not _remove_if_dead(_part_name(target, number)):
                break
        for number in itertools.count():
            self.path = _part_name(target, number)
            if self._open():
                break

    def _open(self) -> bool:
        """Make the file and lock it; say whether that name was free."""
        try:
            # O_EXCL: never write through a link that someone else put here.
            handle = os.open(self.path, _WRITE | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        except BaseException:  # Ctrl-C may come when it is made and its handle is lost
            _remove_if_dead(self.path)
            raise
        try:
            # Another writer may have taken it for dead before it was locked, and removed it.
            taken = hold(handle) and os.fstat(handle).st_nlink > 0
            # This lock outlives the file's closing, which may fail and so comes before the file takes its place.
            self._lock = os.dup(handle) if taken and os.name == "posix" else None
        except BaseException:
            os.close(handle)
            self.path.unlink(missing_ok=True)
            raise
        if not taken:
            os.close(handle)
            return False
        self.file = os.fdopen(handle, "wb")
        _unfinished.add(self)
        return True

    def take_free_place(self) -> bool:
        """Become the file at `target` if there is nothing; say whether it did. It must be closed."""
        try:
            os.link(self.path, self.target)
        except OSError:  # something is there, or the file system knows no second names
            return False
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._forget()
        return True

    def take_place(self) -> None:
        """Become the file at `target`; it must be closed."""
        self.path.replace(self.target)
        self._forget()

    def discard(self) -> None:
        """Close and remove it, unless it has taken its place."""
        if self not in _unfinished:
            return
        with contextlib.suppress(OSError):  # of a full disk, say: it is not wanted any more
            self.file.close()
        with contextlib.suppress(OSError):
            self.remove()
        self._forget()

    def remove(self) -> None:
        """Remove it: see `_Unfinished`."""
        if self._lock is None or os.path.samestat(self.path.lstat(), os.fstat(self._lock)):
            self.path.unlink()

    def _forget(self) -> None:
        _unfinished.discard(self)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _part_name(target: Path, number: int) -> Path:
    return target.with_name(f".{target.name}.{f'{number}.' if number else ''}part")


def _remove_if_dead(part: Path) -> bool:
    """Remove a partial file whose writer has ended; return whether the file could be opened.

    A file that cannot be opened, a link, a pipe and a device stay.
    """
    try:
        handle = os.open(part, _WRITE | _NO_LINK)
    except OSError:
        return False
    try:
        found = os.fstat(handle)
        dead = stat.S_ISREG(found.st_mode) and hold(handle)
        if dead and os.name == "posix":
            # Its writer may have moved or removed it since it was opened here, and another made a new one.
            with contextlib.suppress(OSError):
                if os.path.samestat(part.lstat(), found):
                    part.unlink()
    finally:
        os.close(handle)
    if dead and os.name != "posix":
        with contextlib.suppress(OSError):  # a file that its writer has open stays
            part.unlink()
    return True


class NewFile:
    """A file being written. Use it as a context manager: an error in its block leaves nothing behind.

    The part is made by the first write. Were it made on entering, an interrupt between entering and the block's first
    line would leave it there.

    Parameters
    ----------
    path
        Where it is to appear.
    may_replace
        See `MayReplace`; a regular file is replaced if None.
    locked
        Whether the caller holds the output's lock.
    sync
        Whether it is on the disk before it takes its place, so that a crash of the machine cannot lose it.
    """

    def __init__(
        self, path: Path, *, may_replace: MayReplace | None = None, locked: bool = False, sync: bool = False
    ) -> None:
        self.path, self._locked, self._sync = path, locked, sync
        self._may_replace: dict[Path, MayReplace] = {} if may_replace is None else {path: may_replace}
        self._parts: dict[Path, _Part] = {}

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
        with _said_of(self.path):
            self._part(self.path).file.write(data)

    def write_beside(self, path: Path, data: bytes, *, may_replace: MayReplace | None = None) -> None:
        """Write a companion file, which is published together with this file and just before it.

        Parameters
        ----------
        path
            Where it is to appear.
        data
            Its bytes.
        may_replace
            See `MayReplace`; a regular file is replaced if None.

        Raises
        ------
        OutputError
            See `write`.
        """
        with _said_of(path):
            self._part(path).file.write(data)
        if may_replace is not None:
            self._may_replace[path] = may_replace

    def flush(self) -> None:
        """Hand everything that was written to the system, which may have no room for it.

        Raises
        ------
        OutputError
            See `write`.
        """
        with _said_of(self.path):
            for part in self._parts.values():
                part.file.flush()
                if self._sync:
                    os.fsync(part.file.fileno())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Move the part to its place, or remove it."""
        try:
            if kind is None:
                self.write(b"")
                self.flush()
                with _said_of(self.path):
                    self._take_place()
        finally:
            for part in self._parts.values():
                part.discard()

    def _take_place(self) -> None:
        beside = [part for path, part in self._parts.items() if path != self.path]
        parts = [*beside, self._parts[self.path]]
        for part in parts:
            part.file.close()
        # One file in a free place replaces nothing, so it waits for no lock: most images of a run are such.
        if not beside and parts[0].take_free_place():
            return
        with nullcontext() if self._locked else output_lock(self.path):
            for part in parts:
                check_regular(part.target)
            for path, may_replace in self._may_replace.items():
                if path.exists():
                    may_replace()
            for part in parts:
                part.take_place()

    def _part(self, path: Path) -> _Part:
        if path not in self._parts:
            self._parts[path] = _Part(path)
        return self._parts[path]


class NewFolder:
    """A folder of files being written, to be used as `NewFile` is. It holds the output's lock from its first file on.

    A folder that is there already gives way if every file in it, and in folders in it, `may_go`, as an earlier try left
    it, and `may_replace` raises nothing: between the two there may be neither, never a half. The next writer puts
    the old folder of a killed process back and removes its new one.
    """

    def __init__(self, path: Path, may_go: Callable[[Path], bool], *, may_replace: MayReplace | None = None) -> None:
        self.path, self._may_go, self._may_replace = path, may_go, may_replace
        self._part, self._old = (path.with_name(f".{path.name}.{name}") for name in ("part", "old.part"))
        self._made: os.stat_result | None = None
        self._lock = ExitStack()

    def __enter__(self) -> NewFolder:
        """Return the folder."""
        return self

    def make(self) -> Path:
        """Return the folder's path until it takes its place, for what writes files by itself.

        Raises
        ------
        OutputError
            It cannot be made, or another folder is in the way.
        """
        if self._made is None:
            with _said_of(self.path):
                self._make()
        return self._part

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put a file into the folder, or into one in it: "images/0001.dcm".

        Raises
        ------
        OutputError
            It cannot be written, or another folder is in the way.
        """
        with _said_of(self.path):
            place = self.make() / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:
                file.write(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Move the part to its place, or remove it."""
        with self._lock:
            try:
                if kind is None:
                    self.make()
                    with _said_of(self.path):
                        self._take_place()
            finally:
                _unfinished.discard(self)
                with contextlib.suppress(OSError):  # it has taken its place
                    self.remove()

    def remove(self) -> None:
        """Remove what was written so far: see `_Unfinished`."""
        if self._made is not None and os.path.samestat(self._part.lstat(), self._made):
            shutil.rmtree(self._part)
            lock_file(self.path).unlink(missing_ok=True)

    def _make(self) -> None:
        self._lock.enter_context(output_lock(self.path))
        if self._old.is_dir() and not self.path.exists() and not self.path.is_symlink():
            self._old.rename(self.path)  # a process was killed before the new folder took its place
        if self._in_the_way():
            raise OSError(f"another {'folder' if self.path.is_dir() else 'file'} has its name")
        _remove(self._part)
        self._part.mkdir()
        self._made = self._part.lstat()
        _unfinished.add(self)

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
        if self._may_replace is not None:
            self._may_replace()
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


def write_file(path: Path, data: bytes, *, may_replace: MayReplace | None = None, locked: bool = False) -> None:
    """Write a whole file: see `NewFile`.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    with NewFile(path, may_replace=may_replace, locked=locked) as file:
        file.write(data)


def append(path: Path, data: bytes) -> None:
    """Append bytes to a file, all or none of them; where several processes may, the caller holds `output_lock`.

    Raises
    ------
    OutputError
        It cannot be written, or is not a regular file.
    """
    check_regular(path)
    with _said_of(path):
        handle = os.open(path, _WRITE | _NO_LINK | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(handle).st_size
            if os.write(handle, data) != len(data):
                os.ftruncate(handle, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)


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
    """Find out whether a path has a file's name, and that leaves room for what is put around it on the way.

    Raises
    ------
    OutputError
        There is no name, as in "" and "/", or it is too long.
    """
    if path.name in ("", ".."):
        raise OutputError(f"'{path}' is a folder: give the name of a file")
    size = len(os.fsencode(path.name))
    if size > _LONGEST_NAME:
        raise OutputError(
            f"{path} cannot be written: its name has {size} bytes, and {_LONGEST_NAME} are the most; give shorter names"
        )


def check_regular(path: Path, *, folder: bool = False) -> None:
    """Refuse an output that is there and is not a regular file: a link, a folder, a pipe or a device.

    Parameters
    ----------
    path
        Of the file.
    folder
        Whether it is to be a folder and no file.

    Raises
    ------
    OutputError
        It is such, or its folder cannot be looked into.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(path, error) from error
    if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
        kind = _KINDS.get(stat.S_IFMT(mode), "a file")
        raise OutputError(f"{path} cannot be written (it is {kind}): choose another place with -o")


def check_output(path: Path) -> None:
    """Find out whether a file can be written: its name, its folder, and what is in its place; leave no trace.

    Raises
    ------
    OutputError
        It cannot.
    """
    check_name(path)
    check_writable(path.parent)
    check_regular(path)


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


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """Turn the system's errors in a block into one that says which output cannot be written."""
    try:
        yield
    except OutputError:  # which is an OSError too
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> OutputError:
    """Say that a path cannot be written, why, and what to do."""
    return OutputError(f"{path} cannot be written ({error.strerror or error}): free or choose another place with -o")
