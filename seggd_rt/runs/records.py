"""What is kept of every image a run draws: one record an image, as a line of JSON in `manifest.jsonl`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TypedDict, TypeVar

import msgspec
import numpy as np
from msgspec.structs import replace as struct_replace
from numpy.typing import NDArray

import seggd_rt
from seggd_rt.bundle import sha256_of
from seggd_rt.engine import EngineInfo, this_cpu
from seggd_rt.errors import DataError, OptionError
from seggd_rt.files import append, check_output, decode, open_regular, output_lock, unwritable, write_file
from seggd_rt.imaging import Fit, ImageWriter, Provenance, require_writer
from seggd_rt.inference import Generator
from seggd_rt.runs.output import made_before
from seggd_rt.runs.plan import Settings
from seggd_rt.wording import counted

_Line = TypeVar("_Line", bound=msgspec.Struct)
MANIFEST = "manifest.jsonl"
REJECTED = "rejected.jsonl"


class Record(Provenance, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """How one image was made, and where it is: enough to make it again.

    A line of a manifest may have keys of a later version, unlike the record in an image's file.

    Attributes
    ----------
    file, file_index
        The image's file, and its index in there where it holds several.
    file_sha256
        The SHA-256 of that file, as `hash_of` returns it, once it is complete.
    mask, mask_index
        The name of the label map's file, and the map's index in there where it is a stack.
    noise, real
        The names of the files that gave the starting noise, and the real image it was drawn from; None without one.
    """

    file: str
    file_index: int | None
    file_sha256: str | None = None
    mask: str
    mask_index: int | None
    noise: str | None
    real: str | None

    @property
    def provenance(self) -> Provenance:
        """What the file itself carries: no names of files."""
        return Provenance(**{name: getattr(self, name) for name in Provenance.__struct_fields__})

    def to_json(self) -> str:
        """Return the record as one line of JSON."""
        return msgspec.json.encode({name: getattr(self, name) for name in _WHERE_THEN_HOW}).decode()


_WHERE_THEN_HOW = sorted(Record.__struct_fields__, key=lambda name: name in Provenance.__struct_fields__)
_BEGINNING = f'{{"{_WHERE_THEN_HOW[0]}":"'.encode()
"""What every line of `to_json` begins with: a record's first key, and that a text follows."""
_MACHINE = ("engine_version", "device", "threads", "cores", "batch")
_FREE = ("file", "file_index", "file_sha256", "version", "seed", "first_seed", "check", *_MACHINE)
"""No settings: a run may be gone on with on another machine, or in other batches."""


class _Image(msgspec.Struct, frozen=True):
    """Of a record which image it is of."""

    file: str
    file_index: int | None = None


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
    batch: int | None = None,
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
    seed, fit, at, weight, then_classes, region_classes, batch
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
        bundle=generator.bundle.sha256,
        version=seggd_rt.__version__,
        batch=batch,
        **computed_by(generator.engine),
    )


class ComputedBy(TypedDict):
    """What an image's last bits depend on, beside the batch: see `Provenance`."""

    engine: str
    precision: str
    engine_version: str | None
    device: str | None
    threads: int | None
    cores: int | None


def computed_by(info: EngineInfo) -> ComputedBy:
    """Return what computes images, as their records state it."""
    on_cpu, cpu = info.device == "cpu", this_cpu()
    return ComputedBy(
        engine=info.engine,
        precision=info.precision.value,
        engine_version=info.version,
        device=f"{cpu.name}: {', '.join(cpu.features or ()) or 'features unknown'}" if on_cpu else info.device_name,
        threads=info.threads,
        cores=cpu.usable_cores if on_cpu and info.threads is None else None,
    )


def check_all_replaceable(files: Sequence[Path], made: Sequence[Provenance], *, force: bool = False) -> None:
    """Check files that are there: see `check_replaceable`.

    Parameters
    ----------
    files, made
        The file of each image, which several may share, and how that image is made.
    """
    for path in dict.fromkeys(files):
        if path.exists():
            here = [each for file, each in zip(files, made, strict=True) if file == path]
            check_replaceable(path, here, force=force)


