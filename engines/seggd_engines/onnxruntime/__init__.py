"""ONNX Runtime on the CPU and on NVIDIA GPUs."""

from seggd_engines.onnxruntime.cpu import OnnxRuntimeEngine
from seggd_engines.onnxruntime.cuda import OnnxRuntimeCudaEngine

__all__ = ["OnnxRuntimeCudaEngine", "OnnxRuntimeEngine"]
