"""Whether a file is still the one that was opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seggd_rt.errors import DataError


@dataclass(frozen=True)
class Stamp:
    """When a file was last written, and how long it is in bytes: what changes when it does."""

    mtime_ns: int
    size: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Return a file's.

        Raises
        ------
        DataError
            It cannot be looked at.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
        return cls(status.st_mtime_ns, status.st_size)

    def check(self, path: Path) -> None:
        """Raise DataError where the file is another by now."""
        if Stamp.of(path) != self:
            raise DataError(f"{path} was changed while it was in use: start again")
