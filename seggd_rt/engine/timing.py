"""Timing for benchmarks: contenders in turn, in one process, and what is left of them in a few figures.

A machine drifts: its clock, its neighbours, its caches. So whatever is to be compared is run in rounds, A B C A B C,
and compared by medians.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from seggd_rt.errors import OptionError

Call = Callable[[], object]
Timer = Callable[[Call], float]
"""Runs a call and returns how long it took, in seconds."""

_PROCESS_STATUS = Path("/proc/self/status")


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Where the durations of many equal calls lie, in milliseconds."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


def spread(seconds: Iterable[float]) -> Spread:
    """Summarise durations in seconds.

    Raises
    ------
    ValueError
        There are none.
    """
    durations = np.fromiter(seconds, np.float64)
    if not durations.size:
        raise ValueError("there are no durations to summarise")
    p50, p95, p99 = (float(value) for value in np.percentile(durations * 1e3, (50, 95, 99)))
    return Spread(count=durations.size, p50_ms=p50, p95_ms=p95, p99_ms=p99)


def host_seconds(call: Call) -> float:
    """Run a call and return its duration by the host's clock, in seconds."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def interleaved(
    contenders: Mapping[str, Call],
    repeats: int,
    *,
    warmups: int = 1,
    settle: Mapping[str, Call] | None = None,
    timer: Timer = host_seconds,
    on_turn: Callable[[str, int], None] = lambda name, turn: None,
) -> dict[str, list[float]]:
    """Time calls in turn, A B C A B C, after untimed rounds of the same.

    Parameters
    ----------
    contenders
        What is compared, by name.
    repeats
        Timed rounds, at least 1.
    warmups
        Untimed rounds before them.
    settle
        What to call, untimed, before each call of a contender, so that it does not start among the spinning threads of
        the one before, and with its caches.
    timer
        How a call is timed: on a GPU, by events of the device.
    on_turn
        Told, before a call, its contender and round: -warmups, ..., -1, then 0, 1, ...

    Returns
    -------
    dict
        The durations of every contender in seconds, in the order of the rounds.

    Raises
    ------
    OptionError
        `repeats` is less than 1, or `warmups` negative.
    """
    if repeats < 1:
        raise OptionError(f"repeats is {repeats}; it must be at least 1")
    if warmups < 0:
        raise OptionError(f"warmups is {warmups}; it must not be negative")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-warmups, repeats):
        for name, call in contenders.items():
            on_turn(name, turn)
            if settle is not None and name in settle:
                settle[name]()
            taken = timer(call)
            if turn >= 0:
                seconds[name].append(taken)
    return seconds


def peak_memory_bytes() -> int | None:
    """Return the most memory this process has ever had resident, in bytes; None where that cannot be known."""
    if _PROCESS_STATUS.is_file():
        # Not getrusage: on Linux its peak is inherited from the process that started this one.
        for line in _PROCESS_STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
