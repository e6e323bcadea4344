"""OpenVINO on the CPU."""

from seggd_engines.openvino.engine import OpenVinoEngine

__all__ = ["OpenVinoEngine"]
