"""NVIDIA GPUs: the session that captures the sampling loop as one CUDA graph, its stream and its memory."""

from seggd_engines.cuda.capture import ALLOCATING, nothing_collected
from seggd_engines.cuda.device import Bytes, DeviceGraph, DeviceStream, Kernel
from seggd_engines.cuda.memory import DeviceMemory
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
    "Kernel",
    "kernel_source",
    "nothing_collected",
]
