"""Copies of files for this user alone, hashed as they are made, so that what is opened is what was checked.

An engine opens files by their names, some of them long after they were hashed. Whoever may write to their folder could
put others in their place in between; into a private folder they cannot.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from multiprocessing.util import Finalize
from pathlib import Path

from seggd_rt.atomic import NewFile
from seggd_rt.errors import OutputError
from seggd_rt.manifest import FileRef

_BLOCK = 1 << 20


class PrivateFolder:
    """A folder in the system's temporary one, made with the first copy and removed with the last use of this object.

    A process that is killed leaves it behind. Another process that is handed this object makes a folder of its own.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._folder: Path | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[PrivateFolder], tuple[str]]:
        """Leave the copies behind."""
        return PrivateFolder, (self._name,)

    def copy(self, source: Path, ref: FileRef) -> Path | None:
        """Copy a file under the name in `ref`; None, and no copy, where its content is not what `ref` says.

        Raises
        ------
        OSError
            The file cannot be read.
        OutputError
            The copy cannot be written.
        """
        with self._lock, source.open("rb") as file:
            try:
                target = self._made() / ref.path
                digest, left = hashlib.sha256(), ref.size
                with NewFile(target) as new:
                    while block := file.read(min(_BLOCK, left + 1)):
                        left -= len(block)
                        if left < 0:  # longer than it may be: no reason to fill the disk
                            break
                        digest.update(block)
                        new.write(block)
            except OutputError as error:
                raise OutputError(
                    f"the private copy of {source} cannot be written ({error}): free the folder of temporary files, or "
                    "name another in TMPDIR"
                ) from error
            if left or digest.hexdigest() != ref.sha256:
                target.unlink()
                return None
            return target

    def _made(self) -> Path:
        if self._folder is None:
            try:
                private = Path(tempfile.mkdtemp(prefix="seggd-"))  # 0700
                # In this process alone, not in one that is forked from it, which has the same object. And at its end,
                # also where it is a worker process: that ends without `atexit`, so `weakref.finalize` would not do.
                Finalize(self, shutil.rmtree, (private,), {"ignore_errors": True}, exitpriority=0)
                folder = private / self._name
                folder.mkdir()
            except OSError as error:
                raise OutputError(error.strerror or str(error)) from error
            self._folder = folder
        return self._folder
