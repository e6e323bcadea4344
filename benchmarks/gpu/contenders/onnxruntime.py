"""Other ways to run a bundle's graph in ONNX Runtime on a GPU than its engine takes, to be measured beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.gpu.contenders.networks import Contender, Drawn, SessionContender, Task, network_session
from benchmarks.gpu.contenders.onnxruntime_graphs import unrolled, with_group_norms
from benchmarks.gpu.contenders.subjects import bundle_of
from benchmarks.gpu.machine.device import Duration
from benchmarks.gpu.run import Context
from seggd_engines.onnxruntime import OnnxRuntimeCudaEngine
from seggd_rt.bundle import Bundle, OnnxGraph
from seggd_rt.engine import Buffer, CudaNetwork, EngineInfo, NetworkShape
from seggd_rt.errors import EngineError
from seggd_rt.inference import network_shape

_RECORDED = {"enable_cuda_graph": "0"}
"""It records no graph of its own, so that the session may record the whole loop; where something in it forbids that, it
says so, or takes the process with it."""


def onnxruntime_variants(task: Task, context: Context) -> dict[str, Callable[[], Contender]]:
    """Return other ways to run a graph in ONNX Runtime; what takes minutes or may crash, only where asked for."""
    name = OnnxRuntimeCudaEngine.name
    made: dict[str, Callable[[], Contender]] = {
        f"{name} NCHW": lambda: onnxruntime_session(task, context, provider={"prefer_nhwc": "0"}),
        f"{name} fused": lambda: onnxruntime_session(task, context, fused=True),
    }
    asked: dict[str, Callable[[], Contender]] = {
        f"{name} recorded": lambda: onnxruntime_session(task, context, provider=_RECORDED),
        f"{name} fused, recorded": lambda: onnxruntime_session(task, context, fused=True, provider=_RECORDED),
        f"{name} unrolled": lambda: UnrolledContender(task, context),
    }
    ways = ("recorded", "unrolled")
    named = {way for way in ways if any(way in pattern for pattern in context.contenders)}
    return made | {each: make for each, make in asked.items() if named & set(each.split())}


def onnxruntime_session(
    task: Task, context: Context, *, fused: bool = False, provider: Mapping[str, str] | None = None
) -> SessionContender:
    """Return a session around ONNX Runtime's network by other options, or of a graph with fused normalisations."""
    graph, shape = graph_of(task, context)
    if fused:
        graph = derived(graph, context, "norms", with_group_norms)
    engine = OnnxRuntimeCudaEngine(provider)
    opened = in_memory(graph)
    network = engine.open(opened, shape, device=context.device.name, precision=task.precision, threads=None)
    return network_session(task, context.device, network)


class UnrolledContender:
    """ONNX Runtime with all steps of a run in one graph, which it records by itself: no session of ours."""

    def __init__(self, task: Task, context: Context) -> None:
        self._task, self._context, self._device = task, context, context.device
        self._stream = context.device.new_stream()
        # Searched for every convolution of every step, the fastest algorithm would take minutes.
        self._engine = OnnxRuntimeCudaEngine({"cudnn_conv_algo_search": "HEURISTIC"})
        self._calls: dict[int, Callable[[], None]] = {}
        self._network: CudaNetwork | None = None
        batch = task.batch
        self._given = np.concatenate([task.torch.noise(batch), task.torch.masks(batch)], axis=1)
        shape = (batch, graph_of(task, context)[1].image_channels, *self._given.shape[2:])
        with self._stream.active():
            shapes = (self._given.shape, (batch,), shape)
            self._sample, self._timestep, self._out = (
                Buffer(self._stream.allocate(4 * int(np.prod(each))), each) for each in shapes
            )
            self._stream.clear(self._timestep.address, 4 * batch)
            self._up = self._stream.pinned(self._given.nbytes)
            self._down = self._stream.pinned(4 * int(np.prod(shape)))
        self._up[:] = self._given.reshape(-1).view(np.uint8)

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        if self._network is None:
            raise EngineError("nothing was drawn yet")
        return self._network.info

    def step_s(self) -> float:
        """Tell a step's part of the shortest run."""
        steps = min(self._calls)
        return self.on_device(steps).device_s / steps

    def on_device(self, steps: int) -> Duration:
        """Run the graph."""
        call = self._call_of(steps)
        return self._device.timed(call, self._stream.handle)

    def draw(self, steps: int) -> Drawn:
        """Upload, run the graph, and fetch."""
        call = self._call_of(steps)
        self._device.synchronize()
        with self._stream.active():
            started = time.perf_counter()
            self._stream.upload(self._sample.address, self._up)
            call()
            self._stream.download(self._down, self._out.address)
            enqueued = time.perf_counter()
            self._stream.synchronize()
            x = self._down.view(np.float32).reshape(self._out.shape)
            pixels = np.moveaxis(np.clip(x / 2 + np.float32(0.5), 0, 1), 1, -1)
            return Drawn(np.ascontiguousarray(pixels), time.perf_counter() - started, enqueued - started)

    def close(self) -> None:
        """Drop the graphs and the buffers."""
        with self._stream.active():
            self._stream.synchronize()
            self._calls.clear()
            self._stream.close()

    def _call_of(self, steps: int) -> Callable[[], None]:
        if steps not in self._calls:
            graph, shape = graph_of(self._task, self._context)
            table = self._task.table(steps)
            graph = derived(graph, self._context, f"unrolled{steps}", lambda path, to: unrolled(path, to, table))
            self._network = self._engine.open(
                in_memory(graph), shape, device=self._device.name, precision=self._task.precision, threads=None
            )
            with self._stream.active():
                call = self._network.bind(self._sample, self._timestep, self._out, self._stream.handle)
                self._stream.upload(self._sample.address, self._up)
                call()
                self._stream.synchronize()
            self._calls[steps] = call
        return self._calls[steps]


def graph_of(task: Task, context: Context) -> tuple[Path, NetworkShape]:
    """Return a subject's graph in a task's precision, and its network's sizes."""
    bundle = Bundle.open(bundle_of(task.subject, context))
    return bundle.graph_file(bundle.graph(task.precision)), network_shape(bundle.manifest)


def in_memory(graph: Path) -> OnnxGraph:
    """Return an unchecked graph for an engine: derived graphs contain operators of ONNX Runtime's own."""
    return OnnxGraph(graph.name, graph.parent.name, graph.read_bytes())


def derived(graph: Path, context: Context, name: str, derive: Callable[[Path, Path], object]) -> Path:
    """Return a graph that is derived from another, made at the first call and kept in the cache."""
    path = context.cache / f"{graph.parent.stem}-{graph.stem}-{name}.onnx"
    if not path.exists():
        context.say(f"deriving {path.name}")
        derive(graph, unfinished := path.with_suffix(".part"))
        unfinished.replace(path)
    return path
