"""NVIDIA's own cuda.core above a stand-in for the driver: what `test_fake_driver.py` runs in a process of its own.

Below the driver's calls all is emulated (`fake_driver.cpp`); session, stream, guests and all of cuda.core are
real.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import cuda.core as core
import numpy as np
import pytest
from cuda.bindings import driver
from numpy.typing import NDArray

from benchmarks.gpu.checks import smoke
from benchmarks.gpu.checks.sanitizer_driver import make_run
from benchmarks.gpu.contenders.while_loop import WhileSession
from seggd_engines.cuda import CudaSession, CudaStream, DeviceMemory
from seggd_engines.host import HostSession
from seggd_rt.bundle import Bundle
from seggd_rt.engine import Buffer, EngineInfo, NetworkShape, Run
from seggd_rt.errors import DataError, EngineError, LabelMapError
from seggd_rt.gpu import drive, find_gpus, make_current, view
from seggd_rt.inference import Generator
from tests.bundles import TINY
from tests.engines.analytic import AnalyticNetwork

SHAPE = NetworkShape(1, 3, 24, 32)


class HostComputed:
    """A network that the host computes, in a stream's order: see `CudaNetwork`."""

    capturable = True
    max_batch: int | None = None

    def __init__(self, ordinal: int = 0) -> None:
        self._ordinal, self._network, self._kept = ordinal, AnalyticNetwork(SHAPE, std=0.3), list[Any]()
        self.shape = SHAPE
        self.info: EngineInfo = replace(self._network.info, device=f"cuda:{ordinal}")

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Callable[[], None]:
        call = self._network.bind(sample, timestep, out)
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: call())
        self._kept.append(function)  # as long as graphs that call it
        pointer = driver.CUhostFn(ctypes.cast(function, ctypes.c_void_p).value)
        return lambda: drive(driver.cuLaunchHostFunc(stream, pointer, 0), "call the host")

    def session(self, batch: int, lanes: int = 1) -> CudaSession:
        return CudaSession(self, CudaStream(self._ordinal), batch, lanes)

    def close(self) -> None:
        self._network.close()


