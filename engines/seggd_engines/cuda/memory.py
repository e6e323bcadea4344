"""Memory of a GPU that is allocated in one piece, outside any stream's order."""

from __future__ import annotations

from typing import Any

from seggd_engines.cuda.capture import ALLOCATING
from seggd_rt.gpu import drive, driver, on_gpu


class DeviceMemory:
    """GPU memory, freed by `close` or with the object.

    Parameters
    ----------
    ordinal
        Which GPU.
    size
        Bytes.
    what
        What it is for, for the message if there is not enough.

    Raises
    ------
    EngineError
        The GPU has not enough memory left.
    """

    def __init__(self, ordinal: int, size: int, what: str) -> None:
        self._calls, self._ordinal = driver(), ordinal
        with ALLOCATING, on_gpu(ordinal):
            self._pointer: Any = drive(self._calls.cuMemAlloc(size), f"allocate {size / 2**20:.0f} MiB for {what}")

    @property
    def address(self) -> int:
        """Where it lies, at a multiple of 256."""
        return int(self._pointer)

    def close(self) -> None:
        """Free the memory, once all work that uses it is done."""
        if self._pointer is not None:
            pointer, self._pointer = self._pointer, None
            with ALLOCATING, on_gpu(self._ordinal):  # this thread may never have used it
                self._calls.cuMemFree(pointer)

    def __del__(self) -> None:
        """Free the memory if `close` was not called."""
        if getattr(self, "_pointer", None) is not None:
            self.close()
