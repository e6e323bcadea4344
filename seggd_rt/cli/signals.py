"""Ctrl-C and requests to terminate, heard also while native code runs.

Python's handlers run between its own instructions: during a call of a network, which may take minutes, none does. So a
thread watches for signals too, and ends the process where Python did not act on one in time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from seggd_rt.atomic import remove_partial_files

GRACE_S = 1.5
"""How long Python has to act on a signal."""
_SHOW_CURSOR = "\x1b[?25h\n"
_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt and SIGTERM raise SystemExit in a block, or end the process by the same codes.

    A second signal ends the process where it is still there when the time is up. A handler that the block installs in
    place of these, as training does, is left alone. For the main thread of a process that is the command line's own.
    """
    acted = threading.Event()

    def act(number: int, frame: FrameType | None) -> NoReturn:
        acted.set()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    # A shell's background jobs ignore Ctrl-C, and go on doing so.
    heeded = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, act) for number in heeded}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    other_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, act, acted), name="seggd-signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(other_writer)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)  # which ends the thread


def _watch(reader: int, act: object, acted: threading.Event) -> None:
    """End the process where a signal came that `act` is to handle, and has not, or once more."""
    heard = 0
    while data := os.read(reader, 1):
        number = data[0]
        if number not in _ENDING or signal.getsignal(number) is not act:
            continue
        heard += 1
        if heard > 1:
            threading.Event().wait(GRACE_S)
        elif acted.wait(GRACE_S):
            continue
        remove_partial_files()
        if sys.stderr.isatty():
            sys.stderr.write(_SHOW_CURSOR)  # which a bar of progress hides
            sys.stderr.flush()
        os._exit(128 + number)
    os.close(reader)
