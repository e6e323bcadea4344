"""ONNX Runtime's own CPU execution provider."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seggd_engines.host import HostSession
from seggd_engines.onnxruntime.trace import trace
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import (
    Availability,
    Buffer,
    Clock,
    DeviceKind,
    EngineInfo,
    LayerProfile,
    Network,
    NetworkShape,
    Session,
    check_signature,
    failures,
    medians,
    open_session,
    ports,
    require_own_session,
    require_usable,
    session_options,
    this_cpu,
)
from seggd_rt.errors import EngineError
from seggd_rt.optional import require

_BUILDS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
"""Packages that fill the folder `onnxruntime`."""


def installed_builds() -> tuple[str, ...]:
    """Return which packages fill the folder that ONNX Runtime is imported from: of more than one, none is whole.

    Another one, in a folder that is found later, does no harm.
    """
    spec = importlib.util.find_spec("onnxruntime")
    folders = {Path(folder).resolve() for folder in (spec and spec.submodule_search_locations) or ()}
    found = []
    for name in _BUILDS:
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not folders or Path(str(package.locate_file("onnxruntime"))).resolve() in folders:
            found.append(name)
    return tuple(found)


class OnnxRuntimeEngine:
    """Opens graphs with ONNX Runtime. Its CPU kernels compute in fp32 alone: a half graph would be cast back."""

    name = "onnxruntime"
    kind = DeviceKind.CPU
    rank = 50

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
        self, graph: OnnxGraph, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> Network:
        """Open a graph: see `Engine.open`."""
        ort = require("onnxruntime", extra="cpu", feature="the onnxruntime engine")
        there = self.availability(device)
        require_usable(self.name, there, precision)
        info = EngineInfo(self.name, there.version, device, there.device_name, precision, threads)
        return OnnxRuntimeNetwork(ort, graph, shape, info)


class OnnxRuntimeNetwork:
    """A graph in an ONNX Runtime session.

    Raises
    ------
    EngineError
        The graph cannot be opened, or is not the network of this shape.
    """

    max_batch: int | None = None

    def __init__(self, ort: Any, graph: OnnxGraph, shape: NetworkShape, info: EngineInfo) -> None:
        self._ort, self._graph, self._shape, self._info = ort, graph, shape, info
        self._session = session = self._open()
        check_signature(graph.name, ports(session), shape)

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
        return self._bind(self._session, sample, timestep, out)

    def profile(self, sample: Buffer, timestep: Buffer, out: Buffer, runs: int) -> LayerProfile:
        """Time the nodes in a session of its own: see `ProfiledNetwork.profile`."""
        traced = trace(self._open, lambda session: self._bind(session, sample, timestep, out), runs)
        return medians(Clock.HOST, traced.nodes(), traced.seconds)

    def session(self, batch: int, lanes: int = 1) -> Session:
        """Return a session in host memory."""
        return HostSession(self, batch, lanes)

    def close(self) -> None:
        """Drop the session."""
        del self._session

    def _open(self, trace_prefix: str | None = None) -> Any:
        options = session_options(self._ort, self._info.threads)
        if trace_prefix is not None:
            options.enable_profiling, options.profile_file_prefix = True, trace_prefix
        return open_session(self._ort, self._graph, options, ["CPUExecutionProvider"])

    def _bind(self, session: Any, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        binding = session.io_binding()
        for name, buffer in (("sample", sample), ("timestep", timestep)):
            binding.bind_input(name, "cpu", 0, np.float32, buffer.shape, buffer.address)
        binding.bind_output("out", "cpu", 0, np.float32, out.shape, out.address)
        raised = failures(self._ort)

        def call() -> None:
            require_own_session(session)
            try:
                session.run_with_iobinding(binding)
            except raised as error:
                raise EngineError(f"ONNX Runtime failed: {error}") from error

        return call
