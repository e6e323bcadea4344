"""Train the demo model for some minutes: a GPU hour can also improve what is shipped.

`seggd-rt train` lays its learning rate out over a number of steps, so a short run first finds how many fit. What the
run has is slimmed next to OUT.json every minute: if the script is killed, the latest is there.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.machine.checkout import ROOT
from benchmarks.gpu.results import Trained
from benchmarks.gpu.run import Context, Part, Piece
from seggd_export.checkpoint import Checkpoint
from seggd_rt.errors import EngineError, OptionError

SIZE = 128
_RECIPE = (
    "--network", "small", "--mask-encoding", "one-hot", "--ablation", "--prediction", "v", "--min-snr", "5",
    "--augment", "--batch-size", "32", "--lr", "4e-4", "--warmup-steps", "200", "--ema-decay", "0.999",
    "--mixed-precision", "bf16", "--seed", "0", "--sample-every", "0", "--licence", "CC BY-NC-SA 4.0",
)  # fmt: skip
"""That of examples/cardiac/README.md."""
_TRIAL_STEPS = 300
_MARGIN_S = 45
"""For the start, the last validation, and slimming."""
_FRACTION = 0.92
"""Of the time found by the trial, for steps: the clock of a GPU is not that even."""
_LARGEST_MB = 12.0
_EVERY_S = 60.0


@dataclass(frozen=True)
class Training:
    """One run of `seggd-rt train` in a folder.

    Attributes
    ----------
    data
        The .npz, or the folder.
    folder
        For its checkpoints and log.
    minutes
        How long it may take, the trial included.
    recipe
        Options of the command.
    """

    data: Path
    folder: Path
    minutes: float
    recipe: tuple[str, ...] = _RECIPE
    size: int = SIZE

    def command(self, folder: Path, steps: int, *more: str) -> list[str]:
        """Return the command line of a run."""
        every = str(max(steps // 40, 50))
        return [
            *(sys.executable, "-m", "seggd_cli", "train", "--data", str(self.data), "-o", str(folder)),
            *("--image-size", str(self.size), "--steps", str(steps), *self.recipe),
            *("--checkpoint-every", every, "--validate-every", every),
            *("--training-data", f"ACDC (MICCAI 2017), 70 training patients, {self.size}x{self.size} ROI"),
            *more,
        ]

    def trial(self, steps: int = _TRIAL_STEPS) -> float:
        """Run a few steps in a folder that goes; return seconds a step, without the start.

        Raises
        ------
        EngineError
            The run failed, or told too little to tell.
        """
        folder = self.folder.with_name(f"{self.folder.name}-trial")
        shutil.rmtree(folder, ignore_errors=True)
        with started(self.command(folder, steps)) as process:
            process.wait()
        told = [(step, seconds) for step, seconds, _ in read_log(folder / "log.jsonl")]
        shutil.rmtree(folder, ignore_errors=True)
        if len(told) < 2 or told[-1][0] <= told[0][0]:
            raise EngineError("the trial run told too little to say how long a step takes")
        (first, began), (last, ended) = told[0], told[-1]
        return (ended - began) / (last - first)


def read_log(path: Path) -> list[tuple[int, float, float | None]]:
    """Return the steps a log tells of, the seconds they were done after, and the validation loss where there is one."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
    return [(int(line["step"]), float(line["seconds"]), line.get("val_loss")) for line in lines if "seconds" in line]


def fitting_steps(step_s: float, minutes: float, spent_s: float = 0.0) -> int:
    """Return how many steps fit into some minutes, of which some seconds are gone.

    Raises
    ------
    OptionError
        None do.
    """
    left_s = 60 * minutes - spent_s - _MARGIN_S
    steps = int(_FRACTION * left_s / step_s)
    if steps < 1:
        raise OptionError(f"{minutes:g} minutes are too few to train in: give more, or none")
    return steps


def slim(folder: Path, target: Path) -> Checkpoint | None:
    """Write the latest checkpoint's averaged weights in half precision; return it, or None where there is none yet.

    Raises
    ------
    EngineError
        The file is larger than may be shipped.
    """
    latest = folder / "last.pt"
    if not latest.is_file():
        return None
    checkpoint = Checkpoint.load(latest)
    checkpoint.slim().save(target)
    megabytes = target.stat().st_size / 1e6
    if megabytes > _LARGEST_MB:
        raise EngineError(f"{target.name} has {megabytes:.1f} MB; {_LARGEST_MB:g} may be shipped")
    return checkpoint


def train(training: Training, target: Path, deadline_s: float) -> Trained:
    """Train until the steps are done or the time is over; go on where an earlier run stopped.

    Parameters
    ----------
    training
        What to run.
    target
        The slim checkpoint.
    deadline_s
        Seconds that the script has left.

    Raises
    ------
    EngineError
        The run failed.
    """
    began = time.monotonic()
    allowed_s = min(60 * training.minutes, deadline_s)
    plan, more = training.folder.with_name(f"{training.folder.name}.steps"), list[str]()
    if plan.is_file() and (training.folder / "resume.pt").is_file():
        steps, more = int(plan.read_text("utf-8")), ["--resume"]
    else:
        shutil.rmtree(training.folder, ignore_errors=True)
        step_s = training.trial()
        steps = fitting_steps(step_s, allowed_s / 60, time.monotonic() - began)
        plan.write_text(str(steps), "utf-8")
    slimmed = time.monotonic()
    with started(training.command(training.folder, steps, *more)) as process:
        while process.poll() is None:
            time.sleep(0.5)
            if time.monotonic() - began > allowed_s - _MARGIN_S / 2:
                process.send_signal(signal.SIGTERM)  # the step in hand ends, and all is saved
                process.wait()
            elif time.monotonic() - slimmed > _EVERY_S:
                slim(training.folder, target)
                slimmed = time.monotonic()
    checkpoint = slim(training.folder, target)
    if checkpoint is None:
        raise EngineError("the run left no checkpoint")
    provenance = checkpoint.config.provenance
    losses = [loss for _, _, loss in read_log(training.folder / "log.jsonl") if loss is not None]
    return Trained(
        checkpoint=target.name,
        megabytes=round(target.stat().st_size / 1e6, 2),
        step=provenance.step,
        images_seen=provenance.images_seen,
        minutes=round((time.monotonic() - began) / 60, 2),
        val_loss=losses[-1] if losses else None,
    )


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the checkout; it ends with the block.

    Raises
    ------
    EngineError
        It ended otherwise than by itself, all well, or by SIGTERM.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stderr=said)  # noqa: S603
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode not in (0, 128 + signal.SIGTERM):
            said.seek(0)
            lines = said.read().strip().splitlines() or ["it said nothing"]
            raise EngineError(f"training ended with code {process.returncode}: {lines[-1]}")


def _pieces(context: Context) -> Iterator[Piece]:
    if context.train_minutes is None or context.data is None:
        return
    minutes, data, out = context.train_minutes, context.data.resolve(), context.record.path
    training = Training(data, context.cache.resolve() / f"train-demo-{SIZE}-{minutes:g}", minutes)
    target = out.with_name(f"{out.stem}-demo{SIZE}.pt")

    def work() -> Trained:
        return train(training, target, context.deadline.left_s() - 5)

    yield Piece(f"demo {SIZE}x{SIZE}, {minutes:g} minutes", work, needs_s=90)


TRAIN = Part("train", _pieces)
