"""What is shown of a run: results on stdout, the rest on stderr, with a bar where that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from seggd_rt import terminal
from seggd_rt.runs import Progress as RunState
from seggd_rt.wording import printable


class RunProgress:
    """Shows images finished, the step in work and the time left. Use it as a context manager."""

    def __init__(self, images: int, *, hidden: bool = False) -> None:
        self._console = terminal.console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.fields[done]}/{task.fields[images]} images"),
            BarColumn(),
            TextColumn("step {task.fields[step]}/{task.fields[steps]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=hidden or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, done=0, images=images, step=0, steps="?")

    def say(self, line: str) -> None:
        """Print a line on stderr, above the bar."""
        if self._console.is_terminal:
            self._console.print(Text(printable(line)), soft_wrap=True)
        else:
            terminal.say(line)

    def result(self, line: str) -> None:
        """Print a line on stdout; on the bar's own terminal, above the bar."""
        if self._console.is_terminal and sys.stdout.isatty():
            self._console.print(Text(printable(line)), soft_wrap=True)
        else:
            terminal.result(line)

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
        """Stop the bar; after an error it is gone, as it would stand still."""
        self._bar.live.transient = kind is not None
        self._bar.stop()
