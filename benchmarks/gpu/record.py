"""The file of figures: whole after every single measurement, so that nothing is lost when the script is killed."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from benchmarks.gpu.results import (
    SCHEMA,
    Absent,
    Document,
    Failed,
    Group,
    Measurement,
    Result,
    Run,
    Sanitized,
    Suite,
)
from seggd_rt.errors import DataError
from seggd_rt.files import decode, write_file


class Record:
    """`OUT.json`, and what is in it.

    Parameters
    ----------
    path
        The file; it is read where it is there.

    Raises
    ------
    DataError
        It is no file of figures, or one of another schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document = read_document(path) if path.exists() else Document()

    def begin(self, run: Run) -> int:
        """Note a new run; return its index."""
        self._change(runs=(*self.document.runs, run), in_hand=None)
        return len(self.document.runs) - 1

    def find(self, part: str, name: str) -> Result | None:
        """Return what was measured, if anything."""
        return next((m.result for m in self.document.measurements if (m.part, m.name) == (part, name)), None)

    def settled(self, part: str, name: str) -> bool:
        """Whether a thing need not be measured again: it was and all was well, or it was tried in this very run."""
        latest = len(self.document.runs) - 1
        return any(
            not _unfinished(m.result) and (m.run == latest or not (is_bad(m.result) or isinstance(m.result, Absent)))
            for m in self.document.measurements
            if (m.part, m.name) == (part, name)
        )

    def gave_up(self, part: str, name: str) -> bool:
        """Whether a thing failed in this very run."""
        return any((m.part, m.name) == (part, name) and isinstance(m.result, Failed) for m in self.failed())

    def failed(self) -> list[Measurement]:
        """Return what failed, or found something, in the latest run."""
        latest = len(self.document.runs) - 1
        return [m for m in self.document.measurements if m.run == latest and is_bad(m.result)]

    def take_in_hand(self, part: str, name: str) -> None:
        """Note what is about to be measured."""
        self._change(in_hand=(part, name))

    def let_go(self) -> None:
        """Note that nothing is being measured."""
        self._change(in_hand=None)

    def keep(self, part: str, name: str, result: Result, seconds: float) -> None:
        """Add a measurement, in place of an earlier one of the same key."""
        new = Measurement(
            part=part, name=name, run=len(self.document.runs) - 1, seconds=round(seconds, 3), result=result
        )
        kept = (m for m in self.document.measurements if (m.part, m.name) != (part, name))
        in_hand = None if self.document.in_hand == (part, name) else self.document.in_hand
        self._change(measurements=(*kept, new), in_hand=in_hand)

    def forget(self, pattern: str) -> int:
        """Drop what matches PART/NAME, with * and ? as in file names; return how many that were."""
        before = self.document.measurements
        kept = tuple(m for m in before if not fnmatchcase(f"{m.part}/{m.name}", pattern))
        if len(kept) < len(before):
            self._change(measurements=kept)
        return len(before) - len(kept)

    def _change(self, **fields: object) -> None:
        self.document = msgspec.structs.replace(self.document, **fields)
        write_file(self.path, msgspec.json.format(msgspec.json.encode(self.document), indent=1) + b"\n")


def is_bad(result: Result) -> bool:
    """Whether a result says that something is wrong: an error, a test that fails, a finding of the sanitizer."""
    match result:
        case Failed():
            return True
        case Suite(failed=count) | Sanitized(errors=count):
            return count > 0
        case _:
            return False


def _unfinished(result: Result) -> bool:
    return isinstance(result, Group) and not result.finished


def read_document(path: Path) -> Document:
    """Read a file of figures.

    Raises
    ------
    DataError
        It is none, or one of another schema.
    """
    try:
        document = decode(path.read_bytes(), Document)
    except (msgspec.DecodeError, OSError) as error:
        raise DataError(f"{path} is no file of figures of benchmarks.gpu: {error}") from error
    if document.schema != SCHEMA:
        raise DataError(f"{path} has schema '{document.schema}'; this version reads '{SCHEMA}'")
    return document
