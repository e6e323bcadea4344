"""Where a network's time goes, layer by layer: what an engine tells, and the contract of networks that can tell it.

A profile is made by calls of its own, beside those that are timed: every engine is slower while it counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import NamedTuple, Protocol, runtime_checkable

from seggd_rt.engine.contract import Buffer, EngineInfo
from seggd_rt.errors import EngineError, EngineUnavailableError

WARM_UPS = 2
"""Untimed runs before those of a profile: engines choose kernels and allocate in the first."""
UNKNOWN = "unknown"
"""The operator of a layer whose engine does not tell it."""


class Clock(StrEnum):
    """Which clock timed the layers."""

    HOST = "host"
    DEVICE = "device"


class Average(StrEnum):
    """What is left of many runs."""

    MEDIAN = "median"
    MEAN = "mean"


class LayerCall(NamedTuple):
    """A layer that ran once, and how long."""

    name: str
    operator: str
    ms: float


@dataclass(frozen=True)
class Layer:
    """A layer of the network that runs: the engine may have fused, split and added some."""

    name: str
    operator: str
    """As the engine calls it: most are named as in ONNX."""
    calls: int
    """How often it runs in one evaluation of the network."""
    ms: float
    """How long it takes in one evaluation, all its calls together."""


@dataclass(frozen=True)
class LayerProfile:
    """The layers of a network, in the order in which they ran.

    Attributes
    ----------
    clock
        What timed the layers.
    average, runs
        What each figure is, and of how many runs.
    step_ms
        One evaluation while it is profiled, by the host's clock: longer than without a profile.
    between_ms
        What of an evaluation passes in no layer. Medians do not add up to `step_ms`: what interrupts single runs, on a
        busy machine, is in none of the layers' medians.
    """

    clock: Clock
    average: Average
    runs: int
    step_ms: float
    between_ms: float
    layers: tuple[Layer, ...]


@runtime_checkable
class ProfiledNetwork(Protocol):
    """A `Network` that tells how long its layers take."""

    def profile(self, sample: Buffer, timestep: Buffer, out: Buffer, runs: int) -> LayerProfile:
        """Evaluate the network on buffers `runs` times, after some untimed: see `Network.bind`.

        Raises
        ------
        EngineUnavailableError
            The engine cannot tell here.
        EngineError
            It failed, or told nothing.
        """


@runtime_checkable
class CudaProfiledNetwork(Protocol):
    """A `CudaNetwork` that tells how long its layers take."""

    def profile(self, sample: Buffer, timestep: Buffer, out: Buffer, runs: int, stream: int) -> LayerProfile:
        """Evaluate the network on a stream, and wait each time: see `ProfiledNetwork.profile`."""


def medians(clock: Clock, runs: Sequence[Sequence[LayerCall]], seconds: Sequence[float]) -> LayerProfile:
    """Summarise runs of one network.

    Parameters
    ----------
    clock
        What timed the layers.
    runs
        The layers of each.
    seconds
        How long each took in all.

    Raises
    ------
    EngineError
        There are no layers, or not the same in every run.
    """
    calls: Counter[tuple[str, str]] = Counter((call.name, call.operator) for call in runs[0]) if runs else Counter()
    if not calls:
        raise EngineError("the engine told nothing of its layers")
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        if Counter((call.name, call.operator) for call in run) != calls:
            raise EngineError("the engine told of other layers from one run to the next")
        totals: dict[tuple[str, str], float] = defaultdict(float)
        for call in run:
            totals[call.name, call.operator] += call.ms
        for layer, ms in totals.items():
            spent[layer].append(ms)
    return LayerProfile(
        clock,
        Average.MEDIAN,
        len(runs),
        step_ms=1e3 * median(seconds),
        between_ms=median(1e3 * whole - sum(call.ms for call in run) for whole, run in zip(seconds, runs, strict=True)),
        layers=tuple(Layer(*layer, calls[layer], median(spent[layer])) for layer in calls),
    )


def no_profile(info: EngineInfo) -> EngineUnavailableError:
    """Return the error of a network that has no `profile`."""
    return EngineUnavailableError(f"engine {info.engine} does not tell how long its layers take")
