"""The command line, `seggd-rt`: one short file a command, tied together in `app.py`.

Results go to stdout, everything said on the way to stderr. An error is one line and exit code 2; Ctrl-C ends with 130,
a request to terminate with 143, and what is finished stays.

Importing this package loads no command: a signal that arrives while they load must be handled already.
"""

from __future__ import annotations

import atexit
import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; every expected error becomes one line and exit code 2."""
    from seggd_rt.cli.app import run

    run()


def run_process() -> None:
    """Run the command line as a process of its own: before and after the command, a signal ends it at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell's background jobs do
            signal.signal(number, _end)
    # Python would restore the system's handlers as it ends. What is registered first is called last.
    atexit.register(_ignore_signals)
    main()


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
