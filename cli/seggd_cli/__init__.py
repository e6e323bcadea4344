"""The command line, `seggd-rt`: one short file a command, tied together in `app.py`.

Results go to stdout, everything said on the way to stderr. An error is one line and exit code 2; Ctrl-C ends with 130,
a request to terminate with 143, and what is finished stays.

Importing this package loads no command: a signal that arrives while they load must be handled already.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line; every expected error becomes one line and exit code 2."""
    from seggd_cli.app import run

    run()


def run_process() -> None:
    """Run the command line as the main program of this process.

    Before and after the command itself, Ctrl-C or SIGTERM ends the process at once.
    """
    _open_standard_streams()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell's background jobs do
            signal.signal(number, _end)
    # Python restores the system's signal handlers at exit, so ignore signals from then on.
    # atexit calls the first registered function last.
    atexit.register(_ignore_signals)
    main()


def _open_standard_streams() -> None:
    """Open closed standard streams on the null device: other files would get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - until the end


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
