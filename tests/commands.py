"""The command line from tests: in this process, which is fast, or in one of its own."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

COMMAND = (sys.executable, "-m", "seggd_cli")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """The lines on stderr that are no warnings."""
        return [line for line in self.err.splitlines() if not line.startswith("warning: ")]


def run_command(*arguments: str | Path) -> Outcome:
    """Run `seggd-rt` in this process, with the warnings a user has."""
    from seggd_cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["seggd-rt", *map(str, arguments)]
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings(), patch.object(sys, "argv", argv):
        warnings.simplefilter("default")
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


def with_options(arguments: Sequence[str | Path], *changes: str | Path) -> list[str | Path]:
    """Return a command line in which options, each followed by its value, stand in place of those that it has."""
    line = list(arguments)
    for name, value in zip(changes[::2], changes[1::2], strict=True):
        if name in line:
            line[line.index(name) + 1] = value
        else:
            line += [name, value]
    return line


def start_command(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start `seggd-rt` in a process of its own."""
    return subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def files_below(folder: Path) -> dict[str, bytes]:
    """Return every file, link and folder below a folder, with the files' bytes."""
    return {
        str(entry.relative_to(folder)): entry.read_bytes() if entry.is_file() else b""
        for entry in sorted(folder.rglob("*"))
    }
