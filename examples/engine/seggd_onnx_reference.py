"""An engine of another package: ONNX's reference evaluator, which computes in NumPy.

It is slow. It shows the two classes that an engine needs, a Network and an Engine, and the entry point in
`pyproject.toml` by which seggd-rt finds them:

    pip install ./examples/engine
    seggd-rt doctor                                                  # lists onnx-reference
    seggd-rt generate BUNDLE --mask mask.png --engine onnx-reference
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from seggd_engines.host import HostSession
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import (
    FLOAT32,
    Availability,
    Buffer,
    DeviceKind,
    EngineInfo,
    Network,
    NetworkShape,
    Port,
    Session,
    check_signature,
    require_usable,
)
from seggd_rt.errors import EngineError


class ReferenceEngine:
    """Opens graphs with ONNX's reference evaluator: see `seggd_rt.engine.Engine`."""

    name = "onnx-reference"
    kind = DeviceKind.CPU
    rank = 200

    def availability(self, device: str) -> Availability:
        """Say whether the engine can run on a device: on the CPU, in fp32."""
        if device != "cpu":
            return Availability(False, reason=f"this engine runs on the CPU, not on {device}")
        return Availability(True, importlib.metadata.version("onnx"), "NumPy", (Precision.FP32,))

    def graph_precision(self, precision: Precision) -> Precision:
        """Return the precision of the graph to open."""
        return precision

    def open(
        self, graph: OnnxGraph, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> Network:
        """Open a graph from memory: no engine may open a file."""
        there = self.availability(device)
        require_usable(self.name, there, precision)
        if graph.external:
            raise EngineError(f"{graph.name} has external data: this engine takes graphs in one piece")
        info = EngineInfo(self.name, there.version, device, there.device_name, precision, threads)
        return ReferenceNetwork(graph, shape, info)


class ReferenceNetwork:
    """A graph in the evaluator: see `seggd_rt.engine.Network`."""

    max_batch: int | None = None

    def __init__(self, graph: OnnxGraph, shape: NetworkShape, info: EngineInfo) -> None:
        self.shape, self.info = shape, info
        try:
            model = onnx.load_from_string(graph.model)
            self._evaluator = ReferenceEvaluator(model)
        except Exception as error:  # the evaluator has no errors of its own
            raise EngineError(f"{info.engine} cannot open {graph.name}: {error}") from error
        check_signature(graph.name, _ports(model), shape)

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        """Return a call that evaluates the graph on these buffers."""
        inputs = {"sample": _array(sample), "timestep": _array(timestep)}
        output, evaluator = _array(out), self._evaluator

        def call() -> None:
            try:
                output[...] = evaluator.run(["out"], inputs)[0]
            except Exception as error:  # the evaluator has no errors of its own
                raise EngineError(f"the evaluator failed: {error}") from error

        return call

    def session(self, batch: int, lanes: int = 1) -> Session:
        """Return a session in host memory."""
        return HostSession(self, batch, lanes)

    def close(self) -> None:
        """Drop the evaluator."""
        del self._evaluator


def _array(buffer: Buffer) -> NDArray[np.float32]:
    """Return an array over a buffer's memory."""
    return np.ctypeslib.as_array(ctypes.cast(buffer.address, ctypes.POINTER(ctypes.c_float)), shape=buffer.shape)


def _ports(model: onnx.ModelProto) -> dict[str, Port]:
    """Return the graph's inputs and outputs: element type and axes, a name for an axis of any length."""
    found = {}
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        kind = FLOAT32 if tensor.elem_type == onnx.TensorProto.FLOAT else str(tensor.elem_type)
        axes = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        found[value.name] = Port(kind, axes)
    return found
