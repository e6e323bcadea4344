"""Steps, images, throughput, host time and memory of everything that draws a subject, in turn: A B C A B C.

A group is a subject, a precision and a batch size. Its figures are kept after every round, so a run that is killed has
them; only a group that came to its end is not measured again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmarks.gpu.contenders import Contender, Drawn, LoopContender, Pixels, Task, makers
from benchmarks.gpu.floor import floor_of
from benchmarks.gpu.results import Failed, Group, Image, Timed
from benchmarks.gpu.run import Context, OutOfTime, Part, Piece, attempt
from benchmarks.gpu.subjects import DEMO, REFERENCE, SMALL, Subject
from seggd_rt.errors import EngineError
from seggd_rt.precision import Precision, psnr_db
from seggd_rt.timing import spread

PART = "latency"
STEPS = (50, 15)
_FEWER_STEPS = (15,)
_BUDGET_S, _MOST_ROUNDS, _FEWEST_ROUNDS = 40.0, 30, 3

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
            make_s=self.make_s,
            first_s=self.first_s,
            psnr_db=self.psnr_db,
        )


def measure(task: Task, context: Context, *, steps: tuple[int, ...], most_rounds: int = _MOST_ROUNDS) -> Group:
    """Measure a group; keep each contender's figures under its name.

    Raises
    ------
    EngineError
        No contender could draw.
    """
    torch.backends.cudnn.benchmark = True
    name, made_all = group_name(task), makers(task, context)
    with ExitStack() as opened:
        turns: dict[str, Turns] = {}
        expected = reference_pixels(task, context, steps[0]) if task.batch == 1 else None
        for contender, make in made_all[0].items():
            context.say(f"{name}: {contender}: making it, and its first image")
            started = time.monotonic()
            prepared = attempt(lambda make=make: _prepare(make, context, opened, steps, expected))  # type: ignore[misc]
            if isinstance(prepared, Failed):
                _fail(context, f"{name}/{contender}", prepared, started)
            else:
                turns[contender] = prepared
        rounds = _rounds(turns, task, context, steps, most_rounds)
    if not turns:
        raise EngineError("no contender could draw")
    return Group(
        subject=task.subject.name,
        precision=task.precision,
        batch=task.batch,
        rounds=rounds,
        contenders=tuple(turns),
        trained=task.subject.trained,
        absent=made_all[1],
    )


def _rounds(turns: dict[str, Turns], task: Task, context: Context, steps: tuple[int, ...], most: int) -> int:
    """Go round until the budget is spent; a contender that fails is out."""
    name, began = group_name(task), time.monotonic()
    done = 0
    while turns and done < most:
        round_s = (time.monotonic() - began) / max(done, 1)
        if done >= _FEWEST_ROUNDS and time.monotonic() - began + round_s > _BUDGET_S:
            break
        if context.deadline.left_s() < 1.2 * round_s + 2:
            raise OutOfTime
        for contender in list(turns):
            mark = _marked(f"{name}/{contender}") if context.profile else nullcontext()
            with mark:
                failed = attempt(lambda contender=contender: turns[contender].take(steps))  # type: ignore[misc]
            if isinstance(failed, Failed):
                _fail(context, f"{name}/{contender}", failed, began)
                del turns[contender]
        done += 1
        for contender, taken in turns.items():
            context.record.keep(PART, f"{name}/{contender}", taken.figures(task.batch), time.monotonic() - began)
    floor = floor_of(context.record, task.subject.name, task.precision, task.batch)
    for contender, taken in turns.items():
        context.say(f"{name}: {contender}: {_line(taken.figures(task.batch))}; {floor or 'floor not measured'}")
    return done


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
    return Turns(contender, memory_mib, make_s, first.seconds, psnr)


_REFERENCES: dict[tuple[Subject, int], Pixels] = {}


def reference_pixels(task: Task, context: Context, steps: int) -> Pixels:
    """Return the image of PyTorch's eager loop in fp32, TF32 off, from the noise that every contender is given."""
    key = (task.subject, steps)
    if key not in _REFERENCES:
        loop = LoopContender(Task(task.subject, Precision.FP32, 1), context.device)
        _REFERENCES[key] = loop.draw(steps).pixels
        loop.close()
    return _REFERENCES[key]


def _fail(context: Context, name: str, failed: Failed, started: float) -> None:
    context.say(f"{name}: failed: {failed.error}: {failed.message}")
    context.record.keep(PART, name, failed, time.monotonic() - started)


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
            needs_s=60,
        )


LATENCY = Part(PART, _pieces)
