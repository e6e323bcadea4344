"""Command lines that must fail, each after something was arranged, and how they must."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.commands import Outcome, files_below, run_command

Arrange = Callable[[Path], None]
"""Puts files into a folder of good ones."""
_PATIENCE_S = 120
"""Until a command that waits for ever, as on a pipe, is a failure."""


@dataclass(frozen=True)
class Bad:
    """A command line that must fail, after something was arranged; and words of its message."""

    arguments: str
    message: str
    arrange: Arrange = lambda folder: None


def save(name: str, array: np.ndarray) -> Arrange:
    return lambda folder: np.save(folder / name, array)


def picture(name: str, mode: str) -> Arrange:
    return lambda folder: Image.new(mode, (32, 24)).save(folder / name)


def data(name: str, content: bytes) -> Arrange:
    def arrange(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return arrange


def changed(name: str, change: Callable[[bytes], bytes]) -> Arrange:
    def arrange(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return arrange


def one_bit(content: bytes) -> bytes:
    """Return bytes with a bit in their middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def refused(case: Bad, folder: Path, *more: str) -> Outcome:
    """Run a case in a folder, the working directory: one line, the exit code, nothing written, and no waiting."""
    case.arrange(folder)
    before = files_below(folder)
    with _patience():
        done = run_command(*shlex.split(case.arguments), *more)
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == 2, done.err
    assert len(errors) == 1, done.err
    assert case.message in errors[0]
    assert done.err.splitlines()[-1] == errors[0]
    assert files_below(folder) == before
    return done


@contextmanager
def _patience() -> Iterator[None]:
    def give_up(number: int, frame: object) -> None:
        raise AssertionError(f"it still waits after {_PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
