"""OpenVINO's CPU plugin: on most CPUs the fastest way, and in bfloat16 where the CPU multiplies in it.

OpenVINO is driven directly, not as an execution provider of ONNX Runtime: that plugin offers itself on Intel CPUs
alone (microsoft/onnxruntime#31981), and takes a little longer a step.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seggd_engines.network import Availability, Buffer, EngineInfo, Network, NetworkShape
from seggd_engines.signature import check_signature
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.optional import require
from seggd_rt.precision import Precision

_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16"}


class OpenVinoEngine:
    """Opens graphs with OpenVINO. It takes the fp32 graph and lowers the arithmetic itself."""

    name = "openvino"

    def availability(self, device: str) -> Availability:
        """Say whether OpenVINO can run on a device, and in what precisions."""
        if importlib.util.find_spec("openvino") is None:
            return Availability(False, reason="not installed: pip install 'seggd-rt[cpu]'")
        if device != "cpu":
            return Availability(False, reason=f"this engine runs on the CPU, not on {device}")
        core = _core()
        if "CPU" not in core.available_devices:
            return Availability(False, reason="OpenVINO finds no CPU plugin: install the openvino package again")
        fast_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precisions = (Precision.BF16, Precision.FP32) if fast_bf16 else (Precision.FP32,)
        version = importlib.metadata.version("openvino")
        return Availability(True, version, str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip(), precisions)

    def graph_precision(self, precision: Precision) -> Precision:
        """Return the graph's precision: fp32, whatever is computed in."""
        return Precision.FP32

    def open(
        self, graph: Path, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> Network:
        """Open a graph: see `Engine.open`."""
        there = self.availability(device)
        if not there.usable:
            raise EngineUnavailableError(f"engine {self.name}: {there.reason}")
        if precision not in there.precisions:
            raise EngineUnavailableError(
                f"engine {self.name} on this CPU computes in {', '.join(there.precisions)}, not in {precision}"
            )
        options = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            compiled = _core().compile_model(graph, "CPU", options)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot open {graph.name}: {error}") from error
        check_signature(graph, {port.any_name: _axes(port) for port in compiled.inputs + compiled.outputs}, shape)
        computed = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if computed != {"f32": "f32", "bf16": "bf16"}[_HINTS[precision]]:
            raise EngineUnavailableError(f"OpenVINO was asked for {precision} and computes in {computed}")
        info = EngineInfo(self.name, there.version, device, there.device_name, precision, threads)
        return OpenVinoNetwork(compiled, shape, info)


class OpenVinoNetwork:
    """A graph compiled by OpenVINO."""

    def __init__(self, compiled: Any, shape: NetworkShape, info: EngineInfo) -> None:
        self._compiled, self._shape, self._info = compiled, shape, info

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        return self._info

    @property
    def shape(self) -> NetworkShape:
        """The sizes it is built for."""
        return self._shape

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        """Share the buffers with an inference request: see `Network.bind`."""
        ov = require("openvino", extra="cpu", feature="the openvino engine")
        request = self._compiled.create_infer_request()
        for name, buffer in (("sample", sample), ("timestep", timestep), ("out", out)):
            request.set_tensor(name, ov.Tensor(_host_array(buffer), shared_memory=True))

        def call() -> None:
            try:
                request.infer()
            except RuntimeError as error:
                raise EngineError(f"OpenVINO failed: {error}") from error

        return call

    def close(self) -> None:
        """Drop the compiled graph."""
        del self._compiled


@cache
def _core() -> Any:
    return require("openvino", extra="cpu", feature="the openvino engine").Core()


def _axes(port: Any) -> list[int | None]:
    """Return the sizes of a port's axes, None for one that is free."""
    return [axis.get_length() if axis.is_static else None for axis in port.partial_shape]


def _host_array(buffer: Buffer) -> NDArray[np.float32]:
    """Return an array over a buffer's memory."""
    pointer = ctypes.cast(buffer.address, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(pointer, shape=buffer.shape)
