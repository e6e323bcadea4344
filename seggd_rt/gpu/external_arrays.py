"""Arrays and streams of other libraries: what DLPack and `__cuda_array_interface__` describe, taken without a copy.

PyTorch, CuPy, Numba and PyCUDA give either or both. A guest stays its owner's: it is read or written in the order of
the caller's stream and may be freed, in that order, as soon as the call has returned.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from seggd_rt.engine import DeviceArray
from seggd_rt.errors import DataError, OptionError
from seggd_rt.gpu.devices import find_gpu, on_gpu, refuse_foreign_context
from seggd_rt.optional import require

_ON_CUDA = (2, 13)
"""DLPack's device types kDLCUDA and kDLCUDAManaged."""
_LEGACY_STREAM = 1
"""CUDA's default stream, as every interface calls it; 0 is ambiguous between libraries."""


def is_guest(array: object) -> bool:
    """Say whether an object is an array in a GPU's memory."""
    if hasattr(array, "__cuda_array_interface__"):
        return True
    device = getattr(array, "__dlpack_device__", None)
    return device is not None and device()[0] in _ON_CUDA


def view(array: object, name: str, stream: int, *, writable: bool = False, device: str | None = None) -> DeviceArray:
    """Describe a guest.

    Parameters
    ----------
    array
        With `__dlpack__` or `__cuda_array_interface__`; contiguous.
    name
        What the caller knows it as, for errors.
    stream
        The stream it will be used on: its producer orders its own work before it.
    writable
        Whether it is to be written.
    device
        The GPU of that stream, the calling thread's own meanwhile: a thread without one cannot order streams.

    Raises
    ------
    DataError
        It is not contiguous, not in a GPU's memory, or read only where it is to be written.
    EngineError
        The calling thread is in a CUDA context of its own: see `gpus.refuse_foreign_context`.
    MissingExtraError
        cuda-core is not installed.
    """
    utils = require("cuda.core.utils", extra="cuda", feature="taking arrays in a GPU's memory")
    if device is not None:
        refuse_foreign_context()
    with nullcontext() if device is None else on_gpu(find_gpu(device).ordinal):
        found: Any = utils.StridedMemoryView.from_any_interface(array, stream_ptr=stream)
    shape = tuple(found.shape)
    if not _is_contiguous(shape, found.strides):
        raise DataError(f"{name} must be contiguous: it has shape {shape} and strides {found.strides}, in elements")
    if not found.is_device_accessible:
        raise DataError(f"{name} is not in a GPU's memory")
    if writable and found.readonly:
        raise DataError(f"{name} is read only")
    return DeviceArray(int(found.ptr), shape, np.dtype(found.dtype), f"cuda:{found.device_id}", owner=found)


def stream_handle(stream: object) -> int:
    """Return the handle of a caller's stream.

    Parameters
    ----------
    stream
        None for CUDA's default stream; a handle; or an object of cuda.core (`__cuda_stream__`), PyTorch
        (`cuda_stream`), CuPy (`ptr`), or Numba and PyCUDA (`handle`).

    Raises
    ------
    OptionError
        It is none of these.
    """
    if stream is None:
        return _LEGACY_STREAM
    handle: Any = stream
    if hasattr(stream, "__cuda_stream__"):
        handle = stream.__cuda_stream__()[1]
    else:
        for attribute in ("cuda_stream", "ptr", "handle"):
            if hasattr(stream, attribute):
                handle = getattr(stream, attribute)
                break
    handle = getattr(handle, "value", handle)  # Numba's are ctypes
    if isinstance(handle, bool) or not isinstance(handle, int) or handle < 0:
        raise OptionError(f"stream is {stream!r}; it must be a CUDA stream, its handle, or None for the default stream")
    return handle or _LEGACY_STREAM


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
    if strides is None:
        return True
    expected = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True
