"""NVIDIA GPUs: the session that captures the sampling loop as one CUDA graph, and the arrays of other libraries."""

from seggd_engines.cuda.capture import ALLOCATING, nothing_collected
from seggd_engines.cuda.device import Bytes, DeviceGraph, DeviceStream, Kernel
from seggd_engines.cuda.external_arrays import is_guest, stream_handle, view
from seggd_engines.cuda.gpus import DeviceMemory, Gpu, drive, find_gpu, find_gpus, make_current, on_gpu, why_no_gpu
from seggd_engines.cuda.session import CudaSession
from seggd_engines.cuda.stream import CudaGraph, CudaStream, kernel_source

__all__ = [
    "ALLOCATING",
    "Bytes",
    "CudaGraph",
    "CudaSession",
    "CudaStream",
    "DeviceGraph",
    "DeviceMemory",
    "DeviceStream",
    "Gpu",
    "Kernel",
    "drive",
    "find_gpu",
    "find_gpus",
    "is_guest",
    "kernel_source",
    "make_current",
    "nothing_collected",
    "on_gpu",
    "stream_handle",
    "view",
    "why_no_gpu",
]
