"""What is kept of every image a run draws: one record an image, as a line of JSON in `manifest.jsonl`."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

import seggd_rt
from seggd_rt.atomic import unwritable, write_file
from seggd_rt.errors import DataError, OptionError
from seggd_rt.generator import Generator
from seggd_rt.imaging.fit import Fit
from seggd_rt.limits import open_regular
from seggd_rt.plan import Settings
from seggd_rt.provenance import Provenance
from seggd_rt.strict_json import decode

MANIFEST = "manifest.jsonl"
REJECTED = "rejected.jsonl"


class Record(Provenance, frozen=True, kw_only=True):
    """How one image was made, and where it is: enough to make it again.

    Attributes
    ----------
    file, file_index
        The image's file, and its index in there where it holds several.
    mask, mask_index
        The name of the label map's file, and the map's index in there where it is a stack.
    noise, real
        The names of the files that gave the starting noise, and the real image it was drawn from; None without one.
    keep_patient
        Whether its file names whom the label map is of.
    """

    file: str
    file_index: int | None
    mask: str
    mask_index: int | None
    noise: str | None
    real: str | None
    keep_patient: bool = False

    @property
    def provenance(self) -> Provenance:
        """What the file itself carries: no names of files."""
        return Provenance(**{name: getattr(self, name) for name in Provenance.__struct_fields__})

    def to_json(self) -> str:
        """Return the record as one line of JSON."""
        return msgspec.json.encode({name: getattr(self, name) for name in _WHERE_THEN_HOW}).decode()


_WHERE_THEN_HOW = sorted(Record.__struct_fields__, key=lambda name: name in Provenance.__struct_fields__)
_FREE = ("file", "file_index", "version", "seed", "first_seed", "check")
_SETTINGS = tuple(name for name in Record.__struct_fields__ if name not in _FREE)


def record_making(
    generator: Generator,
    settings: Settings,
    label_map: NDArray[np.uint8],
    *,
    seed: int,
    classes: tuple[str, ...] | None = None,
    fit: Fit = Fit.RESIZE,
    start: NDArray[np.floating] | None = None,
    real: NDArray[np.float32] | None = None,
    at: float | None = None,
    weight: float | None = None,
    then_classes: tuple[str, ...] | None = None,
    region: NDArray[np.float32] | None = None,
    region_classes: tuple[str, ...] | None = None,
) -> Provenance:
    """Say how an image was made, which was not checked.

    Parameters
    ----------
    generator, settings
        What drew it, and how.
    label_map
        (H, W) uint8 in the bundle's size, before classes are left out.
    classes
        The classes kept; those of the settings if None.
    start, real, region
        Noise, (C, H, W), real image, (H, W[, C]) float32, and region, (H, W) float32, that it was drawn from.
    seed, fit, at, weight, then_classes, region_classes
        See `Provenance`.
    """
    kept = settings.classes if classes is None else classes
    return Provenance(
        seed=seed,
        classes=() if kept is None else kept,
        mask_sha256=digest(label_map),
        noise_sha256=None if start is None else digest(start.astype(np.float32)),
        sampler=settings.sampler,
        steps=settings.steps,
        eta=settings.eta,
        spacing=settings.spacing,
        guidance=settings.guidance,
        against=settings.against,
        real_sha256=None if real is None else digest(real),
        at=at,
        weight=weight,
        then_classes=then_classes,
        region_sha256=None if region is None else digest(region),
        region_classes=region_classes,
        fit=fit,
        engine=generator.engine.engine,
        precision=generator.engine.precision,
        bundle=generator.bundle.sha256,
        version=seggd_rt.__version__,
    )


def digest(array: NDArray[np.generic]) -> str:
    """Return the SHA-256 of an array's bytes, row after row."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


class ManifestFile:
    """A folder's `manifest.jsonl`, every line of which names a file that is complete; or its `rejected.jsonl`.

    Images that a check rejected have no file, and are not drawn again either.
    """

    def __init__(self, folder: Path, *, rejected: bool = False) -> None:
        self.path = folder / (REJECTED if rejected else MANIFEST)
        self._has_files = not rejected

    def records(self) -> list[Record]:
        """Return the records; a last line that a killed process left unfinished is left out.

        Raises
        ------
        DataError
            The file cannot be read, or a line in it is no record.
        """
        return [record for _, record in self._lines()]

    def forget(self, files: Iterable[str]) -> None:
        """Remove the records of files that are about to be written again, and an unfinished line.

        Raises
        ------
        DataError
            See `records`.
        OutputError
            The file cannot be written.
        """
        if not self.path.exists():
            return
        again = set(files)
        kept = b"".join(line + b"\n" for line, record in self._lines() if record.file not in again)
        # Other shards of the run may be appending: where nothing is to be forgotten, nothing is written.
        if len(kept) != self.path.stat().st_size:
            write_file(self.path, kept)

    def finished(self, records: Iterable[Record], *, force: bool = False) -> set[str]:
        """Return which files are there and were made as these records say.

        Raises
        ------
        OptionError
            A file that is there was made with other settings, unless `force` says that it may be replaced; the message
            names them.
        DataError
            See `records`.
        """
        old = {(record.file, record.file_index): record for record in self.records()}
        there, lacking = set[str](), set[str]()
        for record in records:
            before, path = old.get((record.file, record.file_index)), self.path.with_name(record.file)
            if before is None or (self._has_files and not path.exists()):
                lacking.add(record.file)
                continue
            changed = [name for name in _SETTINGS if getattr(before, name) != getattr(record, name)]
            if (before.seed if before.first_seed is None else before.first_seed) != record.seed:
                changed.append("seed")
            if not changed:
                there.add(record.file)
            elif not force:
                raise OptionError(
                    f"{path} was made with {_stated(before, changed)}, and this run has {_stated(record, changed)}: "
                    "give another folder with -o, or replace such images by --force"
                )
        return there - lacking

    def append(self, records: Iterable[Record]) -> None:
        """Add the records of a file, in one write, after it is complete.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        lines = "".join(f"{record.to_json()}\n" for record in records).encode()
        try:
            with self.path.open("ab", buffering=0) as file:
                if file.write(lines) != len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _lines(self) -> list[tuple[bytes, Record]]:
        """Return every finished line with what it says."""
        try:
            with open_regular(self.path) as file:
                lines = file.read().split(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({error.strerror or error})") from error
        found = []
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last line feed is not finished
            try:
                found.append((line, decode(line, Record)))
            except msgspec.DecodeError as error:
                raise DataError(
                    f"{self.path}, line {number}, is no record of seggd-rt ({error}): write to another folder"
                ) from error
        return found


def _stated(record: Record, names: Iterable[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_short(getattr(record, name))}" for name in names)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return " + ".join(map(str, value))
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)