class Guest:
    """An array in device memory, as `__cuda_array_interface__` describes it."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: str, *, readonly: bool = False) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": dtype,
            "data": (address, readonly),
            "strides": None,
            "version": 3,
        }


@pytest.fixture
def network() -> Iterator[HostComputed]:
    made = HostComputed()
    yield made
    made.close()


def on_host(run: Run, batch: int, lanes: int = 1) -> NDArray[np.float32]:
    out = np.zeros((batch, SHAPE.height, SHAPE.width, 1), np.float32)
    HostSession(AnalyticNetwork(SHAPE, std=0.3), batch, lanes).run(run, out)
    return out


def drawn(session: CudaSession, run: Run, on_step: Any = None) -> NDArray[np.float32]:
    out = np.full((session.batch, SHAPE.height, SHAPE.width, 1), 77, np.float32)
    session.run(run, out, on_step)
    return out


def used(ordinal: int = 0) -> int:
    core.Device(ordinal).set_current()
    _, free, total = driver.cuMemGetInfo()
    return int(total) - int(free)


@pytest.mark.parametrize("item", smoke.items()[:9], ids=lambda item: item.name)
def test_every_item_that_needs_no_other_library(item: smoke.Item) -> None:
    item.work()


def test_the_gpus_are_found() -> None:
    assert [(gpu.ordinal, gpu.name, gpu.capability) for gpu in find_gpus()] == [
        (0, "Emulated GPU", "9.0"),
        (1, "Emulated GPU", "9.0"),
    ]


@pytest.mark.parametrize("ordinal", [0, 1])
@pytest.mark.parametrize("lanes", [1, 2])
def test_it_draws_what_the_host_draws_on_the_device_asked_for(ordinal: int, lanes: int) -> None:
    before = used(0), used(1)
    session, run = HostComputed(ordinal).session(3, lanes), make_run(SHAPE, lanes=lanes, blend=True)
    np.testing.assert_array_equal(drawn(session, run), on_host(run, 3, lanes))
    np.testing.assert_array_equal(drawn(session, run, lambda step: None), on_host(run, 3, lanes))
    grown = [now > then for now, then in zip((used(0), used(1)), before, strict=True)]
    assert grown == [ordinal == 0, ordinal == 1]
    session.close()
    assert (used(0), used(1)) == before


def test_a_while_node_draws_any_number_of_steps_by_one_graph(network: HostComputed) -> None:
    session = WhileSession(network, CudaStream(0), 3)
    for steps in (5, 9, 1):
        run = make_run(SHAPE, steps=steps)
        np.testing.assert_array_equal(drawn(session, run), on_host(run, 3))
    assert len(session._graphs) == 1
    session.close()


def test_memory_is_fixed_after_the_first_image(network: HostComputed) -> None:
    session, run = network.session(3), make_run(SHAPE)
    drawn(session, run)
    held = used()
    for _ in range(20):
        drawn(session, run)
    assert used() == held
    session.close()


def test_each_thread_has_a_session_of_its_own(network: HostComputed) -> None:
    runs = [make_run(SHAPE, eta=eta) for eta in (0.0, 0.3, 0.6, 1.0)]

    def work(run: Run) -> bool:
        session = network.session(3)
        same = all(np.array_equal(drawn(session, run), on_host(run, 3)) for _ in range(5))
        session.close()
        return same

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, runs))


def test_a_generator_takes_and_gives_arrays_in_device_memory(network: HostComputed) -> None:
    with Generator(Bundle.open(TINY), network) as generator:
        mask = np.ascontiguousarray(Bundle.open(TINY).golden.label_map, np.uint8)
        expected = generator(mask, seed=5, steps=4)
        core.Device(0).set_current()
        caller = core.Device(0).create_stream()
        there, out = DeviceMemory(0, mask.nbytes, "labels"), DeviceMemory(0, expected.nbytes, "an image")
        found = np.zeros_like(expected)
        drive(driver.cuMemcpyHtoDAsync(there.address, mask.ctypes.data, mask.nbytes, int(caller.handle)), "copy")
        target = Guest(out.address, expected.shape, "<f4")
        assert generator(Guest(there.address, mask.shape, "|u1"), seed=5, steps=4, out=target, stream=caller) is target
        drive(driver.cuMemcpyDtoHAsync(found.ctypes.data, out.address, found.nbytes, int(caller.handle)), "copy")
        assert not found.any(), "nothing was waited for"
        caller.sync()
        np.testing.assert_array_equal(found, expected)
        generator.synchronize()
        # By CUDA's default stream, and back to the host.
        np.testing.assert_array_equal(generator(Guest(there.address, mask.shape, "|u1"), seed=5, steps=4), expected)
        with pytest.raises(DataError, match="read only"):
            generator(mask, out=Guest(out.address, expected.shape, "<f4", readonly=True), stream=caller)
        wrong = np.full_like(mask, 200)
        drive(driver.cuMemcpyHtoD(there.address, wrong.ctypes.data, wrong.nbytes), "copy")
        with pytest.raises(LabelMapError, match="outside the classes"):
            generator(Guest(there.address, mask.shape, "|u1"), seed=5, steps=4)
        np.testing.assert_array_equal(generator(mask, seed=5, steps=4), expected)


def test_recording_runs_nothing_and_collects_nothing() -> None:
    stream, seen = CudaStream(0), list[bool]()

    def fail() -> None:
        stream.clear(address, 4)
        raise ValueError("the network failed")

    with stream.active():
        address = stream.allocate(256)
        with pytest.raises(ValueError, match=r"^the network failed$"):
            stream.capture(fail)
        graph = stream.capture(lambda: seen.append(gc.isenabled()))
        stream.synchronize()
        graph.close()
    stream.close()
    assert seen == [False]
    assert gc.isenabled()


def test_too_large_a_batch_is_told_with_what_to_do() -> None:
    large = HostComputed()
    large.shape = NetworkShape(1, 3, 512, 512)
    with pytest.raises(EngineError, match=r"MiB of device memory cannot be had: a smaller batch needs less .*MEMORY"):
        large.session(600)
    with pytest.raises(EngineError, match=r"for a plan .*choose a smaller batch"):
        DeviceMemory(0, 3 << 30, "a plan")


def test_a_context_of_somebodys_own_is_refused() -> None:
    own = drive(driver.cuCtxCreate(None, 0, 1), "make a context")
    try:
        with pytest.raises(EngineError, match=r"pycuda\.autoprimaryctx"):
            CudaStream(0)
    finally:
        drive(driver.cuCtxDestroy(own), "give a context back")
    CudaStream(0).close()


@pytest.mark.parametrize("ordinal", [None, 0, 1])
def test_a_thread_keeps_the_gpu_that_it_had(ordinal: int | None) -> None:
    def context() -> int:
        return int(drive(driver.cuCtxGetCurrent(), "name its context"))

    drive(driver.cuCtxSetCurrent(0), "leave a context")
    if ordinal is not None:
        make_current(ordinal)
    before, network = context(), HostComputed(1)
    session, run = network.session(3), make_run(SHAPE)
    assert context() == before
    drawn(session, run)
    drawn(session, run, lambda step: None)
    session.evaluate(np.zeros((3, 1, 24, 32), np.float32), np.zeros((3, 3, 24, 32), np.float32), 500)
    memory = DeviceMemory(1, 100, "a test")
    view(Guest(memory.address, (10, 10), "|u1"), "a mask", 1, device="cuda:1")
    memory.close()
    session.close()
    assert context() == before


def test_a_recording_that_is_broken_off_leaves_nothing() -> None:
    stream = CudaStream(0)
    with stream.active():
        address = stream.allocate(256)
        for _ in range(3):
            with pytest.raises(EngineError, match="CAPTURE_UNSUPPORTED"):
                stream.capture(stream.synchronize)
            stream.capture(lambda: stream.clear(address, 4)).close()
    stream.close()


def test_what_fails_on_the_gpu_is_told_when_one_waits() -> None:
    # The last: a context whose work failed does nothing more, as on a GPU.
    stream = CudaStream(0)
    with stream.active():
        address = stream.allocate(256)
        stream.copy(address, 0xABC0, 64)
        with pytest.raises(EngineError, match=r"the GPU failed .*ILLEGAL_ADDRESS"):
            stream.synchronize()
        with pytest.raises(EngineError, match="ILLEGAL_ADDRESS"):
            stream.clear(address, 4)
