"""A group while it is measured: its contenders' turns, and what is kept of them, whatever may happen to the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.gpu.contenders.networks import Contender, Task
from benchmarks.gpu.results import Failed, Group, Image, Timed
from benchmarks.gpu.run import Context, DeviceLostError, attempt
from seggd_rt.engine import spread

T = TypeVar("T")
PART = "latency"
FEWEST_ROUNDS = 3
"""Rounds after which figures are worth having, in place of those of an earlier run."""
_CLOSING = "closing"


def group_name(task: Task) -> str:
    """Return a group's name: that of its contenders follows a slash."""
    return f"{task.subject.name}/{task.precision}/batch {task.batch}"


@dataclass
class Turns:
    """A contender, and what its turns took, in seconds."""

    contender: Contender
    memory_mib: float
    peak_mib: float
    make_s: float
    first_s: float
    psnr_db: float | None
    step: list[float] = field(default_factory=list)
    image: dict[int, list[float]] = field(default_factory=dict)
    device: dict[int, list[float]] = field(default_factory=dict)
    host: dict[int, list[float]] = field(default_factory=dict)

    def take(self, steps: tuple[int, ...]) -> None:
        """Take one turn at everything."""
        self.step.append(self.contender.step_s())
        for count in steps:
            enqueued = self.contender.on_device(count)
            drawn = self.contender.draw(count)
            self.image.setdefault(count, []).append(drawn.seconds)
            self.device.setdefault(count, []).append(enqueued.device_s)
            self.host.setdefault(count, []).append(enqueued.host_s if drawn.host_s is None else drawn.host_s)

    def forget(self) -> None:
        """Begin anew."""
        self.step.clear()
        for taken in (self.image, self.device, self.host):
            taken.clear()

    def figures(self, batch: int) -> Timed:
        """Summarise the turns so far."""
        info = self.contender.info
        images = tuple(
            Image(
                steps=count,
                image=spread(taken),
                device=spread(self.device[count]),
                host=spread(self.host[count]),
            )
            for count, taken in self.image.items()
        )
        return Timed(
            engine=info.engine,
            version=info.version,
            precision=info.precision,
            notes=info.notes,
            step=spread(self.step),
            images=images,
            images_per_second=1e3 * batch / images[0].image.p50_ms,
            memory_mib=self.memory_mib,
            peak_mib=self.peak_mib,
            make_s=self.make_s,
            first_s=self.first_s,
            psnr_db=self.psnr_db,
        )


@dataclass
class GroupInHand:
    """What a group has so far.

    A contender is in hand while something is done with it, so that a process that dies is known to have died of it.
    """

    task: Task
    context: Context
    absent: dict[str, str]
    turns: dict[str, Turns] = field(default_factory=dict)
    rounds: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """Of the group."""
        return group_name(self.task)

    @contextmanager
    def opened(self) -> Iterator[ExitStack]:
        """Open a block at whose end, however it comes, all is closed that was made in it."""
        record, label = self.context.record, f"{self.name}/{_CLOSING}"
        with ExitStack() as opened:
            try:
                yield opened
            finally:
                record.take_in_hand(PART, label)
                opened.close()
                record.let_go()

    def closing(self, contender: Contender, name: str) -> Callable[[], None]:
        """Return a call that closes a contender, and only says what goes wrong with that: its figures are there."""

        def close() -> None:
            failed = attempt(contender.close)
            if isinstance(failed, Failed):
                self.context.say(f"{self.name}/{name}: closing it failed: {failed.error}: {failed.message}")

        return close

    def attempt(self, contender: str, work: Callable[[], T]) -> T | None:
        """Do something with a contender; keep what went wrong with it.

        Raises
        ------
        DeviceLostError
            After it the device answers nothing any more.
        """
        record, label = self.context.record, f"{self.name}/{contender}"
        record.take_in_hand(PART, label)
        done = attempt(work)
        if not isinstance(done, Failed):
            record.take_in_hand(PART, self.name)
            return done
        self.context.say(f"{label}: failed: {done.error}: {done.message}")
        record.keep(PART, label, done, time.monotonic() - self.began)
        if not self.context.healthy():
            raise DeviceLostError(label)
        record.take_in_hand(PART, self.name)
        return None

    def forget_turns(self) -> None:
        """Begin to take turns anew, with all contenders that there are now."""
        self.rounds = 0
        for turns in self.turns.values():
            turns.forget()

    def keep(self) -> None:
        """Keep the figures so far, but not in place of better ones, of more turns."""
        record, seconds = self.context.record, time.monotonic() - self.began
        before = record.find(PART, self.name)
        worse = self.rounds < FEWEST_ROUNDS and isinstance(before, Group) and before.rounds > self.rounds
        for contender, taken in self.turns.items():
            label = f"{self.name}/{contender}"
            if not (worse and isinstance(record.find(PART, label), Timed)):
                record.keep(PART, label, taken.figures(self.task.batch), seconds)
        if not worse:
            record.keep(PART, self.name, self.result(finished=False), seconds)
        record.take_in_hand(PART, self.name)

    def finish(self) -> Group:
        """Keep all as the whole group, and return it."""
        record, seconds = self.context.record, time.monotonic() - self.began
        for contender, taken in self.turns.items():
            record.keep(PART, f"{self.name}/{contender}", taken.figures(self.task.batch), seconds)
        done = self.result(finished=True)
        record.keep(PART, self.name, done, seconds)
        return done

    def result(self, *, finished: bool) -> Group:
        """Return what there is as a result."""
        return Group(
            subject=self.task.subject.name,
            precision=self.task.precision,
            batch=self.task.batch,
            rounds=self.rounds,
            contenders=tuple(self.turns),
            trained=self.task.subject.trained,
            absent=self.absent,
            finished=finished,
            state=self.context.device.state(),
        )
