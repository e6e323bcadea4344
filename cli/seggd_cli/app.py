"""The commands tied together, and what becomes of their errors."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, NoReturn, TextIO, cast

import typer

import seggd_rt
from seggd_cli.bundles import card, export, inspect, sign, slim
from seggd_cli.engines import bench, build, cache, doctor
from seggd_cli.images import generate, inpaint, interpolate, sweep, verify
from seggd_cli.images.several_devices import was_said
from seggd_cli.signals import ending_on_signals
from seggd_cli.strict_command import StrictCommand
from seggd_cli.training import evaluate, train
from seggd_rt import terminal
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


def run() -> None:
    """Run the command line: see `seggd_cli.main`."""
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
        _fail("memory is exhausted: use a smaller batch or smaller files")
    except KeyboardInterrupt:  # outside of the command, where Typer does not see it
        sys.exit(130)
    except ImportError as error:
        # NumPy's import turns Ctrl-C and a request to terminate into an ImportError.
        cause = error.__cause__ or error.__context__
        if not isinstance(cause, KeyboardInterrupt | SystemExit):
            raise
        sys.exit(130 if isinstance(cause, KeyboardInterrupt) else cause.code)


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
