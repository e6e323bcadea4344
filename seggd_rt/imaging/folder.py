"""Many label maps: one file, or all of a folder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from seggd_rt.errors import DataError
from seggd_rt.imaging.contract import PLAIN, LabelMapFile, Reading
from seggd_rt.imaging.formats import READERS, find_reader, require_input, require_reader
from seggd_rt.wording import printable

_SHOWN = 3
_CLUTTER = {"thumbs.db", "desktop.ini"}


class SkippedFilesWarning(UserWarning):
    """A folder of label maps holds other things too, which are not read."""


@dataclass(frozen=True)
class LabelMapSet:
    """Label map files in the order of their names, and how many maps they hold together."""

    files: tuple[LabelMapFile, ...]

    def __len__(self) -> int:
        """Return how many label maps there are."""
        return sum(len(file) for file in self.files)

    @classmethod
    def open(cls, path: Path, reading: Reading = PLAIN) -> LabelMapSet:
        """Open a file, or all files of a folder whose suffix is that of a label map format.

        A folder that is one file of its format, as a series of DICOM, is opened as such.

        Names are ordered by their characters' code points, the same on every machine. Hidden files are left out
        silently, everything else with a warning.

        Raises
        ------
        DataError
            The path is missing, a pipe or a device; the folder has no label map in it, or a file is damaged.
        LabelMapError
            What a file holds cannot be a label map.
        """
        if not path.is_dir() or find_reader(path) is not None:
            require_input(path, "a label map, or a folder of them")
            return cls((_open(path, reading),))
        try:
            entries = sorted(path.iterdir(), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
        entries = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _CLUTTER]
        files = [entry for entry in entries if (entry.is_file() or entry.is_dir()) and find_reader(entry) is not None]
        if not files:
            known = ", ".join(suffix for reader in READERS for suffix in reader.suffixes)
            raise DataError(f"{path} has no label map in it: put files there that end in {known}")
        chosen = set(files)
        skipped = [entry.name for entry in entries if entry not in chosen]
        if skipped:
            shown = ", ".join(skipped[:_SHOWN]) + (", ..." if len(skipped) > _SHOWN else "")
            warnings.warn(
                f"{len(skipped)} of {len(entries)} entries of {path} are not label maps and are skipped: {shown}",
                SkippedFilesWarning,
                stacklevel=2,
            )
        return cls(tuple(_open(file, reading) for file in files))


def _open(path: Path, reading: Reading) -> LabelMapFile:
    require_unicode(path)
    return require_reader(path).open(path, reading)


def require_unicode(path: Path) -> None:
    """Refuse a file that `manifest.jsonl` could not name.

    Raises
    ------
    DataError
        Its name is not Unicode.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        shown = printable(str(path))
        raise DataError(f"the name of {shown} is not Unicode, as manifest.jsonl needs: rename it") from error
