"""The command line, `seggd-rt`: one short file a command, tied together here.

Results go to stdout, everything said on the way to stderr. An error is one line and exit code 2; Ctrl-C ends with 130
and what is finished stays.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, TextIO

import typer

import seggd_rt
from seggd_rt.cli import doctor, evaluate, export, generate, inspect, slim, train
from seggd_rt.errors import SeggdError

app = typer.Typer(
    name="seggd-rt",
    help="Train, export and run segmentation-guided diffusion models of medical images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (
    train.train,
    slim.slim,
    export.export,
    inspect.inspect,
    generate.generate,
    evaluate.evaluate,
    doctor.doctor,
):
    app.command()(_command)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(seggd_rt.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; every expected error becomes one line and exit code 2."""
    warnings.showwarning = _say_warning
    try:
        app()
    except SeggdError as error:
        _say(f"error: {error}")
        sys.exit(2)


def _say(line: str) -> None:
    typer.echo(" ".join(line.split()), err=True)


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line, without the source line it comes from."""
    _say(f"warning: {message}")
