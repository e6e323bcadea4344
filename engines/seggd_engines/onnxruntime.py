"""ONNX Runtime's own CPU execution provider."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seggd_engines.cpu import this_cpu
from seggd_engines.host import HostSession
from seggd_engines.network import (
    Availability,
    Buffer,
    DeviceKind,
    EngineInfo,
    Network,
    NetworkShape,
    Session,
    require_usable,
)
from seggd_engines.signature import check_signature
from seggd_rt.errors import EngineError
from seggd_rt.optional import require
from seggd_rt.precision import Precision

_BUILDS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
"""Packages that fill the folder `onnxruntime`."""


def installed_builds() -> tuple[str, ...]:
    """Return which packages that hold ONNX Runtime are installed: of more than one, none is whole."""
    found = []
    for name in _BUILDS:
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(name)
    return tuple(found)


class OnnxRuntimeEngine:
    """Opens graphs with ONNX Runtime. Its CPU kernels compute in fp32 alone: a half graph would be cast back."""

    name = "onnxruntime"
    kind = DeviceKind.CPU

    def availability(self, device: str) -> Availability:
        """Say whether ONNX Runtime can run on a device."""
        if importlib.util.find_spec("onnxruntime") is None:
            return Availability(False, reason="not installed: pip install 'seggd-rt[cpu]'")
        if device != "cpu":
            return Availability(False, reason=f"this engine runs on the CPU, not on {device}")
        builds = installed_builds()
        if len(builds) > 1:
            return Availability(
                False,
                reason=f"{' and '.join(builds)} are installed together and fill one folder, so none is whole: "
                f"pip uninstall -y {' '.join(builds)}, then pip install 'seggd-rt[cpu]' or 'seggd-rt[cuda]'",
            )
        version = importlib.metadata.version(builds[0]) if builds else "of unknown version"
        return Availability(True, version, this_cpu().name, (Precision.FP32,))

    def graph_precision(self, precision: Precision) -> Precision:
        """Return the graph's precision: the one asked for."""
        return precision

    def open(
        self, graph: Path, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> Network:
        """Open a graph: see `Engine.open`."""
        ort = require("onnxruntime", extra="cpu", feature="the onnxruntime engine")
        there = self.availability(device)
        require_usable(self.name, there, precision)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except failures(ort) as error:
            raise EngineError(f"ONNX Runtime cannot open {graph.name}: {error}") from error
        check_signature(graph, {node.name: node.shape for node in session.get_inputs() + session.get_outputs()}, shape)
        info = EngineInfo(self.name, there.version, device, there.device_name, precision, threads)
        return OnnxRuntimeNetwork(session, shape, info, failures(ort))


class OnnxRuntimeNetwork:
    """A graph in an ONNX Runtime session."""

    def __init__(
        self, session: Any, shape: NetworkShape, info: EngineInfo, failures: tuple[type[Exception], ...]
    ) -> None:
        self._session, self._shape, self._info, self._failures = session, shape, info, failures

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        return self._info

    @property
    def shape(self) -> NetworkShape:
        """The sizes it is built for."""
        return self._shape

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        """Bind the buffers by address: see `Network.bind`."""
        binding = self._session.io_binding()
        for name, buffer in (("sample", sample), ("timestep", timestep)):
            binding.bind_input(name, "cpu", 0, np.float32, buffer.shape, buffer.address)
        binding.bind_output("out", "cpu", 0, np.float32, out.shape, out.address)
        session, failures = self._session, self._failures

        def call() -> None:
            try:
                session.run_with_iobinding(binding)
            except failures as error:
                raise EngineError(f"ONNX Runtime failed: {error}") from error

        return call

    def session(self, batch: int, lanes: int = 1) -> Session:
        """Return a session in host memory."""
        return HostSession(self, batch, lanes)

    def close(self) -> None:
        """Drop the session."""
        del self._session


def failures(ort: Any) -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises: exceptions of its own without a common root."""
    state = ort.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return (*(getattr(state, name) for name in names), state.RuntimeException, RuntimeError)