def check_replaceable(
    path: Path, made: Sequence[Provenance], *, writer: ImageWriter | None = None, force: bool = False
) -> None:
    """Refuse to replace a file that seggd-rt did not write or, without `force`, that was made with other settings.

    Parameters
    ----------
    path
        A file of images, or a folder that is one.
    made
        How the new images are made, in the file's order.
    writer
        Of its format; that of the file's suffix if None.
    force
        Whether images of other settings may be replaced.

    Raises
    ------
    OutputError
        It carries no record of its making.
    OptionError
        It was made with other settings; the message names them.
    """
    before = made_before(path, require_writer(path) if writer is None else writer)
    if not force:
        require_all_same(path, before, made)


def require_all_same(path: Path, before: Sequence[Provenance], made: Sequence[Provenance]) -> None:
    """Raise OptionError where the images of a file were made with other settings than the new ones; name those."""
    if len(before) != len(made):
        raise OptionError(
            f"{path} holds {counted(len(before), 'image')}, and this run makes {len(made)}: choose another place with "
            "-o, or replace it with --force"
        )
    for old, new in zip(before, made, strict=True):
        require_same(path, old, new)


def require_same(path: Path, before: Provenance, now: Provenance, *, place: str = "place") -> None:
    """Raise OptionError where an image was made with other settings; two records of a manifest state more of them."""
    kind = Record if isinstance(before, Record) and isinstance(now, Record) else Provenance
    changed = [n for n in kind.__struct_fields__ if n not in _FREE and getattr(before, n) != getattr(now, n)]
    if _planned_seed(before) != _planned_seed(now):
        changed.append("seed")
    if changed:
        raise OptionError(
            f"{path} was made with {_stated(before, changed)}, and this run has {_stated(now, changed)}: "
            f"choose another {place} with -o, or replace it with --force"
        )


def _planned_seed(made: Provenance) -> int:
    return made.seed if made.first_seed is None else made.first_seed


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()[:16]


def digest(array: NDArray[np.generic]) -> str:
    """Return the SHA-256 of an array's bytes, row after row."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file or, of a folder, that of the names and hashes of all files in it, sorted by name.

    Raises
    ------
    OSError
        It is missing, cannot be read, or is or holds what is no regular file.
    """
    if path.is_dir() and not path.is_symlink():
        files = sorted(each for each in path.rglob("*") if each.is_symlink() or not each.is_dir())
        listed = "".join(f"{hash_of(each)}  {each.relative_to(path).as_posix()}\n" for each in files)
        return hashlib.sha256(listed.encode()).hexdigest()
    return sha256_of(path)


def _hash_if_there(path: Path) -> str | None:
    try:
        return hash_of(path)
    except OSError:  # missing, or no regular file
        return None


