"""NVIDIA GPUs of this machine, and arrays of other libraries in their memory."""

from seggd_rt.gpu.devices import (
    Gpu,
    drive,
    driver,
    find_gpu,
    find_gpus,
    make_current,
    on_gpu,
    refuse_foreign_context,
    why_no_gpu,
)
from seggd_rt.gpu.external_arrays import is_guest, stream_handle, view

__all__ = [
    "Gpu",
    "drive",
    "driver",
    "find_gpu",
    "find_gpus",
    "is_guest",
    "make_current",
    "on_gpu",
    "refuse_foreign_context",
    "stream_handle",
    "view",
    "why_no_gpu",
]
