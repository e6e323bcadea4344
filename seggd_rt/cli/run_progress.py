"""The progress bar of a run over many images, on stderr where that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from seggd_rt.dataset import Progress as RunState


class RunProgress:
    """Shows images finished, the step in work and the time left. Use it as a context manager."""

    def __init__(self, images: int) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.fields[done]}/{task.fields[images]} images"),
            BarColumn(),
            TextColumn("step {task.fields[step]}/{task.fields[steps]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            # Results printed on the same terminal go above the bar; a pipe must get them as they are.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("", total=None, done=0, images=images, step=0, steps="?")

    def show(self, state: RunState) -> None:
        """Show how far the run is."""
        steps = state.step.steps
        step = state.step.index + 1
        finished = state.done + (state.batch if step == steps else 0)
        self._bar.update(
            self._task,
            total=state.total * steps,
            completed=state.done * steps + state.batch * step,
            done=finished,
            step=step,
            steps=steps,
        )

    def __enter__(self) -> RunProgress:
        """Start the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bar."""
        self._bar.stop()
