"""One writer of an output at a time, among all threads and processes that use the same file system."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from seggd_rt.errors import OutputError

if TYPE_CHECKING:
    from filelock import FileLock

_fcntl: ModuleType | None
try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None

_POLL_S = 0.005
"""How often a waiting writer asks for the lock: it is held for about a millisecond."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without locks say."""


@contextmanager
def output_lock(path: Path) -> Iterator[None]:
    """Let one writer of an output at a time into a block.

    The lock is the file `.NAME.lock` beside the output. It disappears with the block; a killed process leaves it
    behind, but no longer holds it.

    Raises
    ------
    OutputError
        The folder cannot be written, or its file system has no locks.
    """
    from filelock import FileLock  # slow to import

    file = lock_file(path)
    lock = FileLock(file, thread_local=False, poll_interval=_POLL_S, preserve_lock_file=True)
    try:
        try:
            lock.acquire()
        except OSError as error:
            raise unlockable(path, error) from error
        yield
    finally:
        try:
            _end(lock, file)
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C in the middle of it
            _end(lock, file)
            raise


def _end(lock: FileLock, file: Path) -> None:
    """Remove a lock's file and release the lock; nothing if another process has it."""
    if _is_ours(lock):
        with contextlib.suppress(OSError):
            # Remove it before the release: a waiting writer notices that it is gone, and makes a new one.
            file.unlink(missing_ok=True)
    if lock.is_locked:
        lock.release()


def _is_ours(lock: FileLock) -> bool:
    """Say whether nobody else has a lock, after an error or interrupt too, which may have left its file behind."""
    from filelock import Timeout

    try:
        if not lock.is_locked:
            lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        return error.errno in _NO_LOCKS
    return True


def lock_file(path: Path) -> Path:
    """Return the file whose lock is the lock of an output."""
    return path.with_name(f".{path.name}.lock")


def hold(handle: int) -> bool:
    """Lock an open file for as long as it stays open; say whether no other process has it locked.

    On Windows, which removes and replaces no file that is open, nothing needs a lock of its own.

    Raises
    ------
    OSError
        The file system has no locks.
    """
    if _fcntl is None:
        return True
    try:
        _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlockable(path: Path, error: OSError) -> OutputError:
    """Say that a path cannot be locked, why, and what to do."""
    return OutputError(
        f"{path} cannot be written ({error.strerror or error}): choose a place with -o that can be written and whose "
        "file system has locks"
    )
