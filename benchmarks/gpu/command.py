"""The command line: `python -m benchmarks.gpu OUT.json`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import diffusers
import platformdirs
import torch

from benchmarks.gpu.checks.sanitizer import SANITIZER
from benchmarks.gpu.checks.suites import SUITES
from benchmarks.gpu.contenders.subjects import BUNDLES
from benchmarks.gpu.contenders.train import TRAIN
from benchmarks.gpu.latency import LATENCY
from benchmarks.gpu.machine.device import Gpu
from benchmarks.gpu.machine.floor import FLOOR
from benchmarks.gpu.machine.host import this_run, why_not_here
from benchmarks.gpu.machine.supervise import DEVICE_LOST, supervise
from benchmarks.gpu.profile import PROFILE
from benchmarks.gpu.record import Record
from benchmarks.gpu.run import Context, Deadline, DeviceLostError, Outcome, Part, say, work_through
from seggd_rt.errors import SeggdError

PARTS: tuple[Part, ...] = (FLOOR, SUITES, SANITIZER, BUNDLES, LATENCY, PROFILE, TRAIN)
"""In the order in which they run."""
_ALL_DONE, _FAILED, _REFUSED, _TIME_SHORT = 0, 1, 2, 3
_STOP_EARLY_S = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    deadline = Deadline(options.limit_s)
    ordinal = int(options.device.partition(":")[2])
    reason = why_not_here(ordinal)
    if reason is None and options.out.exists() and not options.append:
        reason = f"{options.out} is there: go on with it by --append, or choose another name"
    if reason is None and options.train_demo is not None and options.data is None:
        reason = "--train-demo needs --data, the .npz or folder to train on"
    if reason is not None:
        say(f"error: {reason}")
        return _REFUSED
    try:
        if options.measuring:
            return _measure(options, deadline)
        record = Record(options.out)
        record.begin(this_run(given, ordinal))
        for pattern in options.redo:
            say(f"{record.forget(pattern)} earlier measurements of {pattern} are forgotten")
    except SeggdError as error:
        say(f"error: {error}")
        return _REFUSED

    def command(left_s: float | None) -> list[str]:
        limit = [] if left_s is None else ["--limit-s", f"{max(left_s - _STOP_EARLY_S, 1):.1f}"]
        return [sys.executable, "-m", "benchmarks.gpu", *_without_limit(given), "--append", "--measuring", *limit]

    # So that what is measuring is stopped with this process, and does not hold the device on.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    return supervise(command, options.out, deadline, say)


def _measure(options: argparse.Namespace, deadline: Deadline) -> int:
    """Be the process that measures."""
    diffusers.logging.set_verbosity_error()  # it warns of every cast
    context = Context(
        record=Record(options.out),
        deadline=deadline,
        device=Gpu(options.device),
        cache=options.cache,
        data=options.data,
        train_minutes=options.train_demo,
        profile=options.profile,
        contenders=tuple(options.contenders or ["*"]),
        healthy=_device_answers,
    )
    began = time.monotonic()
    try:
        outcome = work_through(_chosen(options), context, only=options.only or ["*"])
    except DeviceLostError:
        return DEVICE_LOST
    failed = context.record.failed()
    say(_summary(outcome, len(failed), time.monotonic() - began))
    for measurement in failed:
        say(f"failed: {measurement.part}/{measurement.name}")
    return _FAILED if failed else _TIME_SHORT if outcome.left else _ALL_DONE


def _chosen(options: argparse.Namespace) -> list[Part]:
    asked = {TRAIN.name: options.train_demo is not None, PROFILE.name: options.profile}
    return [part for part in PARTS if (part.name in options.part if options.part else asked.get(part.name, True))]


def _device_answers() -> bool:
    """Ask the device for something: after some failures it refuses this process everything."""
    try:
        torch.cuda.synchronize()
        return bool(torch.ones(2, device="cuda").sum().item() == 2)
    except RuntimeError:
        return False


def _summary(outcome: Outcome, failed: int, seconds: float) -> str:
    parts = [f"{outcome.done} measured in {seconds:.0f} s", f"{outcome.skipped} were there", f"{failed} failed"]
    if outcome.left:
        parts.append(f"{len(outcome.left)} left for lack of time ({outcome.left[0]} first): run again with --append")
    return ", ".join(parts)


def _without_limit(given: Sequence[str]) -> list[str]:
    """Return the arguments but for the limit, the file's redo and --append, which are the outer process's."""
    kept, skip = [], False
    for argument in given:
        if skip:
            skip = False
        elif argument in ("--limit-s", "--redo"):
            skip = True
        elif argument != "--append" and not argument.startswith(("--limit-s=", "--redo=")):
            kept.append(argument)
    return kept


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Test and measure everything on an NVIDIA GPU. OUT.json is whole after every measurement.",
        epilog="Exit codes: 0 all is measured, 1 something failed, 2 it cannot start, 3 the time was short.",
        allow_abbrev=False,
    )
    parser.add_argument("out", type=Path, metavar="OUT.json", help="file for the figures")
    names = [part.name for part in PARTS]
    parser.add_argument("--part", action="append", choices=names, help="only this part; may be repeated")
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="only such NAME or PART/NAME; may be repeated: 'reference-*'"
    )
    parser.add_argument(
        "--contenders", action="append", metavar="PATTERN", help="only such contenders; may be repeated: '*eager*'"
    )
    parser.add_argument("--limit-s", type=float, metavar="N", help="be done within N seconds")
    parser.add_argument("--append", action="store_true", help="go on with OUT.json; what is measured is skipped")
    parser.add_argument(
        "--redo", action="append", default=[], metavar="PATTERN", help="forget such PART/NAME first: 'latency/demo*'"
    )
    parser.add_argument("--train-demo", type=float, metavar="MINUTES", help="also train the demo model so long")
    parser.add_argument("--data", type=Path, help="what to train it on")
    parser.add_argument("--profile", action="store_true", help="also a profile of each layer; NVTX ranges")
    parser.add_argument("--device", default="cuda:0", help="cuda:0 by default")
    default_cache = platformdirs.user_cache_path("seggd-rt") / "benchmarks"
    parser.add_argument("--cache", type=Path, default=default_cache, help="keeps bundles and checkpoints made here")
    parser.add_argument("--measuring", action="store_true", help=argparse.SUPPRESS)
    return parser
