"""The tests that are marked `gpu`, on this GPU: each file in a process of its own, so that a crash ends one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.machine.checkout import ROOT, portable
from benchmarks.gpu.results import Absent, Result, Suite
from benchmarks.gpu.run import Context, Part, Piece
from seggd_rt.errors import EngineError

_LONGEST_S = 300
_MOST_FAILURES = 40


def _pieces(context: Context) -> Iterator[Piece]:
    def piece(name: str, *arguments: str, sources: Sequence[Path]) -> Piece:
        return Piece(name, lambda: run_suite(arguments, sources, min(_LONGEST_S, context.deadline.left_s() - 2)), 30)

    for file in sorted((ROOT / "tests").rglob("test_*.py"), key=lambda file: ("gpu" not in file.stem, file)):
        if "mark.gpu" in file.read_text("utf-8"):
            yield piece(file.stem, "-m", "gpu", str(file), sources=[file])


def run_suite(arguments: Sequence[str], sources: Sequence[Path], limit_s: float) -> Result:
    """Run pytest in a process of its own.

    Parameters
    ----------
    arguments
        What to run.
    sources
        The files it is in, read for what they need.
    limit_s
        Seconds it may take.

    Raises
    ------
    EngineError
        It died, or took too long; the message has its last line.
    """
    missing = [
        package
        for package in ("pytest", "hypothesis")
        if importlib.util.find_spec(package) is None
        and (package == "pytest" or any(f"import {package}" in s or f"from {package}" in s for s in _texts(sources)))
    ]
    if missing:
        return Absent(reason=f"{' and '.join(missing)} not installed")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        # Warnings of other versions of libraries than CI has must not fail tests here.
        options = ("-q", "-p", "no:cacheprovider", "-W", "default", f"--junitxml={report}")
        command = (sys.executable, "-m", "pytest", *options, *arguments)
        environment = {**os.environ, "COLUMNS": "200"}
        try:
            done = subprocess.run(  # noqa: S603 - this checkout's own tests
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"the tests took more than {limit_s:.0f} s") from error
        if not report.is_file():
            lines = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
            raise EngineError(f"pytest ended with code {done.returncode}: {lines[-1]}")
        return read_junit(report)


def read_junit(path: Path) -> Suite:
    """Summarise a JUnit report, as pytest writes it."""
    passed, failures, skips = 0, [], Counter[str]()
    for case in ElementTree.parse(path).iter("testcase"):  # noqa: S314 - written by pytest a moment ago
        problem = next((child for child in case if child.tag in ("failure", "error")), None)
        skip = case.find("skipped")
        if problem is not None:
            first = (problem.get("message") or "").strip().splitlines() or ["no message"]
            failures.append(portable(f"{case.get('name')}: {first[0]}")[:300])
        elif skip is not None:
            skips[portable(skip.get("message") or "no reason")] += 1
        else:
            passed += 1
    return Suite(
        passed=passed,
        failed=len(failures),
        skipped=skips.total(),
        failures=tuple(failures[:_MOST_FAILURES]),
        skips=dict(skips),
    )


def _texts(sources: Sequence[Path]) -> list[str]:
    return [source.read_text("utf-8") for source in sources]


SUITES = Part("suites", _pieces)
