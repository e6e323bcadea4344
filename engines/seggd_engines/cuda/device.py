"""What a session asks of a GPU: memory, copies, kernels, graphs, all on one stream.

`stream.py` is the real one; `tests/engines/cuda/emulated.py` runs the same kernels, compiled for the host, so that
everything above is tested where no GPU is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class Kernel(StrEnum):
    """The kernels of `kernels/sampling.cu`. Each takes the address of a `Sampling`."""

    BEGIN = "seggd_begin"
    STEP = "seggd_step"
    FINISH = "seggd_finish"
    PREVIEW = "seggd_preview"


class DeviceGraph(Protocol):
    """Captured work, ready to be launched on the stream it was captured on, any number of times."""

    def launch(self) -> None:
        """Enqueue all of it at once."""

    def close(self) -> None:
        """Give it back."""


class DeviceMark(Protocol):
    """A place in a stream's queue."""

    def wait(self) -> None:
        """Wait until everything before it is done."""


class DeviceStream(Protocol):
    """A queue of work on one device, and the memory that work uses. One thread uses it at a time.

    Everything but `allocate`, `pinned`, `synchronize` and `close` is enqueued, and may be captured. Addresses are
    device memory. Methods raise `EngineError` where the device fails, also for an earlier piece of enqueued work.
    """

    @property
    def handle(self) -> int:
        """The stream's handle, a `CUstream`."""

    def active(self) -> AbstractContextManager[None]:
        """Make the device the calling thread's own for a block: everything here is called in such a block."""

    def allocate(self, size: int) -> int:
        """Return the address of new device memory of `size` bytes, kept until `close`, at a multiple of 256."""

    def pinned(self, size: int) -> Bytes:
        """Return new host memory that copies run at full speed from, kept until `close`."""

    def upload(self, address: int, source: Bytes) -> None:
        """Copy pinned host memory to the device."""

    def download(self, target: Bytes, address: int) -> None:
        """Copy device memory to pinned host memory."""

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the device, or between devices."""

    def clear(self, address: int, size: int) -> None:
        """Set device memory to zero."""

    def launch(self, kernel: Kernel, grid: tuple[int, int], block: int, state: int) -> None:
        """Run a kernel."""

    def capture(self, work: Callable[[], None]) -> DeviceGraph:
        """Record what `work` enqueues, without running it."""

    def mark(self) -> DeviceMark:
        """Mark the place in the queue that has been reached."""

    def wait_for(self, stream: int) -> None:
        """Let what is enqueued here from now on wait for what is already enqueued on another stream."""

    def hold_back(self, stream: int) -> None:
        """Let what is enqueued on another stream from now on wait for what is already enqueued here."""

    def synchronize(self) -> None:
        """Wait until everything enqueued here is done."""

    def close(self) -> None:
        """Wait, and give all memory back."""
