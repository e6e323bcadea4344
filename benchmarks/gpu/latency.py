"""Steps, images, throughput, host time and memory of everything that draws a subject, in turn: A B C A B C.

A group is a subject, a precision and a batch size. Its figures are kept after every round, so a run that is killed has
them, and those of the contenders it came to; only a group that came to its end is not measured again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext

import numpy as np
import torch

from benchmarks.gpu.contenders.lineup import COMPILE, makers
from benchmarks.gpu.contenders.networks import Contender, Drawn, LoopContender, Pixels, Task
from benchmarks.gpu.contenders.subjects import DEMO, REFERENCE, SMALL, Subject
from benchmarks.gpu.group import FEWEST_ROUNDS, PART, GroupInHand, Turns, group_name
from benchmarks.gpu.machine.floor import floor_of
from benchmarks.gpu.results import Failed, Group, Timed
from benchmarks.gpu.run import Context, OutOfTime, Part, Piece, attempt
from seggd_rt.diffusion import Precision, psnr_db
from seggd_rt.errors import EngineError

STEPS = (50, 15)
_FEWER_STEPS = (15,)
_BUDGET_S, _MOST_ROUNDS = 15.0, 30

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


def steps_of(task: Task) -> tuple[int, ...]:
    """Return how many steps images are drawn in; a batch of 50 in fp32 takes a minute, and tells no more than 15."""
    return _FEWER_STEPS if task.precision is Precision.FP32 and task.batch > 1 else STEPS


def measure(task: Task, context: Context, *, steps: tuple[int, ...], most_rounds: int = _MOST_ROUNDS) -> Group:
    """Measure a group; keep each contender's figures under its name, from its first turn on.

    Those that are compiled for minutes join when the others have been measured; then all take turns once more. A
    contender that failed in this run, or ended its process, is not tried again.

    Raises
    ------
    EngineError
        No contender could draw.
    DeviceLostError
        One left the device without an answer: the others are left to another process.
    """
    torch.backends.cudnn.benchmark = True
    made, absent = makers(task, context)
    group = GroupInHand(task, context, absent)
    wanted = [
        contender
        for contender in made
        if context.wants(contender) and not context.record.gave_up(PART, f"{group.name}/{contender}")
    ]
    with group.opened() as opened:
        expected = reference_pixels(task, context, steps[0]) if task.batch == 1 else None
        for late in (False, True):
            joining = [contender for contender in wanted if (COMPILE in contender) is late]
            for contender in joining:
                context.say(f"{group.name}: {contender}: making it, and its first image")

                def prepare(contender: str = contender) -> Turns:
                    turns = _prepare(made[contender], contender, group, opened, steps, expected)
                    turns.take(steps)
                    return turns

                prepared = group.attempt(contender, prepare)
                if prepared is not None:
                    group.turns[contender] = prepared
                    group.keep()
            if joining:
                group.forget_turns()
                _rounds(group, steps, most_rounds)
        if not group.turns:
            raise EngineError("no contender could draw")
        return group.finish()


def _rounds(group: GroupInHand, steps: tuple[int, ...], most: int) -> None:
    """Go round until the budget is spent; a contender that fails is out."""
    context, began = group.context, time.monotonic()
    while group.turns and group.rounds < most:
        round_s = (time.monotonic() - began) / max(group.rounds, 1)
        if group.rounds >= FEWEST_ROUNDS and time.monotonic() - began + round_s > _BUDGET_S:
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
    name: str,
    group: GroupInHand,
    opened: ExitStack,
    steps: tuple[int, ...],
    expected: Pixels | None,
) -> Turns:
    """Make a contender, draw its first images, and see what it took of the device's memory."""
    context = group.context
    before, started = context.device.used_bytes(), time.perf_counter()
    contender = make()
    opened.callback(group.closing(contender, name))
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
    """Whether a group has all that is asked for, or it failed; what failed is tried again where it is forgotten."""
    name, record = group_name(task), context.record
    if not record.settled(PART, name):
        return False
    if not isinstance(record.find(PART, name), Group):
        return True
    made = attempt(lambda: makers(task, context)[0])
    if isinstance(made, Failed):
        return False  # which measuring tells
    wanted = (contender for contender in made if context.wants(contender))
    return all(isinstance(record.find(PART, f"{name}/{c}"), Timed | Failed) for c in wanted)


LATENCY = Part(PART, _pieces)
