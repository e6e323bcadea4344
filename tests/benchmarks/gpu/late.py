"""PyTorch on streams that run late: the contract of a network on a GPU, in host memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.gpu.machine.device import Duration
from benchmarks.torch_network import TorchNetwork
from seggd_engines.cuda import CudaSession
from seggd_rt.engine import Buffer
from seggd_training.loop import build_unet, unet_config
from tests.engines.cuda.emulated import STREAMS, EmulatedStream


class LateTorchNetwork(TorchNetwork):
    """A `TorchNetwork` whose calls are enqueued on an `EmulatedStream`."""

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Callable[[], None]:
        call = super().bind(sample, timestep, out, stream)
        return lambda: STREAMS[stream].enqueue(call)

    def session(self, batch: int, lanes: int = 1) -> CudaSession:
        return CudaSession(self, EmulatedStream(), batch, lanes)


def tiny_unet(size: tuple[int, int] = (16, 24), *, mask_channels: int = 3, seed: int = 0) -> nn.Module:
    """Return the tiny network with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_unet(unet_config("tiny", image_channels=1, mask_channels=mask_channels, size=size)).eval()


class LateDevice:
    """The CPU in a GPU's place: see `DeviceUnderTest`. Its streams are emulated ones, the caller's too."""

    name = "cpu"

    def __init__(self) -> None:
        self._caller = EmulatedStream()
        self.stream = self._caller.handle

    def new_stream(self) -> EmulatedStream:
        return EmulatedStream()

    def timed(self, work: Callable[[], object], stream: int | None = None) -> Duration:
        started, busy = time.perf_counter(), time.thread_time()
        work()
        host_s = time.thread_time() - busy
        STREAMS[self.stream if stream is None else stream].synchronize()
        return Duration(time.perf_counter() - started, host_s)

    def synchronize(self) -> None:
        self._caller.synchronize()

    def state(self) -> str:
        return "clock 1 MHz"

    def used_bytes(self, *, cached: bool = False) -> int:
        return 0
