"""PyTorch's UNet as a network on a GPU: it drives the real session where no other engine can, and is a rival to them.

For tests and benchmarks; never in the wheel. Buffers are wrapped where they lie, nothing is copied but the cast to the
network's precision. All of it may be captured: what a call allocates lies in a pool that its binding keeps.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from seggd_engines.cuda import CudaSession, CudaStream
from seggd_rt.diffusion import Precision
from seggd_rt.engine import Buffer, EngineInfo, NetworkShape
from seggd_rt.errors import EngineError

PRECISIONS: Mapping[torch.dtype, Precision] = {
    torch.float32: Precision.FP32,
    torch.float16: Precision.FP16,
    torch.bfloat16: Precision.BF16,
}
DTYPES: Mapping[Precision, torch.dtype] = {precision: dtype for dtype, precision in PRECISIONS.items()}


def allow_tf32(allowed: bool) -> None:
    """Say for this whole process whether products of float32 may be rounded to TF32; PyTorch's own default is mixed."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


class TorchNetwork:
    """A UNet2DModel behind the contract of `CudaNetwork`.

    Parameters
    ----------
    unet
        The network; it is moved and cast in place.
    device
        "cuda:0"; or "cpu", where calls are done when they return, for tests with emulated streams.
    dtype
        What it computes in.
    compile
        torch.compile's mode, or None to run as it is. One that makes CUDA graphs of its own ("max-autotune",
        "reduce-overhead") cannot be captured and is refused.
    channels_last
        Whether convolutions work on channels-last memory.
    tf32
        Whether float32 may be rounded to TF32, in this whole process.

    Raises
    ------
    EngineError
        The mode makes graphs of its own.
    """

    capturable = True
    max_batch: int | None = None

    def __init__(
        self,
        unet: nn.Module,
        *,
        device: str = "cuda:0",
        dtype: torch.dtype = torch.float32,
        compile: str | None = None,
        channels_last: bool = True,
        tf32: bool = False,
    ) -> None:
        if compile in ("max-autotune", "reduce-overhead"):
            raise EngineError(f"torch.compile's mode {compile} makes graphs of its own: use max-autotune-no-cudagraphs")
        allow_tf32(tf32)
        self._device = torch.device(device)
        self._dtype, self._lock = dtype, threading.Lock()
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._shape = _shape_of(unet)
        network: Any = unet.eval().requires_grad_(False).to(device=self._device, dtype=dtype)
        self._unet = network.to(memory_format=self._format)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # sessions call it on streams of their own
        self._forward: Callable[[Tensor, Tensor, Tensor], None] = self._evaluate
        if compile is not None:
            self._forward = torch.compile(self._evaluate, mode=compile, dynamic=False)
        on_gpu = self._device.type == "cuda"
        self._info = EngineInfo(
            engine="pytorch" if compile is None else f"pytorch {compile}",
            version=str(torch.__version__),
            device=device,
            device_name=torch.cuda.get_device_name(self._device) if on_gpu else "CPU",
            precision=PRECISIONS[dtype],
        )

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        return self._info

    @property
    def shape(self) -> NetworkShape:
        """The sizes it is built for."""
        return self._shape

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Callable[[], None]:
        """Wrap the buffers: see `CudaNetwork.bind`.

        The first call of a thread compiles, tunes and makes workspaces, one thread at a time, with memory of PyTorch's
        own; it must not be captured.
        """
        tensors = [tensor_at(buffer, self._device) for buffer in (sample, timestep, out)]
        place = _Place(self._device, stream)
        thread = threading.local()  # PyTorch's handles of cuBLAS and cuDNN, and what they found fastest, are one's own

        def call() -> None:
            if hasattr(thread, "prepared"):
                with place.entered(pooled=True), torch.inference_mode():
                    self._forward(*tensors)
                return
            with self._lock, place.entered(pooled=False), torch.inference_mode():
                if place.recording:
                    raise EngineError("PyTorch's network is recorded in a thread that has not called it yet")
                self._forward(*tensors)
                place.forget_workspaces()
            thread.prepared = True

        return call

    def session(self, batch: int, lanes: int = 1) -> CudaSession:
        """Return a session on the network's GPU."""
        return CudaSession(self, CudaStream(self._device.index or 0), batch, lanes)

    def close(self) -> None:
        """Drop the network."""
        del self._unet, self._forward

    def _evaluate(self, sample: Tensor, timestep: Tensor, out: Tensor) -> None:
        x = sample.to(dtype=self._dtype, memory_format=self._format)
        out.copy_(self._unet(x, timestep, return_dict=False)[0])


def tensor_at(buffer: Buffer, device: torch.device) -> Tensor:
    """Return a float32 tensor over memory that somebody else keeps."""
    if device.type == "cpu":
        values = (ctypes.c_float * _count(buffer)).from_address(buffer.address)
        return torch.frombuffer(values, dtype=torch.float32).view(buffer.shape)
    tensor = torch.as_tensor(_DeviceMemory(buffer), device=device)
    if tensor.data_ptr() != buffer.address:
        raise EngineError(f"PyTorch copied the session's memory: it lies on another device than {device}")
    return tensor


def external_stream(stream: int, device: torch.device) -> torch.cuda.Stream:
    """Return PyTorch's view of a stream that somebody else keeps."""
    made: Any = torch.cuda.ExternalStream
    found: torch.cuda.Stream = made(stream, device=device)
    return found


class _DeviceMemory:
    """A buffer as `__cuda_array_interface__` describes it."""

    def __init__(self, buffer: Buffer) -> None:
        self.__cuda_array_interface__ = {
            "shape": buffer.shape,
            "typestr": "<f4",
            "data": (buffer.address, False),
            "strides": None,
            "version": 3,
        }


class _Place:
    """Where a binding's calls run: its stream, and a pool for what they allocate.

    A captured graph keeps addresses of the pool's memory; with PyTorch's own they could be given to others.
    """

    def __init__(self, device: torch.device, stream: int) -> None:
        self._device = device
        on_gpu = device.type == "cuda"
        self._stream = external_stream(stream, device) if on_gpu else None
        self._pool = torch.cuda.MemPool() if on_gpu else None

    @property
    def recording(self) -> bool:
        """Whether the current stream records a graph."""
        return self._stream is not None and torch.cuda.is_current_stream_capturing()

    def forget_workspaces(self) -> None:
        """Let cuBLAS take its workspaces from the pool at the next call: others may free those of PyTorch's own memory.

        PyTorch's own graphs do so (`torch._inductor.cudagraph_trees`), and a captured call would go on writing to them.
        """
        if self._stream is not None:
            self._stream.synchronize()
            clear: Any = torch._C._cuda_clearCublasWorkspaces
            clear()

    @contextmanager
    def entered(self, *, pooled: bool) -> Iterator[None]:
        if self._stream is None or self._pool is None:
            yield
            return
        pool = torch.cuda.use_mem_pool(self._pool, self._device) if pooled else nullcontext()
        # The pool first: PyTorch asks a current stream that is recorded for a graph of its own.
        with pool, torch.cuda.stream(self._stream):
            yield


def _count(buffer: Buffer) -> int:
    return int(torch.Size(buffer.shape).numel())


def _shape_of(unet: Any) -> NetworkShape:
    config = unet.config
    size = config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    return NetworkShape(config.out_channels, config.in_channels - config.out_channels, height, width)
