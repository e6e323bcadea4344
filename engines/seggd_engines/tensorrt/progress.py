"""A TensorRT build that tells how far it is, and that an exception in the calling thread, Ctrl-C too, cancels."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seggd_engines.tensorrt.flavor import TensorRT
from seggd_rt.errors import EngineError
from seggd_rt.gpu import Gpu, make_current


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is: what is done now, and the share of it all that is done, in [0, 1]."""

    doing: str
    share: float


OnProgress = Callable[[BuildProgress], None]
"""Called in the thread that asked for the build; raising ends the build."""


def run_build(
    tensorrt: TensorRT, builder: Any, network: Any, config: Any, gpu: Gpu | None, on_progress: OnProgress | None
) -> memoryview | None:
    """Build in a thread of its own, so that this one hears signals and tells of progress.

    TensorRT calls its monitor from C++, where no exception may pass: the monitor fills a queue, and this thread does
    everything that may raise.

    Returns
    -------
    memoryview | None
        The plan; None where the builder failed, and its messages say why.

    Raises
    ------
    EngineError
        The builder raised.
    """
    events: queue.SimpleQueue[BuildProgress | None] = queue.SimpleQueue()
    cancelled = threading.Event()
    config.progress_monitor = make_monitor(tensorrt.module, events.put, cancelled)
    result: list[Any] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            if gpu is not None:
                make_current(gpu.ordinal)  # the current GPU is each thread's own
            result.append(builder.build_serialized_network(network, config))
        except (EngineError, RuntimeError, TypeError, ValueError) as error:  # what pybind11 makes of C++ exceptions
            failures.append(error)
        finally:
            events.put(None)

    worker = threading.Thread(target=work, name="seggd-build")
    try:
        worker.start()  # waits for the thread: a signal may end this too
        while (event := events.get()) is not None:
            if on_progress is not None:
                on_progress(event)
    finally:
        cancelled.set()  # without effect where the build is over
        if worker.ident is not None:
            worker.join()
    if failures:
        raise EngineError(f"{tensorrt.flavour.label} failed while building: {failures[0]}") from failures[0]
    return memoryview(result[0]) if result and result[0] is not None else None


def make_monitor(module: Any, tell: Callable[[BuildProgress], None], cancelled: threading.Event) -> Any:
    """Return a progress monitor that tells how far a build is, and stops it once `cancelled` is set."""
    phases = Phases()

    def initialise(self: Any) -> None:
        module.IProgressMonitor.__init__(self)

    def phase_start(self: Any, name: str, parent: str | None, steps: int) -> None:
        tell(phases.start(name, parent, steps))

    def step_complete(self: Any, name: str, step: int) -> bool:
        tell(phases.step(name, step))
        return not cancelled.is_set()

    def phase_finish(self: Any, name: str) -> None:
        tell(phases.finish(name))

    methods = {function.__name__: function for function in (phase_start, step_complete, phase_finish)}
    return type("SeggdMonitor", (module.IProgressMonitor,), {"__init__": initialise, **methods})()


class Phases:
    """TensorRT's phases, each a step of its parent, as one share that never falls. Several threads report them."""

    def __init__(self) -> None:
        self._parents: dict[str, str | None] = {}
        self._steps: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._share = 0.0
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> BuildProgress:
        """Add a phase."""
        with self._lock:
            self._parents[name], self._steps[name], self._done[name] = parent, max(steps, 1), 0
            return self._progress(name)

    def step(self, name: str, step: int) -> BuildProgress:
        """Count a finished step, numbered from 0."""
        with self._lock:
            if name in self._done:
                self._done[name] = min(step + 1, self._steps[name])
            return self._progress(name)

    def finish(self, name: str) -> BuildProgress:
        """Remove a phase."""
        with self._lock:
            progress = self._progress(name)
            for phase in (self._parents, self._steps, self._done):
                phase.pop(name, None)
            return progress

    def _progress(self, name: str) -> BuildProgress:
        share, phase, seen = 0.0, name, set()
        while phase in self._done and phase not in seen:
            seen.add(phase)
            share = min((self._done[phase] + share) / self._steps[phase], 1.0)
            parent = self._parents[phase]
            if parent is None:
                self._share = max(self._share, share)
                break
            phase = parent
        return BuildProgress(name, self._share)
