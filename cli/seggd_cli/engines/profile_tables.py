"""The tables of `seggd-rt bench --profile`: operators against the step, and the costliest layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seggd_rt.engine import Average
from seggd_rt.wording import counted, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from seggd_rt.bench import EngineFigures, OperatorTime, StepProfile

_OPERATORS, _LAYERS = 12, 10
"""How many of each have a line of their own."""
_NAME_WIDTH, _OPERATOR_WIDTH = 38, 23
"""Longer ones are cut, so that a line fits a terminal."""


def operator_table(figures: EngineFigures, profile: StepProfile) -> Table:
    """Return all operators, and what they leave of the step unexplained."""
    table = _table(f"{figures.engine} {figures.precision}, operators", "calls")
    for operator in profile.operators[:_OPERATORS]:
        table.add_row(printable(operator.operator), str(operator.calls), *_share(operator))
    rest = profile.operators[_OPERATORS:]
    if rest:
        table.add_row(counted(len(rest), "other"), str(sum(operator.calls for operator in rest)), *_sum(rest))
    table.add_row("all layers", str(sum(layer.calls for layer in profile.layers)), *_sum(profile.layers))
    table.add_row("between layers", "", f"{profile.between_ms:.3f}")
    if profile.average is Average.MEDIAN:  # means add up
        table.add_row("interruptions", "", f"{profile.beyond_ms:.3f}")
    table.add_row("step, profiled", "", f"{profile.step_ms:.3f}")
    return table


def layer_table(figures: EngineFigures, profile: StepProfile) -> Table:
    """Return the costliest layers."""
    table = _table(f"{figures.engine} {figures.precision}, layers", "operator")
    for layer in profile.layers[:_LAYERS]:
        table.add_row(printable(layer.name), printable(layer.operator), *_share(layer))
    rest = profile.layers[_LAYERS:]
    if rest:
        table.add_row(counted(len(rest), "other"), "", *_sum(rest))
    return table


def profile_remark(figures: EngineFigures, profile: StepProfile) -> str:
    """Say how the profile was made, and what it does to a step."""
    return (
        f"{figures.engine}: {profile.average}s of {counted(profile.runs, 'step')}, layers by the {profile.clock}'s "
        f"clock; counting costs time: a step takes {profile.step_ms:.2f} ms so, {figures.step.p50_ms:.2f} ms without"
    )


def _table(title: str, second: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(title, no_wrap=True, max_width=_NAME_WIDTH)
    table.add_column(second, no_wrap=True, max_width=_OPERATOR_WIDTH, justify="right" if second == "calls" else "left")
    table.add_column("ms", no_wrap=True, justify="right")
    table.add_column("%", no_wrap=True, justify="right")
    return table


def _share(time: OperatorTime) -> tuple[str, str]:
    return f"{time.ms:.3f}", f"{time.percent:.1f}"


def _sum(times: Sequence[OperatorTime]) -> tuple[str, str]:
    return f"{sum(time.ms for time in times):.3f}", f"{sum(time.percent for time in times):.1f}"
