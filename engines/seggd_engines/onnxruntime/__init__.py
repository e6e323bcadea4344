"""ONNX Runtime on the CPU and on NVIDIA GPUs."""

from seggd_engines.onnxruntime.cpu import OnnxRuntimeEngine, failures, open_session, ports, require_own_session
from seggd_engines.onnxruntime.cuda import OnnxRuntimeCudaEngine

__all__ = ["OnnxRuntimeCudaEngine", "OnnxRuntimeEngine", "failures", "open_session", "ports", "require_own_session"]
