"""Built plans, kept in the user's cache folder under a key that covers all that can change them.

A plan is code. So a plan is loaded only where a record in the user's own cache folder, which nobody else may enter,
holds its SHA-256: it was built here by this user, or added by them (`seggd-rt cache add`). The plan itself may lie
elsewhere, as beside its bundle. What does not match its record is not loaded; it is built again, with one warning.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

from seggd_engines.tensorrt.plan_key import SCHEMA, PlanKey, PlanRecord
from seggd_rt.errors import DataError, EngineError, OutputError
from seggd_rt.files import MAX_JSON_BYTES, NewFile, decode, make_folder, open_regular, read_file, write_file

SUFFIX = ".plan"
_PRIVATE = 0o700


@dataclass(frozen=True)
class StoredPlan:
    """A plan whose bytes are what its record says."""

    record: PlanRecord
    data: bytes | memoryview

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(self.record.path)


class PlanCache:
    """A folder of records and plans, for this user alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls) -> PlanCache:
        """Return the user's own: in their cache folder, beside the engines' checks."""
        return cls(platformdirs.user_cache_path("seggd-rt") / "plans")

    def records(self, *, quiet: bool = False) -> list[PlanRecord]:
        """Return every record, the latest asked for first; warn, unless quiet, of those that cannot be read.

        Raises
        ------
        EngineError
            Others may write to the folder.
        """
        if not self.folder.is_dir():
            return []
        self._require_private()
        warn = _ignore if quiet else _warn
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                record = decode(read_file(path, MAX_JSON_BYTES), PlanRecord)
            except (OSError, msgspec.DecodeError):
                warn(f"{path} is damaged: its plan is not used")
                continue
            if record.key.schema != SCHEMA or path.stem != record.key.stem:
                warn(f"{path} is not the record of the plan it names: its plan is not used")
                continue
            found.append(record)
        return sorted(found, key=lambda record: record.asked, reverse=True)

    def find(self, fits: Callable[[PlanKey], bool], *, quiet: bool = False) -> StoredPlan | None:
        """Return the plan that was asked for last among those that fit; warn of those that are not what was built.

        Quiet is for looking again at what was just warned of.

        Raises
        ------
        EngineError
            Others may write to the folder.
        """
        warn = _ignore if quiet else _warn
        for record in self.records(quiet=quiet):
            if not fits(record.key):
                continue
            try:
                data = _bytes_of(Path(record.path))
            except OSError as error:
                warn(f"the plan {record.path} cannot be read ({error.strerror or error}): it is passed over")
                continue
            if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
                warn(f"the plan {record.path} is damaged, or not the one that was built: it is passed over")
                continue
            return StoredPlan(record, data)
        return None

    def keep(self, key: PlanKey, name: str, data: bytes | memoryview, folder: Path | None = None) -> StoredPlan:
        """Write a plan into the cache, or into another folder with a copy of its record beside it.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        if folder is not None:
            make_folder(folder)
        place = self._ready() if folder is None else folder.resolve()
        path = place / f"{key.stem}{SUFFIX}"
        with NewFile(path) as file:
            file.write(data)
        record = PlanRecord(
            key=key,
            name=name,
            path=str(path),
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            asked=time.time(),
        )
        if folder is not None:
            write_file(path.with_suffix(".json"), msgspec.structs.replace(record, path=path.name).to_json())
        self._write_record(record)
        return StoredPlan(record, data)

    def ask_again(self, plan: StoredPlan) -> None:
        """Note that a plan was asked for now, so that engines take it before others of its graph."""
        self._write_record(msgspec.structs.replace(plan.record, asked=time.time()))

    def add(self, path: Path) -> StoredPlan:
        """Take over a plan that was built elsewhere, with its record beside it. A plan is code: the caller trusts it.

        Raises
        ------
        DataError
            There is no such plan, or it is not what its record says.
        """
        try:
            record = decode(read_file(path.with_suffix(".json"), MAX_JSON_BYTES), PlanRecord)
            data = _bytes_of(path)
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(
                f"{path} cannot be added: it must be a plan of seggd-rt build, with its .json beside it ({error})"
            ) from error
        if record.key.schema != SCHEMA or hashlib.sha256(data).hexdigest() != record.sha256:
            raise DataError(f"{path} cannot be added: it is not what its record says, so copy or build it again")
        with self.lock(record.key.stem):
            return self.keep(record.key, record.name, data)

    def side_file(self, name: str) -> Path:
        """Return the path of another file in the folder, made where it is not there.

        Raises
        ------
        OutputError
            The folder cannot be made.
        """
        return self._ready() / name

    def clear(self) -> tuple[int, int]:
        """Remove every plan, record and kernel in the folder; plans in other folders stay, but are not loaded again.

        Returns
        -------
        tuple
            How many plans, and how many bytes in all.
        """
        plans = size = 0
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.suffix != ".lock" and path.is_file():  # a lock may be another process's
                    plans += path.suffix == ".json"
                    size += path.stat().st_size
                    path.unlink(missing_ok=True)
        return plans, size

    @contextmanager
    def lock(self, name: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Let one process at a time into a block.

        Parameters
        ----------
        name
            What is locked.
        on_wait
            Called once where another process is in there.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        from filelock import FileLock, Timeout  # slow to import

        lock = FileLock(self._ready() / f"{name}.lock")
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                on_wait()
                lock.acquire()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        try:
            yield
        finally:
            lock.release()

    def _write_record(self, record: PlanRecord) -> None:
        write_file(self._ready() / f"{record.key.stem}.json", record.to_json())

    def _ready(self) -> Path:
        """Return the folder, made for this user alone."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=_PRIVATE, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self._require_private()
        return self.folder

    def _require_private(self) -> None:
        """Refuse a folder that others may write to, or that is not this user's: a plan in there could be anyone's."""
        if os.name != "posix":
            return
        found = self.folder.stat()
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise EngineError(
                f"{self.folder} holds code that runs on the GPU, and others than you may write there: empty it "
                "(seggd-rt cache clear), then chmod 700 it"
            )


def _bytes_of(plan: Path) -> bytes:
    with open_regular(plan) as file:
        return file.read()


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"plans cannot be kept in {folder} ({error.strerror or error}): free it, or name another cache folder in the "
        "environment (XDG_CACHE_HOME on Linux)"
    )


def _ignore(message: str) -> None:
    pass


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
