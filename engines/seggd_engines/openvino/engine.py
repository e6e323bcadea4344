"""OpenVINO's CPU plugin: on most CPUs the fastest way, and in bfloat16 where the CPU multiplies in it.

OpenVINO is driven directly, not as an execution provider of ONNX Runtime: that plugin offers itself on Intel CPUs
alone (microsoft/onnxruntime#31981), and takes a little longer a step.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seggd_engines.host import HostSession
from seggd_engines.openvino.counters import COUNTING, profile_request
from seggd_engines.openvino.rewrite import rewrite
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import (
    FLOAT32,
    Availability,
    Buffer,
    DeviceKind,
    EngineInfo,
    LayerProfile,
    Network,
    NetworkShape,
    Port,
    Session,
    bind_to_process,
    check_signature,
    require_own,
    require_usable,
)
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.optional import require

_MAX_COMPILED = 4
"""How many compiled graphs to keep, one for each batch size: the most recently used stay."""
_FAILURES = (RuntimeError, UnicodeDecodeError)
"""What OpenVINO raises; the latter where its message quotes bytes of a graph that are no UTF-8."""
_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16"}


class OpenVinoEngine:
    """Opens graphs with OpenVINO. It takes the fp32 graph and lowers the arithmetic itself."""

    name = "openvino"
    kind = DeviceKind.CPU
    rank = 40

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
        self, graph: OnnxGraph, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> Network:
        """Open a graph: see `Engine.open`."""
        there = self.availability(device)
        require_usable(self.name, there, precision)
        options = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = str(threads)
            # Threads are pinned to the first cores, and so would be those of every other process that has as few.
            options["ENABLE_CPU_PINNING"] = "NO"
        model = _read(graph)
        check_signature(graph.name, {port.any_name: _port(port) for port in model.inputs + model.outputs}, shape)
        try:
            rewrite(model)
        except _FAILURES as error:
            raise EngineError(f"OpenVINO cannot rewrite {graph.name}: {error}") from error
        info = EngineInfo(self.name, there.version, device, there.device_name, precision, threads)
        network = OpenVinoNetwork(model, options, shape, info)
        computed = network.compiled(1).get_property("INFERENCE_PRECISION_HINT").to_string()
        if computed != _HINTS[precision]:
            raise EngineUnavailableError(f"OpenVINO was asked for {precision} and computes in {computed}")
        return network


class OpenVinoNetwork:
    """A graph compiled by OpenVINO, once for each batch size.

    A graph of fixed shape is up to 15 % faster a step than one of free batch, and its first call compiles nothing. Each
    batch size has its own copy of the weights, so only the latest few are kept.
    """

    max_batch: int | None = None

    def __init__(self, model: Any, options: dict[str, str], shape: NetworkShape, info: EngineInfo) -> None:
        self._model, self._options, self._shape, self._info = model, options, shape, info
        self._by_batch: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

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
        return _call(_request(self.compiled(sample.shape[0]), sample, timestep, out))

    def profile(self, sample: Buffer, timestep: Buffer, out: Buffer, runs: int) -> LayerProfile:
        """Time the layers of a graph compiled to count: see `ProfiledNetwork.profile`."""
        _core()  # refuses before the lock, which another thread may have held while this process was forked
        with self._lock:
            compiled = self._compile(sample.shape[0], COUNTING)
        request = _request(compiled, sample, timestep, out)
        return profile_request(request, _call(request), runs)

    def compiled(self, batch: int) -> Any:
        """Return the graph compiled for a batch size.

        Raises
        ------
        EngineError
            It cannot be compiled, or this process was forked after OpenVINO was used.
        """
        _core()  # refuses before the lock, which another thread may have held while this process was forked
        with self._lock:
            if batch not in self._by_batch:
                self._by_batch[batch] = self._compile(batch, {})
            self._by_batch.move_to_end(batch)
            if len(self._by_batch) > _MAX_COMPILED:
                self._by_batch.popitem(last=False)  # requests of sessions in use keep theirs
            return self._by_batch[batch]

    def session(self, batch: int, lanes: int = 1) -> Session:
        """Return a session in host memory."""
        return HostSession(self, batch, lanes)

    def close(self) -> None:
        """Drop the compiled graphs."""
        del self._by_batch, self._model

    def _compile(self, batch: int, more: dict[str, str]) -> Any:
        """Compile for a batch size, with more options. The caller holds the lock: the model is reshaped."""
        shape = self._shape
        sizes = {"sample": [batch, shape.channels, shape.height, shape.width], "timestep": [batch]}
        core = _core()
        bind_to_process(core)  # the first graph starts the plugin's threads, which all graphs share
        try:
            self._model.reshape(sizes)
            compiled = core.compile_model(self._model, "CPU", self._options | more)
        except _FAILURES as error:
            raise EngineError(f"OpenVINO cannot compile the network for a batch of {batch}: {error}") from error
        bind_to_process(compiled)
        return compiled


def _core() -> Any:
    """Return OpenVINO's core.

    Raises
    ------
    EngineError
        This process was forked after OpenVINO was used.
    """
    core = _make_core()
    require_own(core, "OpenVINO was used", "open no engine before the processes start")
    return core


@cache
def _make_core() -> Any:
    return require("openvino", extra="cpu", feature="the openvino engine").Core()


def _read(graph: OnnxGraph) -> Any:
    """Read a graph as ONNX and nothing else: `Core.read_model` tries other formats, which name files of their own.

    Raises
    ------
    EngineError
        It cannot be read.
    """
    frontends = require("openvino.frontend", extra="cpu", feature="the openvino engine")
    failures = (
        *(frontends.GeneralFailure, frontends.InitializationFailure, frontends.NotImplementedFailure),
        *(frontends.OpConversionFailure, frontends.OpValidationFailure, *_FAILURES),
    )
    try:
        onnx = frontends.FrontEndManager().load_by_framework("onnx")
        if not graph.external:
            return onnx.convert(onnx.load(io.BytesIO(graph.model)))
        # Of a graph without a place it would look for the data in the working folder.
        with graph.on_disk() as path:
            return onnx.convert(onnx.load(path, enable_mmap=False))
    except failures as error:
        raise EngineError(f"OpenVINO cannot open {graph.name}: {error}") from error


def _request(compiled: Any, sample: Buffer, timestep: Buffer, out: Buffer) -> Any:
    """Return an inference request on these buffers."""
    ov = require("openvino", extra="cpu", feature="the openvino engine")
    request = compiled.create_infer_request()
    bind_to_process(request)
    for name, buffer in (("sample", sample), ("timestep", timestep), ("out", out)):
        request.set_tensor(name, ov.Tensor(_host_array(buffer), shared_memory=True))
    return request


def _call(request: Any) -> Callable[[], None]:
    def call() -> None:
        _core()  # refuses a request of the process that this one was forked from
        try:
            request.infer(share_outputs=True)  # else the output is copied once more
        except _FAILURES as error:
            raise EngineError(f"OpenVINO failed: {error}") from error

    return call


def _port(port: Any) -> Port:
    """Describe an input or output; None is the size of an axis that is free."""
    element, shape = port.get_element_type().get_type_name(), port.partial_shape
    axes = [axis.get_length() if axis.is_static else None for axis in shape] if shape.rank.is_static else ["any rank"]
    return Port(FLOAT32 if element == "f32" else element, axes)


def _host_array(buffer: Buffer) -> NDArray[np.float32]:
    """Return an array over a buffer's memory."""
    pointer = ctypes.cast(buffer.address, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(pointer, shape=buffer.shape)
