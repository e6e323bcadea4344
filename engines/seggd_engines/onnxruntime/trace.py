"""ONNX Runtime's own trace: a JSON file that a session writes when it is told to before it is made."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from seggd_rt.engine import UNKNOWN, WARM_UPS, LayerCall, host_seconds
from seggd_rt.errors import EngineError

_RUN = "model_run"
_NODE, _KERNEL = "Node", "Kernel"
_NODE_SUFFIX = "_kernel_time"


class _Event(msgspec.Struct):
    cat: str = ""
    name: str = ""
    ts: int = 0
    """When it began, in microseconds."""
    dur: int = 0
    args: dict[str, Any] = {}


@dataclass(frozen=True)
class Trace:
    """What a session wrote of its runs, warm-ups left out, and how long they took by the host's clock."""

    runs: list[list[_Event]]
    seconds: list[float]

    def nodes(self) -> list[list[LayerCall]]:
        """Return each run's nodes, as the host timed them."""
        return [
            [
                LayerCall(event.name.removesuffix(_NODE_SUFFIX), _operator(event), event.dur / 1e3)
                for event in run
                if event.cat == _NODE and event.name.endswith(_NODE_SUFFIX)
            ]
            for run in self.runs
        ]

    def kernels(self) -> list[list[LayerCall]]:
        """Return what each run's nodes did on the GPU; kernels whose node is not told have their own names."""
        return [
            [
                LayerCall(
                    str(event.args.get("parent_name") or event.name).removesuffix(_NODE_SUFFIX),
                    _operator(event),
                    event.dur / 1e3,
                )
                for event in run
                if event.cat == _KERNEL
            ]
            for run in self.runs
        ]


def trace(open_session: Callable[[str], Any], bind: Callable[[Any], Callable[[], None]], runs: int) -> Trace:
    """Trace runs of a session, and leave no file behind.

    Parameters
    ----------
    open_session
        Makes a session that profiles into files of this prefix.
    bind
        Returns what evaluates it once, and waits.
    runs
        How many.

    Raises
    ------
    EngineError
        It fails, or does not write what ONNX Runtime is known to write.
    """
    with TemporaryDirectory(prefix="seggd-rt-") as folder:
        session = open_session(str(Path(folder, "trace")))
        try:
            call = bind(session)
            seconds = [host_seconds(call) for _ in range(WARM_UPS + runs)]
        finally:
            written = session.end_profiling()  # also closes the file
        try:
            events = msgspec.json.decode(Path(written).read_bytes(), type=list[_Event])
        except (OSError, ValueError) as error:
            raise EngineError(f"ONNX Runtime's trace cannot be read: {error}") from error
    return Trace(_by_run(events)[-runs:], seconds[-runs:])


def _by_run(events: list[_Event]) -> list[list[_Event]]:
    """Return the events of each run, in the order of time: those from its beginning to that of the next."""
    begins = sorted(event.ts for event in events if event.name == _RUN)
    runs: list[list[_Event]] = [[] for _ in begins]
    for event in sorted(events, key=lambda event: event.ts):
        run = bisect_right(begins, event.ts)
        if run and event.name != _RUN:
            runs[run - 1].append(event)
    return runs


def _operator(event: _Event) -> str:
    return str(event.args.get("op_name") or UNKNOWN)
