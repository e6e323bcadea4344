"""Ctrl-C and SIGTERM as a wish to stop soon: the step in hand ends, and its result is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Append the first SIGINT or SIGTERM to the yielded list in place of acting on it; a second one acts at once.

    Only the main thread may use it, as Python's signal handlers are set there.
    """
    noted: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        for each in before:
            signal.signal(each, act)

    def act(number: int, frame: FrameType | None) -> None:
        # Restore only at the second signal: the command line ends a process that does not call its own handlers.
        restore()
        signal.raise_signal(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        restore()
