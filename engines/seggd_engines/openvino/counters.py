"""OpenVINO's counters: how long each layer of a graph took that was compiled with PERF_COUNT."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

from seggd_rt.engine import WARM_UPS, Average, Clock, Layer, LayerProfile, host_seconds
from seggd_rt.errors import EngineError

COUNTING = {"PERF_COUNT": "YES"}
"""With what a graph must be compiled."""
_PORTS = ("Parameter", "Result")
"""What the plugin lists beside layers: inputs and outputs."""


def profile_request(request: Any, call: Callable[[], None], runs: int) -> LayerProfile:
    """Make calls of a request and read what they took.

    The plugin tells each layer's mean over all runs so far, in whole microseconds, so means are all there is. It lists
    layers that it runs in place, or within others, with no time.

    Raises
    ------
    EngineError
        A call fails, or nothing was counted.
    """
    for _ in range(WARM_UPS):
        call()
    before = [WARM_UPS * _milliseconds(layer) for layer in request.get_profiling_info()]
    seconds = [host_seconds(call) for _ in range(runs)]
    layers = tuple(
        Layer(layer.node_name, layer.node_type, 1, max(0.0, (WARM_UPS + runs) * _milliseconds(layer) - warm) / runs)
        for layer, warm in zip(request.get_profiling_info(), before, strict=True)
        if layer.node_type not in _PORTS
    )
    if not layers:
        raise EngineError("OpenVINO told nothing of its layers")
    step_ms = 1e3 * fmean(seconds)
    between_ms = step_ms - sum(layer.ms for layer in layers)
    return LayerProfile(Clock.HOST, Average.MEAN, runs, step_ms, between_ms, layers)


def _milliseconds(layer: Any) -> float:
    return float(1e3 * layer.real_time.total_seconds())
