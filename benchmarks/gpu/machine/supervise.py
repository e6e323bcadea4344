"""The script's two processes: one measures; the other outlives it, and starts it again where it died."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu.record import Record
from benchmarks.gpu.results import Failed
from benchmarks.gpu.run import Deadline

ENDED = (0, 1, 2, 3)
"""Exit codes of a process that came to its end: all well, something failed, it could not start, time was short."""
DEVICE_LOST = 70
_GRACE_S = 15


def supervise(
    command: Callable[[float | None], Sequence[str]],
    path: Path,
    deadline: Deadline,
    say: Callable[[str], None],
    *,
    grace_s: float = _GRACE_S,
) -> int:
    """Run the measuring process until it comes to its end; note what it died of, and go on with the rest.

    Parameters
    ----------
    command
        The process, given how many seconds it may take.
    path
        Its file of figures, which has the run already.
    deadline
        When all must be done; a process that does not stop by itself is killed `grace_s` after that.
    say
        Told of deaths.
    grace_s
        Seconds.

    Returns
    -------
    int
        The exit code.
    """
    while True:
        left = deadline.left_s()
        limit = None if left == float("inf") else max(left, 0)
        # A group of its own: what it started is killed with it.
        with subprocess.Popen(command(limit), process_group=0) as process:  # noqa: S603 - this very script
            try:
                code = process.wait(None if limit is None else limit + grace_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                say("the limit has come: what was being measured is left for the next run")
                return 1 if Record(path).failed() else 3
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if code in ENDED:
            return code
        record = Record(path)
        if record.document.in_hand is not None:
            part, name = record.document.in_hand
            why = (
                "after it the device answered nothing" if code == DEVICE_LOST else f"the process died of {_cause(code)}"
            )
            say(f"{part}/{name}: {why}")
            # What it died of is not tried again in this run; a contender's figures so far go with it.
            record.keep(part, name, Failed(error="ProcessDied", message=why), 0)
        elif code != DEVICE_LOST:
            say(f"the measuring process ended with {_cause(code)}, and nothing was in hand")
            return 1


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
