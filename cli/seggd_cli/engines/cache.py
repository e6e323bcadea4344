"""`seggd-rt cache`: the TensorRT plans that are kept for this user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seggd_cli.strict_command import StrictCommand
from seggd_rt import terminal
from seggd_rt.wording import printable

cache = typer.Typer(
    name="cache", help="List, add and clear the TensorRT plans that are kept for you.", rich_markup_mode=None
)


@cache.command(name="list", cls=StrictCommand)
def list_plans() -> None:
    """Print every plan: its engine, precision, batch sizes and GPU, and where it lies."""
    from rich.table import Table

    from seggd_engines.tensorrt import PlanCache

    plans = PlanCache.of_user()
    records = plans.records()
    if not records:
        terminal.say(f"no plans in {plans.folder}")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("bundle", "engine", "precision", "batch", "GPU", "MB", "plan"):
        table.add_column(title, no_wrap=True)
    for record in records:
        key = record.key
        gpus = key.gpu or ", ".join(key.compute_capabilities) or "Ampere and newer"
        there = record.path if Path(record.path).is_file() else f"{record.path} (missing)"
        size = f"{record.size / 1e6:.0f}"
        cells = (record.name, f"{key.flavour} {key.version}", key.precision, key.batch, gpus, size, there)
        table.add_row(*map(printable, cells))
    # Wide enough for any path: one that is cut cannot be copied.
    terminal.console(width=1000).print(table)


@cache.command(cls=StrictCommand)
def add(
    plans: Annotated[list[Path], typer.Argument(help="Plans of seggd-rt build -o, each with its .json beside it.")],
) -> None:
    """Take over plans that were built on another machine. A plan is code: add only those of people you trust."""
    from seggd_engines.tensorrt import PlanCache

    kept = PlanCache.of_user()
    for path in plans:
        terminal.result(str(kept.add(path).path))


@cache.command(cls=StrictCommand)
def clear() -> None:
    """Remove all plans, compiled kernels and measurements; plans beside bundles stay, but are not loaded again."""
    from seggd_engines.tensorrt import PlanCache

    plans = PlanCache.of_user()
    count, size = plans.clear()
    terminal.result(f"{plans.folder}: {count} plans removed, {size / 1e6:.1f} MB")
