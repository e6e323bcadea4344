"""What must not happen while work of a GPU is recorded as a graph: memory allocated or given back.

It breaks a recording of the same thread; and where the recorder took CUDA's global mode, a recording of any thread.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ALLOCATING = threading.RLock()
"""Held by what allocates or gives back, and by those who record in global mode, as ONNX Runtime does."""

_recordings = 0
_collected_before = True


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Hold Python's collector off in a block, whoever else does: it gives memory of unused objects back."""
    global _recordings, _collected_before
    # The one lock there is: a collection that begins in it, and gives memory back, waits for no other.
    with ALLOCATING:
        if _recordings == 0:
            _collected_before = gc.isenabled()
            gc.disable()
        _recordings += 1
    try:
        yield
    finally:
        with ALLOCATING:
            _recordings -= 1
            if _recordings == 0 and _collected_before:
                gc.enable()
