"""`seggd-rt build`: a TensorRT plan of a bundle, ahead of its first use or for another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seggd_cli.options import RequireSignature
from seggd_rt import terminal
from seggd_rt.diffusion import Precision
from seggd_rt.errors import EngineUnavailableError, OptionError
from seggd_rt.wording import printable

if TYPE_CHECKING:
    from seggd_engines.tensorrt import BuildOptions, BuildProgress, Flavour
    from seggd_rt.gpu import Gpu


def build(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    engine: Annotated[
        str | None, typer.Option(help="tensorrt or tensorrt-rtx; by default the first of them that can build here.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp16, fp32 or bf16: which of the bundle's graphs.")] = "fp16",
    batch: Annotated[str, typer.Option(help="Batch sizes MIN:BEST:MAX; one number for exactly that.")] = "1:1:8",
    compute_capability: Annotated[
        str | None,
        typer.Option(help="tensorrt-rtx: what to build for, as 8.6,8.9,12.0, or current; Ampere and newer by default."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the plan; the user's cache by default.")
    ] = None,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="tensorrt: also for other GPUs from Ampere on; slower.")
    ] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="tensorrt: also for later 10.x, or 11.x; slower.")
    ] = False,
    strip_weights: Annotated[
        bool, typer.Option("--strip-weights", help="Take the weights from the bundle when the plan is loaded.")
    ] = False,
    optimisation_level: Annotated[int, typer.Option(help="0 to 5: how long to look for faster kernels.")] = 3,
    device: Annotated[
        str | None, typer.Option(help="The GPU to build on, where one is needed.  [default: cuda:0]")
    ] = None,
    require_signature: RequireSignature = None,
) -> None:
    """Build a bundle's TensorRT plan, unless it is there, and print where it lies."""
    from seggd_engines.tensorrt import BatchProfile, BuildOptions

    options = BuildOptions(
        flavour=choose_flavour(engine),
        precision=_parse_precision(precision),
        batch=BatchProfile.parse(batch),
        compute_capabilities=() if compute_capability is None else tuple(compute_capability.split(",")),
        hardware_compatible=hardware_compatible,
        version_compatible=version_compatible,
        strip_weights=strip_weights,
        optimisation_level=optimisation_level,
    )
    terminal.result(str(build_bundle(bundle, options, output, device, require_signature)))


def build_bundle(
    path: Path,
    options: BuildOptions,
    folder: Path | None = None,
    device: str | None = None,
    require_signature: Path | None = None,
) -> Path:
    """Build a bundle's plan, unless it is there, with a bar on stderr; return where it lies.

    Raises
    ------
    SeggdError
        The bundle is not whole or lacks the graph, or the plan cannot be built or written.
    """
    from seggd_engines.tensorrt import PlanCache, find_or_build
    from seggd_rt.bundle import Bundle
    from seggd_rt.inference import network_shape

    bundle = Bundle.open(path, require_signature=require_signature)
    graph = bundle.read_graph(bundle.graph(options.precision))
    shape = network_shape(bundle.manifest)
    gpu = gpu_to_build_on(options, device)
    with _shown_progress() as (say, show):
        plan = find_or_build(
            PlanCache.of_user(), graph, shape, options, gpu=gpu, folder=folder, say=say, on_progress=show
        )
    return plan.path


def gpu_to_build_on(options: BuildOptions, device: str | None = None) -> Gpu | None:
    """Return the GPU a build needs, or None where it needs none, once its package is known to be there.

    Parameters
    ----------
    options
        What is built.
    device
        The GPU that was asked for; "cuda:0" if None.

    Raises
    ------
    OptionError
        A GPU was asked for, and the build needs none.
    MissingExtraError
        The package is not installed.
    EngineUnavailableError
        It cannot be loaded, or there is no such GPU.
    """
    from seggd_rt.gpu import find_gpu

    if device is not None and not options.needs_gpu:
        raise OptionError(
            f"--device is {device}, and {options.flavour} builds this plan without a GPU: leave it out, or build for "
            "that GPU alone with --compute-capability current"
        )
    options.flavour.load()
    if not options.needs_gpu:
        return None
    try:
        return find_gpu("cuda:0" if device is None else device)
    except EngineUnavailableError as error:
        raise EngineUnavailableError(f"{options.flavour.label} cannot build this without a GPU: {error}") from error


def choose_flavour(name: str | None) -> Flavour:
    """Return the TensorRT of a name; without one, TensorRT where it and a GPU are there, else TensorRT-RTX.

    Raises
    ------
    OptionError
        There is no such engine, or it has no plans.
    """
    from seggd_engines.tensorrt import Flavour
    from seggd_rt.gpu import why_no_gpu

    if name is None:
        return Flavour.TENSORRT if Flavour.TENSORRT.installed and why_no_gpu() is None else Flavour.TENSORRT_RTX
    try:
        return Flavour(name)
    except ValueError as error:
        raise OptionError(f"there are no plans for engine '{name}', only for {' and '.join(Flavour)}") from error


def _parse_precision(text: str) -> Precision:
    try:
        return Precision(text)
    except ValueError as error:
        raise OptionError(f"--precision is '{text}'; it must be one of {', '.join(Precision)}") from error


@contextmanager
def _shown_progress() -> Iterator[tuple[Callable[[str], None], Callable[[BuildProgress], None]]]:
    """Give what says a line on stderr, and what shows a build's progress there as a bar."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    console = terminal.console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=1.0, visible=False)

        def say(line: str) -> None:
            if console.is_terminal:
                console.print(Text(printable(line)), soft_wrap=True)
            else:
                terminal.say(line)

        def show(progress: BuildProgress) -> None:
            bars.update(task, completed=progress.share, description=progress.doing, visible=True)

        yield say, show
        bars.update(task, completed=1.0, description="built")
