"""The command line, `seggd-rt`: one short file a command, tied together here.

Results go to stdout, everything said on the way to stderr. An error is one line and exit code 2; Ctrl-C ends with 130,
a request to terminate with 143, and what is finished stays.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, NoReturn, TextIO, cast

import typer

import seggd_rt
from seggd_rt import terminal
from seggd_rt.cli import (
    bench,
    build,
    cache,
    card,
    doctor,
    evaluate,
    export,
    generate,
    inpaint,
    inspect,
    interpolate,
    sign,
    slim,
    sweep,
    train,
    verify,
)
from seggd_rt.cli.several_devices import was_said
from seggd_rt.cli.signals import ending_on_signals
from seggd_rt.cli.strict_command import StrictCommand
from seggd_rt.errors import SeggdError

app = typer.Typer(
    name="seggd-rt",
    help="Train, export and run segmentation-guided diffusion models of medical images.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (
    train.train,
    slim.slim,
    export.export,
    inspect.inspect,
    card.card,
    sign.sign,
    build.build,
    generate.generate,
    interpolate.interpolate,
    inpaint.inpaint,
    sweep.sweep,
    verify.verify,
    evaluate.evaluate,
    bench.bench,
    doctor.doctor,
):
    app.command(cls=StrictCommand)(_command)
app.add_typer(cache.cache)

# UsageError: what any command line that cannot be read raises. Releases of Typer differ in where it lies.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)


def _print_version(wanted: bool) -> None:
    if wanted:
        terminal.result(seggd_rt.__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        terminal.result_lines(context.get_help())


def main() -> None:
    """Run the command line; every expected error becomes one line and exit code 2."""
    terminal.guard()
    warnings.showwarning = _say_warning
    try:
        with ending_on_signals():
            sys.exit(app(standalone_mode=False))  # what `typer.Exit` was given
    except _UsageError as error:
        command = app.info.name if error.ctx is None else error.ctx.command_path
        _fail(f"{error.format_message().rstrip('.')}: see {command} --help")
    except SeggdError as error:
        _fail(str(error))
    except OSError as error:
        said = error.strerror or str(error)
        _fail(said if error.filename is None else f"{error.filename}: {said}")
    except MemoryError:
        _fail("there is not enough memory: a smaller batch, or smaller files, need less")
    except ImportError as error:
        # NumPy's import turns Ctrl-C into an ImportError.
        if not isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    _say(f"error: {message}")
    sys.exit(2)


def _say(text: str) -> None:
    """Print an error or a warning as one line; of processes that share a run, the first that has it."""
    if not was_said(text):
        terminal.say(text)


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
