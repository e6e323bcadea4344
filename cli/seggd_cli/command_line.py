"""The command line of a process, as it may stand in files that travel."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def portable_command(arguments: list[str] | None = None) -> str:
    """Return the command with every absolute path cut to its name: folders tell of a user and a machine.

    Parameters
    ----------
    arguments
        What follows the program; those of this process if None.
    """
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["seggd-rt", *(_cut(argument) for argument in given)])


def _cut(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{option}{equals}{Path(value).name if Path(value).is_absolute() else value}"
