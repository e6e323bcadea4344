"""The device that is measured: its clock, its memory, its streams."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from benchmarks.gpu.machine.checkout import first_line
from benchmarks.torch_network import external_stream
from seggd_engines.cuda import CudaStream, DeviceStream


@dataclass(frozen=True)
class Duration:
    """How long a piece of work took: on the device, and the thread that enqueued it."""

    device_s: float
    host_s: float


class DeviceUnderTest(Protocol):
    """What measuring needs of a device."""

    name: str
    """As engines name it: "cuda:0"."""
    stream: int
    """The handle of the stream that a caller of sessions works on."""

    def new_stream(self) -> DeviceStream:
        """Return a stream with memory, as sessions use."""

    def timed(self, work: Callable[[], object], stream: int | None = None) -> Duration:
        """Run work that enqueues on a stream, the caller's by default, wait, and time it by the device's events."""

    def synchronize(self) -> None:
        """Wait for everything."""

    def state(self) -> str:
        """Return what it says of its clock, power and temperature, and of what throttles it; "" where it does not."""

    def used_bytes(self, *, cached: bool = False) -> int:
        """Return how much of the device's memory is in use, by anybody; once caches are given back, or before that."""


class Gpu:
    """An NVIDIA GPU: see `DeviceUnderTest`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._device = torch.device(name)
        make_stream: Any = torch.cuda.Stream
        self._caller = make_stream(self._device)
        self.stream = int(self._caller.cuda_stream)

    def new_stream(self) -> DeviceStream:
        """Return a stream of cuda.core."""
        return CudaStream(self._device.index or 0)

    def timed(self, work: Callable[[], object], stream: int | None = None) -> Duration:
        """Time by two events on the stream; PyTorch works on it meanwhile."""
        at = self._caller if stream is None else external_stream(stream, self._device)
        make_event: Any = torch.cuda.Event
        before, after = (make_event(enable_timing=True) for _ in range(2))
        self.synchronize()
        with torch.cuda.stream(at):
            before.record(at)
            started = time.thread_time()
            work()
            host_s = time.thread_time() - started
            after.record(at)
        after.synchronize()
        return Duration(float(before.elapsed_time(after)) / 1e3, host_s)

    def synchronize(self) -> None:
        """Wait for everything on the device."""
        torch.cuda.synchronize(self._device)

    def state(self) -> str:
        """Ask nvidia-smi."""
        asked = "clocks.sm,clocks.max.sm,power.draw,temperature.gpu,clocks_event_reasons.active"
        found = first_line(
            "nvidia-smi", f"--id={self._device.index or 0}", f"--query-gpu={asked}", "--format=csv,noheader"
        )
        return ", ".join(f"{name} {value}" for name, value in zip(asked.split(","), found.split(", "), strict=False))

    def used_bytes(self, *, cached: bool = False) -> int:
        """Ask the driver, after PyTorch gave its cache back where that is not to count."""
        self.synchronize()
        if not cached:
            gc.collect()
            torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free
