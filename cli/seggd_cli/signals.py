"""Ctrl-C and requests to terminate, heard also while native code runs.

Python's handlers run between its own instructions: during a call of a network, which may take minutes, none does. So a
thread watches for signals too, and ends the process where Python did not act on one in time. Native code that holds the
interpreter stops that thread as well. So another process, `last_resort.py`, kills this one where the thread does not
read a signal for some seconds. Partial files then stay, and the next write of the same output removes them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from seggd_rt.files import remove_partial_files

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

    def act(number: int, frame: FrameType | None) -> None:
        if acted.is_set():  # what the first one began goes on, and the thread ends it if it takes too long
            return
        acted.set()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    # A shell's background jobs ignore Ctrl-C, and go on doing so.
    heeded = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, act) for number in heeded}
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    other_writer = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watching = (reader, act, acted, _start_last_resort(reader.fileno()))
    threading.Thread(target=_watch, args=watching, name="seggd-signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(other_writer)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()  # which ends the thread and the other process


def _start_last_resort(reader: int) -> subprocess.Popen[bytes] | None:
    """Start the helper that kills this process if native code blocks signals, or return None if it cannot start."""
    if os.name != "posix" or not sys.executable:
        return None
    code = Path(__file__).with_name("last_resort.py")
    with contextlib.suppress(OSError):  # no more processes are allowed: the thread does without
        return subprocess.Popen(  # noqa: S603 - this Python, and a file beside this one
            [sys.executable, "-I", "-S", code, str(reader), str(os.getpid())],
            pass_fds=[reader],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C is not for it
        )
    return None


def _watch(
    reader: socket.socket, act: object, acted: threading.Event, last_resort: subprocess.Popen[bytes] | None
) -> None:
    """End the process where a signal came that `act` is to handle, and has not, or once more."""
    heard = 0
    # A signal's byte is taken only once it is dealt with: until then the other process counts the seconds.
    while data := reader.recv(1, socket.MSG_PEEK):
        number = data[0]
        if number not in _ENDING or signal.getsignal(number) is not act:
            reader.recv(1)
            continue
        heard += 1
        if heard > 1:
            threading.Event().wait(GRACE_S)
        elif acted.wait(GRACE_S):
            reader.recv(1)
            continue
        remove_partial_files()
        if sys.stderr.isatty():
            sys.stderr.write(_SHOW_CURSOR)  # which a bar of progress hides
            sys.stderr.flush()
        os._exit(128 + number)
    reader.close()
    if last_resort is not None:
        last_resort.wait()
