"""TensorRT's own profile: a context tells a listener how long each of its layers took on the GPU."""

from __future__ import annotations

from typing import Any

from seggd_engines.tensorrt.flavor import TensorRT
from seggd_rt.engine import UNKNOWN, WARM_UPS, Clock, LayerCall, LayerProfile, host_seconds, medians


def profile_context(
    tensorrt: TensorRT, context: Any, stream: int, runs: int, operators: dict[str, str]
) -> LayerProfile:
    """Run a context that is bound to its buffers, and wait each time.

    Parameters
    ----------
    tensorrt
        The package.
    context
        Not used for anything else afterwards: it goes on telling.
    stream
        The handle of the stream that it runs on.
    runs
        How many, after some untimed.
    operators
        What the inspector says of each layer: see `tensorrt_inspect.operators`.

    Raises
    ------
    EngineError
        It fails, or tells nothing.
    """
    told: list[tuple[str, float]] = []
    listener = make_listener(tensorrt.module, told)  # kept here, whether the context keeps it or not
    context.profiler = listener
    context.enqueue_emits_profile = True  # a run that reports also waits: TensorRT's default, stated

    def run() -> None:
        told.clear()
        with tensorrt.messages.heard() as said:
            if not context.execute_async_v3(stream):
                raise said.failure("failed")

    for _ in range(WARM_UPS):
        run()
    seconds, calls = [], []
    for _ in range(runs):
        seconds.append(host_seconds(run))
        calls.append([LayerCall(name, operators.get(name, UNKNOWN), ms) for name, ms in told])
    return medians(Clock.DEVICE, calls, seconds)


def make_listener(module: Any, told: list[tuple[str, float]]) -> Any:
    """Return a profiler that appends each layer's name, and its time in milliseconds."""

    def initialise(self: Any) -> None:
        module.IProfiler.__init__(self)

    def report_layer_time(self: Any, name: str, ms: float) -> None:
        told.append((name, float(ms)))

    methods = {"__init__": initialise, "report_layer_time": report_layer_time}
    return type("SeggdProfiler", (module.IProfiler,), methods)()