class ManifestFile:
    """A folder's `manifest.jsonl`, every line of which names a file that is complete; or its `rejected.jsonl`.

    Images that a check rejected have no file, and are not drawn again either.
    """

    def __init__(self, folder: Path, *, rejected: bool = False) -> None:
        self.path = folder / (REJECTED if rejected else MANIFEST)
        self._has_files = not rejected
        self._size, self._last = 0, b""
        self._listed: dict[tuple[str, int | None], bytes] = {}

    def check(self) -> None:
        """Find out whether the file can be written.

        Raises
        ------
        OutputError
            It cannot, or is not a regular file.
        """
        check_output(self.path)

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
        again = set(files)
        if not self.path.exists():
            return
        with output_lock(self.path):  # other shards of the run may be adding lines
            self._keep(lambda record: record.file not in again)

    def finished(self, records: Iterable[Record]) -> set[str]:
        """Return which files are there, as they were written, and were made as these records say.

        A file that was changed or damaged since it was written is not among them.

        Raises
        ------
        OptionError
            A file that is there was made with other settings; the message names them.
        DataError
            See `records`.
        """
        old = {(record.file, record.file_index): record for record in self.records()}
        there, lacking = set[str](), set[str]()
        hash_there = cache(_hash_if_there)  # one file may hold many images
        for record in records:
            before, path = old.get((record.file, record.file_index)), self.path.with_name(record.file)
            is_intact = before is not None and before.file_sha256 is not None and before.file_sha256 == hash_there(path)
            if before is None or (self._has_files and not is_intact):
                lacking.add(record.file)
                continue
            require_same(path, before, record, place="folder")
            there.add(record.file)
        return there - lacking

    def append(self, records: Sequence[Record]) -> list[Record]:
        """Add the records of a file, in one write, after it is complete; return them with the file's SHA-256.

        Each image is listed once: where another run has drawn it too and listed it, that line gives way. A file that
        has gone meanwhile has no SHA-256, so that the next run makes it again.

        Raises
        ------
        DataError
            See `records`.
        OutputError
            The file cannot be written.
        """
        with output_lock(self.path):  # a run that replaces the file after this hash also lists it after this line
            if self._has_files:
                hashes = {name: _hash_if_there(self.path.with_name(name)) for name in {each.file for each in records}}
                records = [struct_replace(record, file_sha256=hashes[record.file]) for record in records]
            lines = {(record.file, record.file_index): record.to_json().encode() + b"\n" for record in records}
            self._catch_up()
            new = {image: line for image, line in lines.items() if self._listed.get(image) != _digest(line)}
            if not new.keys().isdisjoint(self._listed):
                self._keep(lambda record: (record.file, record.file_index) not in new)
            append(self.path, b"".join(new.values()))
        return list(records)

    def _catch_up(self) -> None:
        """Take note of the lines that were added since the last call, and remove one that a killed process left."""
        try:
            with open_regular(self.path) as file:
                # The last line that is known: elsewhere now, if another process has rewritten the file.
                file.seek(self._size - len(self._last))
                data = file.read()
                if not data.startswith(self._last):
                    self._size, self._last, self._listed = 0, b"", {}
                    file.seek(0)
                    data = file.read()
        except FileNotFoundError:
            self._size, self._last, self._listed = 0, b"", {}
            return
        except OSError as error:
            raise unwritable(self.path, error) from error
        *lines, unfinished = data[len(self._last) :].split(b"\n")
        for line in lines:
            image = self._decoded(line, _Image)
            self._size, self._last = self._size + len(line) + 1, line + b"\n"
            self._listed[image.file, image.file_index] = _digest(self._last)
        if self._unfinished(unfinished):
            try:
                os.truncate(self.path, self._size)
            except OSError as error:
                raise unwritable(self.path, error) from error

    def _keep(self, wanted: Callable[[Record], bool]) -> None:
        """Write the file again with the lines alone that are wanted; its lock is held."""
        kept = b"".join(line + b"\n" for line, record in self._lines() if wanted(record))
        if len(kept) != self.path.stat().st_size:
            write_file(self.path, kept, locked=True)

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
        for number, line in enumerate(lines[:-1], start=1):
            found.append((line, self._decoded(line, Record, f", line {number},")))
        self._unfinished(lines[-1])
        return found

    def _unfinished(self, rest: bytes) -> bool:
        """Say whether a killed process left a record unfinished: the bytes that follow the last line feed.

        Raises
        ------
        DataError
            No record begins so: another program wrote them.
        """
        if rest[: len(_BEGINNING)] != _BEGINNING[: len(rest)]:
            raise DataError(
                f"{self.path} is no manifest of seggd-rt (its last line has no end): write to another folder"
            )
        return bool(rest)

    def _decoded(self, line: bytes, kind: type[_Line], where: str = "") -> _Line:
        try:
            return decode(line, kind)
        except msgspec.DecodeError as error:
            raise DataError(
                f"{self.path}{where} is not a seggd-rt record ({error}): choose another folder with -o"
            ) from error


def _stated(record: Provenance, names: Iterable[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_short(getattr(record, name))}" for name in names)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return " + ".join(map(str, value))
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)
