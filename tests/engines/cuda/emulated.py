"""A GPU in a few lines: the real kernels compiled for the host, on streams that run late.

Enqueued work runs when somebody waits for it and not before, so code that forgets to wait reads garbage. New memory is
NaN, so code that reads what nothing wrote is found too.
"""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from seggd_engines.cuda import Bytes, CudaSession, Kernel
from seggd_engines.cuda.stream import KERNELS
from seggd_rt.engine import Buffer, EngineInfo, NetworkShape
from tests.engines.analytic import AnalyticNetwork

_SOURCE = Path(__file__).parent / "emulate.cpp"


@cache
def compiled() -> ctypes.CDLL:
    """Return the kernels, compiled by this machine's C++ compiler without fused multiply-add."""
    with TemporaryDirectory() as folder:
        library = Path(folder, "kernels.so")
        command = ["g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fPIC", "-shared"]
        try:
            subprocess.run(
                [*command, "-I", KERNELS, "-o", library, _SOURCE], check=True, capture_output=True, text=True
            )
        except FileNotFoundError:
            pytest.skip("there is no g++ to compile the kernels with")
        except subprocess.CalledProcessError as error:
            pytest.fail(error.stderr)
        return ctypes.CDLL(str(library))


def pointer(array: np.ndarray) -> ctypes.c_void_p:  # type: ignore[type-arg]
    return ctypes.c_void_p(array.ctypes.data)


Work = Callable[[], None]


@dataclass
class EmulatedGraph:
    stream: EmulatedStream
    work: list[Work]
    launches: int = 0
    closed: bool = False

    def launch(self) -> None:
        assert not self.closed
        self.launches += 1
        for piece in self.work:
            self.stream.enqueue(piece)

    def close(self) -> None:
        self.closed = True


@dataclass
class EmulatedMark:
    stream: EmulatedStream
    place: int

    def wait(self) -> None:
        self.stream.run_to(self.place)


@dataclass
class EmulatedStream:
    """See `DeviceStream`."""

    memory: list[Bytes] = field(default_factory=list)
    graphs: list[EmulatedGraph] = field(default_factory=list)
    closed: bool = False
    kernels: int = 0

    def __post_init__(self) -> None:
        self._queue: list[Work] = []
        self._done = 0
        self._capturing: list[Work] | None = None
        STREAMS[self.handle] = self

    @property
    def handle(self) -> int:
        return id(self)

    @contextmanager
    def active(self) -> Iterator[None]:
        assert not self.closed
        yield

    def allocate(self, size: int) -> int:
        self._assert_not_capturing()
        memory = np.full(size + 256, 0xFF, np.uint8)
        self.memory.append(memory)
        return -(-memory.ctypes.data // 256) * 256

    def pinned(self, size: int) -> Bytes:
        self._assert_not_capturing()
        memory = np.full(size, 0xFF, np.uint8)
        self.memory.append(memory)
        return memory

    def upload(self, address: int, source: Bytes) -> None:
        self.enqueue(lambda: ctypes.memmove(address, source.ctypes.data, source.nbytes))

    def download(self, target: Bytes, address: int) -> None:
        self.enqueue(lambda: ctypes.memmove(target.ctypes.data, address, target.nbytes))

    def copy(self, target: int, source: int, size: int) -> None:
        self.enqueue(lambda: ctypes.memmove(target, source, size))

    def clear(self, address: int, size: int) -> None:
        self.enqueue(lambda: ctypes.memset(address, 0, size))

    def launch(self, kernel: Kernel, grid: tuple[int, int], block: int, state: int) -> None:
        library = compiled()
        function = getattr(library, kernel.value)

        def work() -> None:
            self.kernels += 1
            library.emulate(function, *grid, block, ctypes.c_void_p(state))

        self.enqueue(work)

    def capture(self, work: Work) -> EmulatedGraph:
        self._assert_not_capturing()
        self._capturing = []
        try:
            work()
            self.graphs.append(EmulatedGraph(self, self._capturing))
        finally:
            self._capturing = None
        return self.graphs[-1]

    def mark(self) -> EmulatedMark:
        return EmulatedMark(self, len(self._queue))

    def wait_for(self, stream: int) -> None:
        self.enqueue(STREAMS[stream].mark().wait)

    def hold_back(self, stream: int) -> None:
        STREAMS[stream].enqueue(self.mark().wait)

    def synchronize(self) -> None:
        self._assert_not_capturing()
        self.run_to(len(self._queue))

    def close(self) -> None:
        self.synchronize()
        self.memory.clear()
        self.closed = True

    def enqueue(self, work: Work) -> None:
        """Add a piece of work."""
        assert not self.closed
        (self._queue if self._capturing is None else self._capturing).append(work)

    def run_to(self, place: int) -> None:
        """Do what was enqueued before a place."""
        while self._done < place:
            self._done += 1
            self._queue[self._done - 1]()

    def _assert_not_capturing(self) -> None:
        assert self._capturing is None, "this may not be captured"


STREAMS: dict[int, EmulatedStream] = {}


@dataclass
class EmulatedNetwork:
    """An `AnalyticNetwork` whose calls are enqueued: see `CudaNetwork`."""

    network: AnalyticNetwork = field(default_factory=AnalyticNetwork)
    capturable: bool = True
    max_batch: int | None = None

    @property
    def info(self) -> EngineInfo:
        return dataclasses.replace(self.network.info, device="cuda:0")

    @property
    def shape(self) -> NetworkShape:
        return self.network.shape

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Work:
        call = self.network.bind(sample, timestep, out)
        return lambda: STREAMS[stream].enqueue(call)

    def session(self, batch: int, lanes: int = 1) -> CudaSession:
        return CudaSession(self, EmulatedStream(), batch, lanes)

    def close(self) -> None:
        self.network.close()
