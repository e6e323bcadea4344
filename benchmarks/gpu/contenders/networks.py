"""What is compared: PyTorch as it is and compiled, and sessions, of PyTorch's network and of every engine there is."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch._dynamo.utils import counters

import seggd_rt
from benchmarks.gpu.contenders.subjects import Subject, TorchSubject, bundle_of, read_network
from benchmarks.gpu.machine.device import DeviceUnderTest, Duration
from benchmarks.gpu.run import Context
from benchmarks.torch_loop import TorchLoop
from benchmarks.torch_network import DTYPES, TorchNetwork
from seggd_engines.cuda import CudaSession, DeviceGraph
from seggd_rt.diffusion import Precision, RowTable, Sampler, sampler_rows
from seggd_rt.engine import CudaNetwork, DeviceArray, EngineInfo, Run
from seggd_rt.errors import EngineError

Pixels = NDArray[np.float32]
CALLS = 10
"""Network calls that are timed as one: events are exact to half a microsecond."""


@dataclass(frozen=True)
class Drawn:
    """A batch of images in host memory: (N, H, W, C) float32; how long it took, and what the host did meanwhile."""

    pixels: Pixels
    seconds: float
    host_s: float | None


class Contender(Protocol):
    """What draws a subject's images, and can be asked for its parts."""

    @property
    def info(self) -> EngineInfo:
        """What really runs."""

    def step_s(self) -> float:
        """Call the network, bare; return seconds of the device."""

    def on_device(self, steps: int) -> Duration:
        """Enqueue a batch of images and wait."""

    def draw(self, steps: int) -> Drawn:
        """Draw a batch of images, from label maps on the host to pixels on the host."""

    def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True)
class Task:
    """What a contender draws."""

    subject: Subject
    precision: Precision
    batch: int

    @property
    def torch(self) -> TorchSubject:
        """The subject as PyTorch has it."""
        return read_network(self.subject)

    def table(self, steps: int) -> RowTable:
        """Return the sampler's rows."""
        return sampler_rows(Sampler.DDIM, self.torch.schedule, steps)

    def run(self, steps: int) -> Run:
        """Return a whole run, from noise that every contender is given; made once, as it is not what is measured."""
        return _run_of(self, steps)


@lru_cache(maxsize=8)
def _run_of(task: Task, steps: int) -> Run:
    torch_subject, batch = task.torch, task.batch
    return Run(
        table=task.table(steps),
        label_maps=torch_subject.label_maps(batch),
        encode_tables=np.broadcast_to(torch_subject.encode_table, (1, batch, *torch_subject.encode_table.shape)),
        seeds=tuple(range(batch)),
        noise=torch_subject.noise(batch),
    )


class LoopContender:
    """PyTorch's own loop."""

    def __init__(self, task: Task, device: DeviceUnderTest, compile_mode: str | None = None) -> None:
        self._task, self._device = task, device
        dtype = DTYPES[task.precision]
        self._loop = TorchLoop(
            task.torch.build(),
            task.torch.masks(task.batch),
            device=device.name,
            dtype=dtype,
            compile_mode=compile_mode,
            channels_last=task.precision is not Precision.FP32,
        )
        self._x = self._loop.place(task.torch.noise(task.batch))
        self._sample = self._loop.prepare(self._x)
        with torch.inference_mode():  # as the loop makes them: others would be compiled for anew
            self._t = torch.full((task.batch,), 500.0, device=device.name)
        self._name = "pytorch" if compile_mode is None else f"pytorch {compile_mode}"

    @property
    def info(self) -> EngineInfo:
        """What really runs; also whether what was compiled could not be recorded as graphs."""
        skips = counters["inductor"]["cudagraph_skips"]
        notes = (f"{skips} parts run without a CUDA graph",) if skips else ()
        return EngineInfo(
            self._name, str(torch.__version__), self._device.name, self._device.name, self._task.precision, notes=notes
        )

    @property
    def network(self) -> nn.Module:
        """What it calls."""
        network: nn.Module = self._loop.network
        return network

    def step_s(self) -> float:
        """Call the network on a prepared input."""
        return (
            self._device.timed(lambda: [self._loop.step(self._sample, self._t) for _ in range(CALLS)]).device_s / CALLS
        )

    def on_device(self, steps: int) -> Duration:
        """Enqueue the loop."""
        table = self._task.table(steps)
        return self._device.timed(lambda: self._loop.draw(self._x, table))

    def draw(self, steps: int) -> Drawn:
        """Draw, and fetch the images."""
        noise = self._task.torch.noise(self._task.batch)
        self._device.synchronize()
        started = time.perf_counter()
        pixels = self._loop.draw(self._loop.place(noise), self._task.table(steps)).cpu().numpy()
        return Drawn(pixels, time.perf_counter() - started, None)

    def close(self) -> None:
        """Drop what was compiled."""
        del self._loop, self._x, self._sample, self._t
        torch.compiler.reset()
        counters.clear()


