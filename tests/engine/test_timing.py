from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seggd_rt.engine import Spread, host_seconds, interleaved, peak_memory_bytes, spread
from seggd_rt.errors import OptionError


def test_spread_is_in_milliseconds() -> None:
    hundred = [i / 1000 for i in range(1, 102)]
    assert spread(reversed(hundred)) == Spread(count=101, p50_ms=51, p95_ms=96, p99_ms=100)
    assert spread([0.002]) == Spread(count=1, p50_ms=2, p95_ms=2, p99_ms=2)
    with pytest.raises(ValueError, match="no durations"):
        spread([])


def test_contenders_take_turns_and_warm_up_untimed() -> None:
    ran: list[str] = []
    told: list[tuple[str, int]] = []

    def call(name: str) -> Callable[[], None]:
        return lambda: ran.append(name)

    def timer(called: Callable[[], object]) -> float:
        called()
        return float(len(ran))

    seconds = interleaved(
        {name: call(name) for name in "ABC"},
        2,
        warmups=1,
        settle={"B": call("b")},
        timer=timer,
        on_turn=lambda name, turn: told.append((name, turn)),
    )
    assert "".join(ran) == "AbBC" * 3
    assert seconds == {"A": [5, 9], "B": [7, 11], "C": [8, 12]}
    assert told[:4] == [("A", -1), ("B", -1), ("C", -1), ("A", 0)]
    assert told[-1] == ("C", 1)


@pytest.mark.parametrize(("repeats", "warmups"), [(0, 1), (1, -1)])
def test_rounds_outside_their_range_are_refused_before_any_call(repeats: int, warmups: int) -> None:
    def call() -> None:
        raise AssertionError("it ran")

    with pytest.raises(OptionError, match=str(min(repeats, warmups))):
        interleaved({"A": call}, repeats, warmups=warmups)


def test_host_seconds_covers_the_call() -> None:
    assert 0.02 <= host_seconds(lambda: time.sleep(0.02)) < 5


def test_peak_memory_keeps_what_was_given_back() -> None:
    before = peak_memory_bytes()
    if before is None:
        pytest.skip(f"{sys.platform} does not tell a process's peak memory")
    block = np.ones((before + (64 << 20)) // 8)
    del block
    after = peak_memory_bytes()
    assert after is not None
    assert after >= before + (48 << 20)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux's getrusage inherits a peak")
def test_peak_memory_is_not_that_of_the_parent() -> None:
    child = "from seggd_rt.engine.timing import peak_memory_bytes as peak; print(peak())"
    parent = (
        "import subprocess, sys, numpy\n"
        "block = numpy.ones(400 << 17)\n"
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True)\n"
        "print(block.nbytes)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    of_child, of_block = map(int, done.stdout.split())
    assert of_child < of_block
