"""The contract of networks that can time their layers, and the median of several profiles.

A profile is made by calls of its own, beside those that are timed: every engine is slower while it counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Protocol, runtime_checkable

from seggd_rt.engine.contract import Buffer, EngineInfo
from seggd_rt.engine.layers import Average, Clock, Layer, LayerCall, LayerProfile
from seggd_rt.errors import EngineError, EngineUnavailableError

WARM_UPS = 2
"""Untimed runs before those of a profile: engines choose kernels and allocate in the first."""


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