class SessionContender:
    """A session around a network.

    Parameters
    ----------
    session
        What draws, and whose network is called alone.
    draw
        Draws a batch of a number of steps with it: (N, H, W, C).
    close
        Gives network and session back.
    """

    def __init__(
        self,
        task: Task,
        device: DeviceUnderTest,
        session: CudaSession,
        draw: Callable[[int], Pixels],
        close: Callable[[], None],
    ) -> None:
        self._task, self._device, self._session, self._draw, self._close = task, device, session, draw, close
        self._bare: BareCalls | None = None
        self._network = session._network
        shape = self._network.shape
        size = (task.batch, shape.height, shape.width, shape.image_channels)
        self._out = torch.zeros(size, device=device.name)

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        return self._network.info

    def step_s(self) -> float:
        """Call the network on the session's buffers, in the state that the last image left."""
        if self._bare is None:
            self._bare = BareCalls(self._session)
        return self._device.timed(self._bare.launch, self._bare.stream.handle).device_s / CALLS

    def on_device(self, steps: int) -> Duration:
        """Enqueue the session's loop behind the caller's stream."""
        session, run = self._session, self._task.run(steps)
        out = DeviceArray(
            self._out.data_ptr(), tuple(self._out.shape), np.dtype(np.float32), self._device.name, self._out
        )
        taken = self._device.timed(lambda: session.enqueue(run, out, self._device.stream))
        session.synchronize()
        return taken

    def draw(self, steps: int) -> Drawn:
        """Draw by the public way."""
        self._device.synchronize()
        waited, started = self._session.waited_s, time.perf_counter()
        pixels = self._draw(steps)
        seconds = time.perf_counter() - started
        return Drawn(pixels, seconds, seconds - (self._session.waited_s - waited))

    def close(self) -> None:
        """Give everything back, the bare calls first."""
        if self._bare is not None:
            self._bare.close()
        del self._out
        self._close()


class BareCalls:
    """A session's network alone, called on its buffers once something was drawn; as a graph where that may be."""

    def __init__(self, session: CudaSession) -> None:
        self._session, self.stream = session, session.stream
        with self.stream.active():
            self._graph: DeviceGraph | None = self.stream.capture(self._repeat) if session.capturable else None

    def launch(self) -> None:
        """Enqueue `CALLS` of them."""
        with self.stream.active():
            if self._graph is None:
                self._repeat()
            else:
                self._graph.launch()

    def close(self) -> None:
        """Give the graph back."""
        with self.stream.active():
            self.stream.synchronize()
            if self._graph is not None:
                self._graph.close()

    def _repeat(self) -> None:
        for _ in range(CALLS):
            self._session.enqueue_call()


def network_session(
    task: Task, device: DeviceUnderTest, network: CudaNetwork, *, session_of: type[CudaSession] = CudaSession
) -> SessionContender:
    """Return a session around a network, its loop one captured graph where the network may be captured."""
    session = session_of(network, device.new_stream(), task.batch)
    shape = network.shape

    def draw(steps: int) -> Pixels:
        out = np.empty((task.batch, shape.height, shape.width, shape.image_channels), np.float32)
        session.run(task.run(steps), out)
        return out

    def close() -> None:
        session.close()
        network.close()
        if isinstance(network, TorchNetwork):
            torch.compiler.reset()

    return SessionContender(task, device, session, draw, close)


def engine_session(task: Task, context: Context, engine: str) -> SessionContender:
    """Return an engine as `seggd_rt.load` gives it."""
    bundle, device = bundle_of(task.subject, context), context.device
    label_maps, noise = task.torch.label_maps(task.batch), task.torch.noise(task.batch)
    with ExitStack() as opened:
        generator = opened.enter_context(
            seggd_rt.load(bundle, engine=engine, precision=task.precision, device=device.name)
        )
        # The generator takes this very session for every batch of this size, as nobody else uses it meanwhile.
        with generator.acquire(task.batch) as session:
            if not isinstance(session, CudaSession):
                raise EngineError(f"{engine} does not run on a GPU")
        image = generator.manifest.image
        shape = (task.batch, image.height, image.width, image.channels)

        def draw(steps: int) -> Pixels:
            return generator(label_maps, noise=noise, steps=steps).reshape(shape)

        return SessionContender(task, device, session, draw, opened.pop_all().close)
