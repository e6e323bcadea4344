"""Steps, images, throughput, host time and memory of everything that draws a subject, in turn: A B C A B C.

A group is a subject, a precision and a batch size. Its figures are kept after every round, so a run that is killed has
them, and those of the contenders it came to; only a group that came to its end is not measured again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from benchmarks.gpu.contenders import Contender, Drawn, LoopContender, Pixels, Task
from benchmarks.gpu.floor import floor_of
from benchmarks.gpu.lineup import makers
from benchmarks.gpu.results import Failed, Group, Image, Timed
from benchmarks.gpu.run import Context, DeviceLostError, OutOfTime, Part, Piece, attempt
from benchmarks.gpu.subjects import DEMO, REFERENCE, SMALL, Subject
from seggd_rt.errors import EngineError
from seggd_rt.precision import Precision, psnr_db
from seggd_rt.timing import spread

T = TypeVar("T")
PART = "latency"
STEPS = (50, 15)
_FEWER_STEPS = (15,)
_BUDGET_S, _MOST_ROUNDS, _FEWEST_ROUNDS = 15.0, 30, 3

_FP16, _BF16, _FP32 = Precision.FP16, Precision.BF16, Precision.FP32
_FIRST = (
    Task(REFERENCE, _FP16, 1),
    Task(DEMO, _FP16, 1),
    Task(REFERENCE, _FP16, 16),
    Task(SMALL, _FP16, 1),
    Task(REFERENCE, _FP32, 1),
    Task(REFERENCE, _FP16, 4),
)
"""What the targets are about comes first: time may be short."""
TASKS = _FIRST + tuple(
    task
    for precision in (_FP16, _BF16, _FP32)
    for batch in (1, 4, 16)
    for subject in (REFERENCE, DEMO, SMALL)
    if (task := Task(subject, precision, batch)) not in _FIRST
)


def group_name(task: Task) -> str:
    """Return a group's name: that of its contenders follows a slash."""
    return f"{task.subject.name}/{task.precision}/batch {task.batch}"


def steps_of(task: Task) -> tuple[int, ...]:
    """Return how many steps images are drawn in; a batch of 50 in fp32 takes a minute, and tells no more than 15."""
    return _FEWER_STEPS if task.precision is Precision.FP32 and task.batch > 1 else STEPS


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
            if enqueued is not None:
                self.device.setdefault(count, []).append(enqueued.device_s)
            host_s = drawn.host_s if drawn.host_s is not None else None if enqueued is None else enqueued.host_s
            if host_s is not None:
                self.host.setdefault(count, []).append(host_s)

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
                device=spread(self.device[count]) if count in self.device else None,
                host=spread(self.host[count]) if count in self.host else None,
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


def measure(task: Task, context: Context, *, steps: tuple[int, ...], most_rounds: int = _MOST_ROUNDS) -> Group:
    """Measure a group; keep each contender's figures under its name, from its first turn on.

    A contender that failed in this run, or ended its process, is not tried again.

    Raises
    ------
    EngineError
        No contender could draw.
    DeviceLostError
        One left the device without an answer: the others are left to another process.
    """
    torch.backends.cudnn.benchmark = True
    made, absent = makers(task, context)
    group = _Group(task, context, absent)
    with ExitStack() as opened:
        expected = reference_pixels(task, context, steps[0]) if task.batch == 1 else None
        for contender, make in made.items():
            if not context.wants(contender) or context.record.gave_up(PART, f"{group.name}/{contender}"):
                continue
            context.say(f"{group.name}: {contender}: making it, and its first image")

            def prepare(make: Callable[[], Contender] = make) -> Turns:
                turns = _prepare(make, context, opened, steps, expected)
                turns.take(steps)
                return turns

            prepared = group.attempt(contender, prepare)
            if prepared is not None:
                group.turns[contender] = prepared
                group.keep()
        for turns in group.turns.values():
            turns.forget()  # from here on they take turns
        _rounds(group, steps, most_rounds)
        if not group.turns:
            raise EngineError("no contender could draw")
        done = group.result(finished=True)
        context.record.keep(PART, group.name, done, time.monotonic() - group.began)  # before all are closed
        return done


