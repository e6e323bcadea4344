"""TensorRT and TensorRT-RTX: engine plans built from graphs, kept in a cache, and run."""

from seggd_engines.tensorrt.engine import TensorRTEngine, TensorRTNetwork, tensorrt_engine, tensorrt_rtx_engine
from seggd_engines.tensorrt.flavor import Flavour
from seggd_engines.tensorrt.options import BatchProfile, BuildOptions
from seggd_engines.tensorrt.plan_cache import PlanCache
from seggd_engines.tensorrt.plans import find_or_build
from seggd_engines.tensorrt.progress import BuildProgress

__all__ = [
    "BatchProfile",
    "BuildOptions",
    "BuildProgress",
    "Flavour",
    "PlanCache",
    "TensorRTEngine",
    "TensorRTNetwork",
    "find_or_build",
    "tensorrt_engine",
    "tensorrt_rtx_engine",
]
