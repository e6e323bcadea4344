"""NVIDIA's compute-sanitizer over the kernels, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.machine.checkout import ROOT, portable
from benchmarks.gpu.results import Absent, Result, Sanitized
from benchmarks.gpu.run import Context, Part, Piece
from seggd_rt.errors import EngineError

_TOOLS = ("memcheck", "initcheck", "synccheck")
"""Not racecheck: it watches shared memory, and no kernel has any."""
_FOUND = 99
"""The exit code asked for where a tool finds something."""
_PLACES = ("/usr/local/cuda/bin", "/opt/cuda/bin")
_SUMMARY = re.compile(r"ERROR SUMMARY: (\d+)")
_LONGEST_S = 180


def _pieces(context: Context) -> Iterator[Piece]:
    def piece(tool: str) -> Piece:
        return Piece(tool, lambda: sanitize(tool, min(_LONGEST_S, context.deadline.left_s() - 2)), 40)

    yield from map(piece, _TOOLS)


def sanitize(tool: str, limit_s: float) -> Result:
    """Run the driver of the kernels under a tool.

    Raises
    ------
    EngineError
        The driver failed by itself, or the tool cannot run on this device.
    """
    program = shutil.which("compute-sanitizer") or next(
        (found for place in _PLACES if (found := shutil.which("compute-sanitizer", path=place))), None
    )
    if program is None:
        return Absent(reason="compute-sanitizer is not installed")
    command = (program, "--tool", tool, "--error-exitcode", str(_FOUND), "--print-limit", "20")
    driver = (sys.executable, "-m", "benchmarks.gpu.checks.sanitizer_driver")
    try:
        done = subprocess.run(  # noqa: S603
            (*command, *driver), cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{Path(program).name} {tool} took more than {limit_s:.0f} s") from error
    return read_output(done.stdout + done.stderr, done.returncode)


def read_output(text: str, code: int) -> Sanitized:
    """Summarise what a tool printed.

    Raises
    ------
    EngineError
        There is no summary, or the driver failed without a finding.
    """
    lines = [line.removeprefix("=========").strip() for line in text.splitlines() if line.strip("= ")]
    found = _SUMMARY.search(text)
    if found is None or (code not in (0, _FOUND) and found[1] == "0"):
        last = portable(" / ".join(lines[-3:])) or "it said nothing"
        raise EngineError(f"compute-sanitizer ended with code {code} and no finding of its own: {last}")
    errors = int(found[1])
    kept = lines[:12] if errors else lines[-1:]
    return Sanitized(errors=errors, summary=tuple(portable(line) for line in kept))


SANITIZER = Part("sanitizer", _pieces)
