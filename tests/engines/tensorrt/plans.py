"""What tests of plans share: the tiny bundle's graph, options, a GPU, and how to skip where TensorRT-RTX is missing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from seggd_engines.tensorrt import BuildOptions, Flavour
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import NetworkShape
from seggd_rt.gpu import Gpu
from tests.bundles import TINY

GRAPH = OnnxGraph.read(TINY / "unet.fp32.onnx")
SHAPE = NetworkShape(1, 3, 24, 32)
ADA = Gpu(0, "NVIDIA RTX 4090", (8, 9), 24 << 30)

needs_rtx = pytest.mark.skipif(
    not Flavour.TENSORRT_RTX.installed, reason="TensorRT-RTX is not installed: pip install 'seggd-rt[tensorrt-rtx]'"
)
needs_filelock = pytest.mark.skipif(
    find_spec("filelock") is None, reason="filelock is not installed: pip install 'seggd-rt[tensorrt-rtx]'"
)


def rtx(precision: Precision = Precision.FP32, **options: Any) -> BuildOptions:
    """Return options for TensorRT-RTX."""
    return BuildOptions(Flavour.TENSORRT_RTX, precision, **options)
