"""Working through what is to be measured: skip, stop in time, go on after a failure."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from benchmarks.gpu.machine.checkout import portable
from benchmarks.gpu.machine.device import DeviceUnderTest
from benchmarks.gpu.record import Record
from benchmarks.gpu.results import Failed, Result

T = TypeVar("T")
_LONGEST_MESSAGE = 800
LISTING = "what there is"
"""The name under which a part fails whose pieces cannot even be listed."""


class OutOfTime(BaseException):  # not an Exception: what is measured must not swallow it
    """The limit has come."""


class Deadline:
    """When the script must be done; None for never."""

    def __init__(self, limit_s: float | None) -> None:
        self._end = None if limit_s is None else time.monotonic() + limit_s

    def left_s(self) -> float:
        """Return how many seconds are left, infinite without a limit."""
        return float("inf") if self._end is None else self._end - time.monotonic()

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Raise `OutOfTime` in the block when the limit comes, where the system has alarms."""
        if self._end is None or not hasattr(signal, "SIGALRM"):
            yield
            return

        def stop(number: int, frame: object) -> None:
            raise OutOfTime

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, max(self.left_s(), 1e-3))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def say(line: str) -> None:
    """Print a line on stderr at once."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Context:
    """What every part is given.

    Attributes
    ----------
    record
        Where figures go, and are found.
    deadline
        When to be done.
    device
        What is measured.
    cache
        A folder for what is made on the way: bundles, checkpoints.
    say
        Told what is done now.
    data
        The training data, if any was given.
    train_minutes
        How long to train, if at all.
    profile
        Whether to mark contenders with NVTX ranges.
    contenders
        Patterns, as of file names, of those to measure.
    healthy
        Asked after a failure: whether the device still answers this process.
    """

    record: Record
    deadline: Deadline
    device: DeviceUnderTest
    cache: Path
    say: Callable[[str], None] = say
    data: Path | None = None
    train_minutes: float | None = None
    profile: bool = False
    contenders: tuple[str, ...] = ("*",)
    healthy: Callable[[], bool] = lambda: True

    def wants(self, contender: str) -> bool:
        """Whether a contender is to be measured."""
        return any(fnmatchcase(contender, pattern) for pattern in self.contenders)


@dataclass(frozen=True)
class Piece:
    """One thing to measure: `work` returns its result, and may `keep` others of other names on its way."""

    name: str
    work: Callable[[], Result]
    needs_s: float = 5
    """Not begun with less time left."""
    settled: Callable[[], bool] | None = None
    """Whether it need not be measured again, where the record alone cannot tell."""


@dataclass(frozen=True)
class Part:
    """Pieces under one name."""

    name: str
    pieces: Callable[[Context], Iterable[Piece]]


@dataclass
class Outcome:
    """How a walk through the parts ended."""

    done: int = 0
    skipped: int = 0
    left: list[str] = field(default_factory=list)
    """What no time was left for."""


def attempt(work: Callable[[], T]) -> T | Failed:
    """Return what a piece of work gives, or what went wrong with it."""
    try:
        return work()
    except DeviceLostError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place where whatever fails is recorded, and the next goes on
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = portable(str(error).strip())
        return Failed(
            error=type(error).__name__,
            message=message[:_LONGEST_MESSAGE],
            where=f"{Path(last.filename).name}:{last.lineno}",
        )


def work_through(parts: Sequence[Part], context: Context, *, only: Sequence[str] = ("*",)) -> Outcome:
    """Measure what is not settled yet, in order, each result kept at once.

    Parameters
    ----------
    parts
        What there is.
    context
        For the parts.
    only
        Names to measure, or PART/NAME, with * and ? as in file names.

    Raises
    ------
    DeviceLostError
        After a failure the device answers nothing any more: the rest is left to another process.
    """
    outcome, record = Outcome(), context.record
    for part in parts:
        pieces = attempt(lambda part=part: list(part.pieces(context)))  # type: ignore[misc]
        if isinstance(pieces, Failed):
            record.keep(part.name, LISTING, pieces, 0)
            context.say(f"{part.name}: failed: {pieces.error}: {pieces.message}")
            continue
        for piece in pieces:
            label = f"{part.name}/{piece.name}"
            if not any(fnmatchcase(name, pattern) for name in (piece.name, label) for pattern in only):
                continue
            if piece.settled() if piece.settled is not None else record.settled(part.name, piece.name):
                outcome.skipped += 1
                continue
            if context.deadline.left_s() < piece.needs_s:
                outcome.left.append(label)
                continue
            context.say(label)
            record.take_in_hand(part.name, piece.name)
            started = time.monotonic()
            try:
                with context.deadline.enforced():
                    result = attempt(piece.work)
            except OutOfTime:
                outcome.left.append(label)
                continue
            record.keep(part.name, piece.name, result, time.monotonic() - started)
            outcome.done += 1
            if isinstance(result, Failed):
                context.say(
                    f"{label}: failed: {result.error}: {result.message.splitlines()[0] if result.message else ''}"
                )
                if not context.healthy():
                    raise DeviceLostError(label)
    return outcome


class DeviceLostError(RuntimeError):
    """The device answers nothing any more in this process."""
