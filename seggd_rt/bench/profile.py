"""Where a step's time goes on one engine: its layers and their operators, and how much of the step they explain."""

from __future__ import annotations

from collections import Counter

import msgspec

from seggd_rt.engine import Average, Clock, LayerProfile


class OperatorTime(msgspec.Struct, frozen=True, kw_only=True):
    """All layers of one operator; `calls` and `ms` are a step's."""

    operator: str
    calls: int
    ms: float
    percent: float


class LayerTime(OperatorTime, frozen=True, kw_only=True):
    """One layer, by the engine's name for it."""

    name: str


class StepProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Layers and operators, the costliest first; their percentages are of all layers together.

    Attributes
    ----------
    clock
        What timed the layers: the host's clock or the GPU's.
    average, runs
        What each figure is, and of how many steps.
    step_ms
        A step while it is profiled, by the host's clock. A profile slows a step: compare `EngineFigures.step`.
    layers_ms
        All layers together.
    between_ms
        What of a step passed in no layer.
    beyond_ms
        What is left of the step: what interrupted single runs, and is in no median. A busy machine has much of it.
    """

    clock: Clock
    average: Average
    runs: int
    step_ms: float
    layers_ms: float
    between_ms: float
    beyond_ms: float
    operators: tuple[OperatorTime, ...]
    layers: tuple[LayerTime, ...]


def step_profile(found: LayerProfile) -> StepProfile:
    """Group an engine's layers by operator, and compare them with the step."""
    calls: Counter[str] = Counter()
    spent: dict[str, float] = {}
    for layer in found.layers:
        calls[layer.operator] += layer.calls
        spent[layer.operator] = spent.get(layer.operator, 0.0) + layer.ms
    layers_ms = sum(spent.values())
    share = 100 / layers_ms if layers_ms else 0.0
    operators = [
        OperatorTime(operator=operator, calls=calls[operator], ms=ms, percent=share * ms)
        for operator, ms in spent.items()
    ]
    layers = [
        LayerTime(name=layer.name, operator=layer.operator, calls=layer.calls, ms=layer.ms, percent=share * layer.ms)
        for layer in found.layers
    ]
    return StepProfile(
        clock=found.clock,
        average=found.average,
        runs=found.runs,
        step_ms=found.step_ms,
        layers_ms=layers_ms,
        between_ms=found.between_ms,
        beyond_ms=found.step_ms - layers_ms - found.between_ms,
        operators=tuple(sorted(operators, key=_cost)),
        layers=tuple(sorted(layers, key=_cost)),
    )


def _cost(time: OperatorTime) -> float:
    return -time.ms
