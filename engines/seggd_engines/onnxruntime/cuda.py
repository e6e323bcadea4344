"""ONNX Runtime's CUDA execution provider.

A session of ONNX Runtime has one stream, fixed when it is made, and where it records a graph of its own its runs cannot
be recorded into one of the caller's (microsoft/onnxruntime#32081). So each bound call has a session of its own on the
caller's stream, which captures its own graph, one a step; N of them hold N copies of the weights. Told to record none
(`enable_cuda_graph` "0"), it may be recorded by the caller: to be found out on a GPU.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seggd_engines.cuda import ALLOCATING, CudaSession, CudaStream, nothing_collected
from seggd_engines.onnxruntime.cpu import installed_builds
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
)
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.gpu import find_gpu
from seggd_rt.optional import require

_PROVIDER = "CUDAExecutionProvider"
_OWN_GRAPH = "enable_cuda_graph"
_WARM_UPS = 3
"""Calls after which it allocates nothing more: it plans its memory in the first and lays it out in the second."""


class OnnxRuntimeCudaEngine:
    """Opens graphs with ONNX Runtime on an NVIDIA GPU, in the graph's own precision.

    Parameters
    ----------
    provider
        Options of its CUDA provider in place of this engine's own, for those who compare them.
    """

    name = "onnxruntime-cuda"
    kind = DeviceKind.CUDA
    rank = 30

    def __init__(self, provider: Mapping[str, str] | None = None) -> None:
        self._provider = dict(provider or {})

    def availability(self, device: str) -> Availability:
        """Say whether ONNX Runtime can run on a device."""
        try:
            gpu = find_gpu(device)
        except EngineUnavailableError as error:
            return Availability(False, reason=str(error))
        wrong = [build for build in installed_builds() if build != "onnxruntime-gpu"]
        if wrong:
            return Availability(
                False,
                reason=f"{' and '.join(wrong)} fills the folder of onnxruntime-gpu: pip uninstall -y {' '.join(wrong)} "
                "onnxruntime-gpu, then pip install 'seggd-rt[cuda]'",
            )
        if importlib.util.find_spec("onnxruntime") is None:
            return Availability(False, reason="not installed: pip install 'seggd-rt[cuda]'")
        version = importlib.metadata.version("onnxruntime-gpu")
        return Availability(True, version, gpu.name, (Precision.FP16, Precision.FP32))

    def graph_precision(self, precision: Precision) -> Precision:
        """Return the graph's precision: the one asked for."""
        return precision

    def open(
        self, graph: OnnxGraph, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> OnnxRuntimeCudaNetwork:
        """Open a graph: see `Engine.open`."""
        there = self.availability(device)
        require_usable(self.name, there, precision)
        ort = require("onnxruntime", extra="cuda", feature="the onnxruntime-cuda engine")
        ort.preload_dlls()  # the CUDA libraries that pip installed, else those of the system
        if _PROVIDER not in ort.get_available_providers():
            raise EngineUnavailableError(f"this build of ONNX Runtime has no {_PROVIDER}: pip install 'seggd-rt[cuda]'")
        info = EngineInfo(self.name, there.version, device, there.device_name, precision, threads)
        return OnnxRuntimeCudaNetwork(ort, graph, shape, info, self._provider)


class OnnxRuntimeCudaNetwork:
    """A graph, opened anew by ONNX Runtime for each stream and batch that it is bound to."""

    max_batch: int | None = None

    def __init__(
        self, ort: Any, graph: OnnxGraph, shape: NetworkShape, info: EngineInfo, provider: Mapping[str, str]
    ) -> None:
        self._ort, self._graph, self._shape, self._info, self._provider = ort, graph, shape, info, provider
        self._ordinal = find_gpu(info.device).ordinal

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        return self._info

    @property
    def capturable(self) -> bool:
        """Whether a caller may record its calls: where it is told to record none, if nothing in it forbids that."""
        return self._provider.get(_OWN_GRAPH) == "0"

    @property
    def shape(self) -> NetworkShape:
        """The sizes it is built for."""
        return self._shape

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Callable[[], None]:
        """Bind the buffers by address: see `CudaNetwork.bind`."""
        options = self._ort.RunOptions()
        # The stream orders what follows; waiting for it after every step would idle the GPU.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        with ALLOCATING:
            session = self._open(batch=sample.shape[0], stream=stream)
        run = self._bind(session, options, sample, timestep, out)
        thread, times = threading.local(), _WARM_UPS if self.capturable else 1

        def call() -> None:
            if hasattr(thread, "prepared"):
                run()
                return
            # It keeps a graph for each thread, and records it at the thread's first call, in CUDA's global mode.
            with ALLOCATING, nothing_collected():
                for _ in range(times):
                    run()
            thread.prepared = True

        return call

    def profile(self, sample: Buffer, timestep: Buffer, out: Buffer, runs: int, stream: int) -> LayerProfile:
        """Time the nodes' kernels in a session of its own: see `CudaProfiledNetwork.profile`.

        Raises
        ------
        EngineUnavailableError
            ONNX Runtime was built without its profiler of kernels. Nodes alone say how long the host enqueues.
        """
        traced = trace(
            lambda prefix: self._open(batch=sample.shape[0], stream=stream, trace_prefix=prefix),
            lambda session: self._bind(session, self._ort.RunOptions(), sample, timestep, out),
            runs,
        )
        kernels = traced.kernels()
        if not any(kernels):
            raise EngineUnavailableError(
                f"this build of ONNX Runtime ({self._info.version}) times no kernels: build it with "
                "--enable_cuda_profiling, or see python -m benchmarks.gpu OUT.json --part profile --profile"
            )
        return medians(Clock.DEVICE, kernels, traced.seconds)

    def session(self, batch: int, lanes: int = 1) -> Session:
        """Return a session on the GPU."""
        return CudaSession(self, CudaStream(self._ordinal), batch, lanes)

    def close(self) -> None:
        """Nothing is held but by bound calls."""

    def _bind(self, session: Any, options: Any, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        binding = session.io_binding()
        for name, buffer in (("sample", sample), ("timestep", timestep)):
            binding.bind_input(name, "cuda", self._ordinal, np.float32, buffer.shape, buffer.address)
        binding.bind_output("out", "cuda", self._ordinal, np.float32, out.shape, out.address)
        raised = failures(self._ort)

        def call() -> None:
            require_own_session(session)
            try:
                session.run_with_iobinding(binding, options)
            except raised as error:
                raise EngineError(f"ONNX Runtime failed: {error}") from error

        return call

    def _open(self, *, batch: int, stream: int, trace_prefix: str | None = None) -> Any:
        """Make a session of fixed batch on a stream, and see that the GPU runs all of it."""
        options = session_options(self._ort)
        options.add_free_dimension_override_by_name("batch", batch)
        # What the GPU cannot run is an error, not a silent detour over the CPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if trace_prefix is not None:
            options.enable_profiling, options.profile_file_prefix = True, trace_prefix
        provider = {
            "device_id": str(self._ordinal),
            "user_compute_stream": str(stream),
            "use_tf32": "0",
            _OWN_GRAPH: "1",
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "cudnn_conv_use_max_workspace": "1",
            "prefer_nhwc": "1",
            "arena_extend_strategy": "kSameAsRequested",
            **self._provider,
        }
        if trace_prefix is not None:
            provider[_OWN_GRAPH] = "0"  # a graph's nodes cannot be told apart
        session = open_session(self._ort, self._graph, options, [(_PROVIDER, provider)])
        if session.get_providers()[0] != _PROVIDER:
            raise EngineUnavailableError("ONNX Runtime could not load its CUDA provider and would run on the CPU")
        # The first axis is this batch by now.
        free = {name: port._replace(axes=["batch", *port.axes[1:]]) for name, port in ports(session).items()}
        check_signature(self._graph.name, free, self._shape)
        return session
