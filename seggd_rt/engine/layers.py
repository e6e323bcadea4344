"""The layers of a network and their times, as an engine reports them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

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
