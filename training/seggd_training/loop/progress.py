"""What a run tells while it trains: a progress bar on stderr, TensorBoard, and `log.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from seggd_rt import terminal
from seggd_rt.files import append, open_regular, write_file
from seggd_rt.wording import printable


class Reporter:
    """Reports one run; a context manager. On other processes than the first, `enabled` is off and it is silent.

    Parameters
    ----------
    output
        The run's folder: `log.jsonl` and `tensorboard/` go there.
    steps
        The run's length, for the bar.
    start
        The first step to come: what was logged after it, by a run that was then killed, is dropped.
    """

    def __init__(self, output: Path, *, steps: int, start: int, enabled: bool) -> None:
        self._enabled = enabled
        self._log = output / "log.jsonl"
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=terminal.console(stderr=True),
            disable=not enabled,
        )
        self._task = self._bar.add_task("training", total=steps, completed=start, loss="")
        self._board: SummaryWriter | None = None
        if enabled:
            _truncate(self._log, start)
            self._board = SummaryWriter(str(output / "tensorboard"), purge_step=start)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar, which after an error is gone, and the files."""
        self._bar.live.transient = kind is not None
        self._bar.stop()
        if self._board is not None:
            self._board.close()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._enabled:
            self._bar.console.print(printable(line))

    def step(self, step: int, loss: float) -> None:
        """Move the bar to `step` steps done."""
        self._bar.update(self._task, completed=step, loss=f"{loss:.4f}")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Log figures of the run after `step` steps."""
        if self._board is None:
            return
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        append(self._log, (json.dumps({"step": step, **values}) + "\n").encode())

    def image(self, step: int, grid: NDArray[np.uint8]) -> None:
        """Show a picture, (H, W, 3) uint8, in TensorBoard."""
        if self._board is not None:
            self._board.add_image("samples", grid, step, dataformats="HWC")


class _Entry(msgspec.Struct):
    step: int


def _truncate(log: Path, step: int) -> None:
    """Drop the lines of a log that lie after `step`, and one a kill left half-written."""
    if not log.exists():
        return
    kept = []
    with open_regular(log) as file:
        lines = file.read().decode(errors="replace").splitlines()
    for line in lines:
        try:
            entry = msgspec.json.decode(line, type=_Entry)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            continue
        if entry.step <= step:
            kept.append(line)
    write_file(log, "".join(f"{line}\n" for line in kept).encode())
