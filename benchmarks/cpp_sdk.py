"""The C++ SDK beside the Python runtime: the same bundle and steps on ONNX Runtime, in turn, and what each adds.

    python -m benchmarks.cpp_sdk BUNDLE build/cpp/benchmark/seggd_benchmark

Each turn is a process of its own kind: the C++ program, then `seggd_rt.bench`. Figures are those of `Overhead`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from seggd_rt.bench import Settings, bench
from seggd_rt.telemetry import opt_out

ENGINE = "onnxruntime"


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What one turn found; see `seggd_rt.bench.report.Overhead`."""

    image_ms: float
    calls_ms: float
    percent: float
    quartiles_percent: tuple[float, float]
    outside_percent: float | None


def library() -> Path:
    """Return the path of ONNX Runtime's library in its wheel."""
    opt_out()  # the program that is timed inherits it
    import onnxruntime

    return next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))


def cpp_turn(program: Path, bundle: Path, steps: int, rounds: int, threads: int) -> Turn:
    command = [str(argument) for argument in (program, bundle, steps, rounds, threads)]
    environment = {**os.environ, "SEGGD_ONNXRUNTIME": str(library())}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)  # noqa: S603
    return msgspec.json.decode(done.stdout, type=Turn)


def python_turn(bundle: Path, steps: int, rounds: int, threads: int) -> Turn:
    settings = Settings(engine=ENGINE, device="cpu", precision="fp32", steps=steps, threads=threads, repeats=rounds)
    (figures,) = bench(bundle, settings).engines
    over = figures.overhead
    return Turn(
        image_ms=figures.image.p50_ms,
        calls_ms=over.calls_ms,
        percent=over.percent,
        quartiles_percent=over.quartiles_percent,
        outside_percent=over.outside_percent,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("program", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    settings = (given.bundle, given.steps, given.rounds, given.threads)
    table = Table(
        "", "image, ms", "calls, ms", "beyond its calls, % (quartiles)", "outside, %", title=given.bundle.name
    )
    for _ in range(given.turns):
        for name, turn in (("C++", cpp_turn(given.program, *settings)), ("Python", python_turn(*settings))):
            low, high = turn.quartiles_percent
            beyond = f"{turn.percent:.2f} ({low:.2f} to {high:.2f})"
            outside = "" if turn.outside_percent is None else f"{turn.outside_percent:.2f}"
            table.add_row(name, f"{turn.image_ms:.1f}", f"{turn.calls_ms:.1f}", beyond, outside)
    Console().print(table)


if __name__ == "__main__":
    main()