@dataclass
class _Group:
    """What a group has so far."""

    task: Task
    context: Context
    absent: dict[str, str]
    turns: dict[str, Turns] = field(default_factory=dict)
    rounds: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        return group_name(self.task)

    def attempt(self, contender: str, work: Callable[[], T]) -> T | None:
        """Do something with a contender, which is in hand meanwhile; keep what went wrong with it."""
        record, label = self.context.record, f"{self.name}/{contender}"
        record.take_in_hand(PART, label)
        done = attempt(work)
        if not isinstance(done, Failed):
            record.take_in_hand(PART, self.name)
            return done
        self.context.say(f"{label}: failed: {done.error}: {done.message}")
        record.keep(PART, label, done, time.monotonic() - self.began)
        if not self.context.healthy():
            record.let_go()
            raise DeviceLostError(label)
        record.take_in_hand(PART, self.name)
        return None

    def keep(self) -> None:
        """Keep every contender's figures, and that these are in one group."""
        record, seconds = self.context.record, time.monotonic() - self.began
        for contender, taken in self.turns.items():
            record.keep(PART, f"{self.name}/{contender}", taken.figures(self.task.batch), seconds)
        record.keep(PART, self.name, self.result(finished=False), seconds)
        record.take_in_hand(PART, self.name)

    def result(self, *, finished: bool) -> Group:
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


def _rounds(group: _Group, steps: tuple[int, ...], most: int) -> None:
    """Go round until the budget is spent; a contender that fails is out."""
    context, began = group.context, time.monotonic()
    while group.turns and group.rounds < most:
        round_s = (time.monotonic() - began) / max(group.rounds, 1)
        if group.rounds >= _FEWEST_ROUNDS and time.monotonic() - began + round_s > _BUDGET_S:
            break
        if context.deadline.left_s() < 1.2 * round_s + 2:
            raise OutOfTime
        for contender in list(group.turns):
            mark = _marked(f"{group.name}/{contender}") if context.profile else nullcontext()

            def take(contender: str = contender) -> bool:
                group.turns[contender].take(steps)
                return True

            with mark:
                taken = group.attempt(contender, take)
            if taken is None:
                del group.turns[contender]
        group.rounds += 1
        group.keep()
    task = group.task
    floor = floor_of(context.record, task.subject.name, task.precision, task.batch)
    for contender, turns in group.turns.items():
        context.say(f"{group.name}: {contender}: {_line(turns.figures(task.batch))}; {floor or 'floor not measured'}")


def _prepare(
    make: Callable[[], Contender],
    context: Context,
    opened: ExitStack,
    steps: tuple[int, ...],
    expected: Pixels | None,
) -> Turns:
    """Make a contender, draw its first images, and see what it took of the device's memory."""
    before, started = context.device.used_bytes(), time.perf_counter()
    contender = make()
    opened.callback(contender.close)
    make_s = time.perf_counter() - started
    first = contender.draw(steps[0])
    context.device.used_bytes()  # gives back what compiling took
    again: Drawn = contender.draw(steps[0])
    peak_mib = (context.device.used_bytes(cached=True) - before) / 2**20
    memory_mib = (context.device.used_bytes() - before) / 2**20
    psnr = None
    if expected is not None:
        found = psnr_db(again.pixels, expected)
        psnr = found if np.isfinite(found) else None
    # What is made at first calls: bindings, and a graph for each number of steps.
    contender.step_s()
    for count in steps:
        contender.on_device(count)
        contender.draw(count)
    return Turns(contender, memory_mib, peak_mib, make_s, first.seconds, psnr)


_REFERENCES: dict[tuple[Subject, int], Pixels] = {}


def reference_pixels(task: Task, context: Context, steps: int) -> Pixels:
    """Return the image of PyTorch's eager loop in fp32, TF32 off, from the noise that every contender is given."""
    key = (task.subject, steps)
    if key not in _REFERENCES:
        loop = LoopContender(Task(task.subject, Precision.FP32, 1), context.device)
        _REFERENCES[key] = loop.draw(steps).pixels
        loop.close()
    return _REFERENCES[key]


def _line(timed: Timed) -> str:
    images = ", ".join(f"{image.steps} steps {image.image.p50_ms:.2f} ms" for image in timed.images)
    return f"step {timed.step.p50_ms:.3f} ms, {images}, {timed.images_per_second:.2f} images/s"


def _marked(name: str) -> AbstractContextManager[None]:
    marked: AbstractContextManager[None] = torch.cuda.nvtx.range(name)
    return marked


def _pieces(context: Context) -> Iterator[Piece]:
    for task in TASKS:
        yield Piece(
            group_name(task),
            lambda task=task: measure(task, context, steps=steps_of(task)),  # type: ignore[misc]
            needs_s=30,
            settled=lambda task=task: _settled(task, context),  # type: ignore[misc]
        )


def _settled(task: Task, context: Context) -> bool:
    """Whether a group has all that is asked for, but what failed in this run."""
    name, record = group_name(task), context.record
    if not record.settled(PART, name):
        return False
    group = record.find(PART, name)
    if not isinstance(group, Group):
        return True
    wanted = (contender for contender in makers(task, context)[0] if context.wants(contender))
    return all(c in group.contenders or record.gave_up(PART, f"{name}/{c}") for c in wanted)


LATENCY = Part(PART, _pieces)
