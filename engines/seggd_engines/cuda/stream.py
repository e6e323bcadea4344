"""A stream of an NVIDIA GPU, by NVIDIA's cuda.core and cuda.bindings: memory, copies, kernels by NVRTC, graphs."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from seggd_engines.cuda.capture import ALLOCATING, nothing_collected
from seggd_engines.cuda.device import Bytes, DeviceGraph, DeviceMark, Kernel
from seggd_rt.errors import EngineError
from seggd_rt.gpu import drive, on_gpu, refuse_foreign_context
from seggd_rt.optional import require

KERNELS = Path(__file__).parent / "kernels"
"""The CUDA sources, which C++ builds read too."""
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.MULTILINE)


def kernel_source() -> str:
    """Return the kernels and all they include as one text: NVRTC needs no folder, and a cache's key covers all."""
    seen: set[str] = set()

    def inline(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        text = (KERNELS / name).read_text("utf-8").replace("#pragma once\n", "")
        return _INCLUDE.sub(lambda found: inline(found[1]), text)

    return inline("sampling.cu")


def compile_kernels(architecture: str, *, cached: bool = True) -> Any:
    """Compile the kernels by NVRTC, or take them from the user's cache folder.

    Parameters
    ----------
    architecture
        Of the GPU: "90" for compute capability 9.0. No GPU is needed.
    cached
        Whether to look there first, and to keep what was compiled.

    Returns
    -------
    cuda.core.ObjectCode
        Machine code, a cubin.

    Raises
    ------
    EngineError
        NVRTC refuses them.
    """
    core = _core()
    # Products are not fused with sums: every implementation of the update row rounds alike.
    options = core.ProgramOptions(name="sampling.cu", arch=f"sm_{architecture}", std="c++17", fma=False)
    with _translated("the kernels cannot be compiled"):
        program = core.Program(kernel_source(), "c++", options)
        utils = require("cuda.core.utils", extra="cuda", feature="running on a GPU")
        if cached:
            with suppress(OSError):  # a folder that cannot be written costs a second a start, no more
                kept = utils.FileStreamProgramCache(user_cache_path("seggd-rt") / "kernels")
                return program.compile("cubin", cache=kept)
        return program.compile("cubin")


class CudaStream:
    """A stream of one GPU: see `DeviceStream`."""

    def __init__(self, ordinal: int) -> None:
        refuse_foreign_context()
        core = _core()
        self._driver = require("cuda.bindings.driver", extra="cuda", feature="running on a GPU")
        self._ordinal = ordinal
        with ALLOCATING, on_gpu(ordinal), _translated(f"cuda:{ordinal} cannot be used"):
            self._device = core.Device(ordinal)
            self._device.set_current()
            self._stream = self._device.create_stream()
            # A pool of its own, so that closing it gives the memory back to the device.
            self._pool = core.DeviceMemoryResource(ordinal, options=core.DeviceMemoryResourceOptions())
            code = compile_kernels(self._device.arch)
            self._kernels = {kernel: code.get_kernel(kernel.value) for kernel in Kernel}
            for kernel in self._kernels.values():
                # CUDA loads a kernel at its first launch, and that may come while a graph is recorded.
                function = drive(self._driver.cuKernelGetFunction(kernel.handle), "load a kernel")
                drive(self._driver.cuFuncLoad(function), "load a kernel")
        self._handle = int(self._stream.handle)
        self._buffers: list[Any] = []
        self._events: dict[str, Any] = {}

    @property
    def handle(self) -> int:
        """The stream's handle."""
        return self._handle

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the device the calling thread's own for a block."""
        with on_gpu(self._ordinal):
            self._device.set_current()
            yield

    def allocate(self, size: int) -> int:
        """Return the address of new device memory: see `DeviceStream.allocate`."""
        with _translated(f"{size >> 20} MiB of device memory cannot be had: a smaller batch needs less"):
            buffer = self._pool.allocate(size, stream=self._stream)
        self._buffers.append(buffer)
        return int(buffer.handle)

    def pinned(self, size: int) -> Bytes:
        """Return new pinned host memory: see `DeviceStream.pinned`."""
        with ALLOCATING, _translated(f"{size >> 20} MiB of pinned host memory cannot be had"):
            buffer = _core().LegacyPinnedMemoryResource().allocate(size)
        self._buffers.append(buffer)
        pointer = ctypes.cast(int(buffer.handle), ctypes.POINTER(ctypes.c_uint8))
        return np.ctypeslib.as_array(pointer, shape=(size,))

    def upload(self, address: int, source: Bytes) -> None:
        """Copy pinned host memory to the device."""
        self._check(self._driver.cuMemcpyHtoDAsync(address, source.ctypes.data, source.nbytes, self._handle))

    def download(self, target: Bytes, address: int) -> None:
        """Copy device memory to pinned host memory."""
        self._check(self._driver.cuMemcpyDtoHAsync(target.ctypes.data, address, target.nbytes, self._handle))

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the device, or between devices."""
        self._check(self._driver.cuMemcpyAsync(target, source, size, self._handle))

    def clear(self, address: int, size: int) -> None:
        """Set device memory to zero."""
        self._check(self._driver.cuMemsetD8Async(address, 0, size, self._handle))

    def launch(self, kernel: Kernel, grid: tuple[int, int], block: int, state: int) -> None:
        """Run a kernel."""
        core = _core()
        with _translated(f"kernel {kernel} failed"):
            core.launch(self._stream, core.LaunchConfig(grid=grid, block=block), self._kernels[kernel], state)

    def capture(self, work: Callable[[], None]) -> DeviceGraph:
        """Record what `work` enqueues, without running it."""
        # By the driver itself: where a recording is broken off, cuda.core 1.1 to 1.2.2 destroy a graph that the driver
        # has destroyed already (NVIDIA/cuda-python#2834).
        driver, purpose = self._driver, "capture the sampling loop as a CUDA graph"
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL  # other threads may allocate meanwhile
        with nothing_collected():
            drive(driver.cuStreamBeginCapture(self._handle, mode), purpose)
            try:
                work()
            except BaseException:
                code, graph = driver.cuStreamEndCapture(self._handle)  # what it says must not hide that error
                if code == driver.CUresult.CUDA_SUCCESS:
                    driver.cuGraphDestroy(graph)
                raise
            graph = drive(driver.cuStreamEndCapture(self._handle), purpose)
        return CudaGraph(driver, graph, self._handle, purpose)

    def mark(self) -> DeviceMark:
        """Mark the place in the queue that has been reached."""
        self._events["mark"] = event = self._stream.record(self._events.get("mark"))
        return CudaMark(event)

    def wait_for(self, stream: int) -> None:
        """Wait for what is enqueued on another stream."""
        with _translated("another stream cannot be waited for"):
            self._stream.wait(_foreign(stream))

    def hold_back(self, stream: int) -> None:
        """Let another stream wait for what is enqueued here."""
        with _translated("another stream cannot be held back"):
            _foreign(stream).wait(self._stream)

    def synchronize(self) -> None:
        """Wait until everything enqueued here is done."""
        with _translated("the GPU failed"):
            self._stream.sync()

    def close(self) -> None:
        """Wait, and give all memory back."""
        self.synchronize()
        with ALLOCATING:
            for buffer in self._buffers:
                buffer.close()
            self._buffers.clear()
            self._events.clear()
            self.synchronize()
            self._pool.close()
            self._stream.close()

    def _check(self, result: tuple[Any, ...]) -> None:
        if result[0] != self._driver.CUresult.CUDA_SUCCESS:
            raise EngineError(f"the GPU failed: {result[0].name}")


class CudaGraph:
    """Captured work, made ready from what was recorded, which goes: see `DeviceGraph`."""

    def __init__(self, driver: Any, recorded: Any, stream: int, purpose: str) -> None:
        self._driver, self._stream = driver, stream
        with ALLOCATING:
            try:
                self._graph = drive(driver.cuGraphInstantiate(recorded, 0), purpose)
            finally:
                driver.cuGraphDestroy(recorded)
            drive(driver.cuGraphUpload(self._graph, stream), purpose)

    def launch(self) -> None:
        """Enqueue all of it at once."""
        drive(self._driver.cuGraphLaunch(self._graph, self._stream), "run the captured sampling loop")

    def close(self) -> None:
        """Give it back."""
        with ALLOCATING:
            self._driver.cuGraphExecDestroy(self._graph)


class CudaMark:
    """A place in a stream's queue: see `DeviceMark`."""

    def __init__(self, event: Any) -> None:
        self._event = event

    def wait(self) -> None:
        """Wait until everything before it is done."""
        with _translated("the GPU failed"):
            self._event.sync()


@cache
def _core() -> Any:
    return require("cuda.core", extra="cuda", feature="running on a GPU")


@lru_cache(maxsize=16)
def _foreign(handle: int) -> Any:
    """Return a caller's stream; cuda.core makes a class for each, so the latest few are kept."""
    return _core().Stream.from_handle(handle)


@cache
def _failure() -> type[Exception]:
    failure: type[Exception] = require(
        "cuda.core._utils.cuda_utils", extra="cuda", feature="running on a GPU"
    ).CUDAError
    return failure


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn cuda.core's errors into EngineError: its own, which it exports nowhere, and those of a missing driver."""
    try:
        yield
    except (_failure(), RuntimeError) as error:
        raise EngineError(f"{what} ({' '.join(str(error).split())})") from error
