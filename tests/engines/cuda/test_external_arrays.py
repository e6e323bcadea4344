"""Arrays and streams of other libraries, and a generator that takes them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_rt.bundle import Bundle
from seggd_rt.engine import DeviceArray, NetworkShape
from seggd_rt.errors import DataError, EngineError, LabelMapError, OptionError
from seggd_rt.gpu import is_guest, stream_handle, view
from seggd_rt.inference import Generator, request
from tests.bundles import TINY
from tests.engines.analytic import AnalyticNetwork
from tests.engines.cuda.emulated import STREAMS, EmulatedNetwork, EmulatedStream

SHAPE = NetworkShape(1, 3, 24, 32)


@dataclass
class Guest:
    """An array that says it lies in a GPU's memory; on an emulated GPU that is the host's."""

    array: NDArray[Any]
    device: str = "cuda:0"
    readonly: bool = False

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.array.__array_interface__, "version": 3}


class OnGpu:
    def __init__(self, kind: int) -> None:
        self._kind = kind

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._kind, 0


def fake_view(guest: Guest, name: str, stream: int, *, writable: bool = False, device: str = "") -> DeviceArray:
    return DeviceArray(guest.array.ctypes.data, guest.array.shape, guest.array.dtype, guest.device, guest)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    """A generator on an emulated GPU."""
    monkeypatch.setattr(request, "view", fake_view)
    network = AnalyticNetwork(SHAPE, std=0.3)
    network.info = replace(network.info, device="cuda:0")
    return Generator(Bundle.open(TINY), EmulatedNetwork(network))


@pytest.fixture
def masks(golden_mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([golden_mask, golden_mask[::-1]]).copy()


def test_who_is_a_guest() -> None:
    assert is_guest(Guest(np.zeros(3)))
    assert is_guest(OnGpu(2))
    assert not is_guest(OnGpu(1))
    assert not is_guest(np.zeros(3))
    assert not is_guest([1, 2])


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (None, 1),
        (0, 1),
        (7, 7),
        (type("Core", (), {"__cuda_stream__": lambda self: (0, 11)})(), 11),
        (type("Torch", (), {"cuda_stream": 12})(), 12),
        (type("CuPy", (), {"ptr": 13})(), 13),
        (type("Numba", (), {"handle": ctypes.c_void_p(14)})(), 14),
        (type("PyCUDA", (), {"handle": 15})(), 15),
    ],
)
def test_streams_of_every_library(stream: object, handle: int) -> None:
    assert stream_handle(stream) == handle


@pytest.mark.parametrize("stream", ["0", -1, True, object()])
def test_what_is_no_stream(stream: object) -> None:
    with pytest.raises(OptionError, match="must be a CUDA stream"):
        stream_handle(stream)


def test_views_are_contiguous_and_in_device_memory() -> None:
    pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install 'seggd-rt[cuda]'")
    array = np.zeros((4, 6), np.uint8)
    with pytest.raises(DataError, match="mask is not in a GPU's memory"):
        view(array, "mask", -1)
    with pytest.raises(DataError, match="mask must be contiguous"):
        view(array[:, ::2], "mask", -1)
    with pytest.raises(DataError, match="mask must be contiguous"):
        view(array.T, "mask", -1)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_generator_draws_from_guests_into_guests(generator: Generator, masks: NDArray[np.uint8], dtype: type) -> None:
    noise = np.random.default_rng(0).standard_normal((2, 1, 24, 32)).astype(np.float32)
    expected = generator(masks, noise=noise, steps=5, out=np.zeros((2, 24, 32), dtype))
    out, caller = np.full((2, 24, 32), 77, dtype), EmulatedStream()
    given = Guest(out)
    found = generator(Guest(masks), noise=Guest(noise), steps=5, out=given, stream=caller.handle)
    assert found is given
    assert (out == 77).all(), "the call has waited"
    caller.synchronize()
    np.testing.assert_array_equal(out, expected)
    generator.synchronize()


def test_one_guest_may_serve_all_images(generator: Generator, masks: NDArray[np.uint8]) -> None:
    expected = generator(masks[0], seeds=[1, 2, 3], steps=4)
    caller = EmulatedStream()
    found = generator(Guest(masks[0]), seeds=[1, 2, 3], steps=4, stream=caller.handle)
    np.testing.assert_array_equal(found, expected)
    noise = np.random.default_rng(0).standard_normal((1, 24, 32)).astype(np.float32)
    np.testing.assert_array_equal(
        generator(Guest(masks), noise=Guest(noise), steps=4, stream=caller.handle),
        generator(masks, noise=noise, steps=4),
    )


@pytest.mark.parametrize("way", ["call", "stream", "interpolate"])
def test_every_way_waits_for_the_making_of_a_guest(
    generator: Generator, masks: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    caller, late = EmulatedStream(), np.zeros_like(masks[0])
    monkeypatch.setitem(STREAMS, 1, caller)  # the default stream
    caller.enqueue(lambda: np.copyto(late, masks[0]))
    if way == "call":
        found, expected = generator(Guest(late), steps=3), generator(masks[0], steps=3)
    elif way == "stream":
        found, expected = (list(generator.stream(mask, steps=3))[-1].image for mask in (Guest(late), masks[0]))
    else:
        real = np.full((24, 32), 0.5, np.float32)
        found, expected = (generator.interpolate(mask, real, steps=3, at=0.5) for mask in (Guest(late), masks[0]))
    np.testing.assert_array_equal(found, expected)


def test_what_was_wrong_with_a_guest_is_told_by_synchronize(generator: Generator, masks: NDArray[np.uint8]) -> None:
    masks[0, 0, 0] = 9
    out, caller = np.zeros((2, 24, 32), np.float32), EmulatedStream()
    generator(Guest(masks), steps=3, out=Guest(out), stream=caller.handle)
    with pytest.raises(LabelMapError, match="outside the classes"):
        generator.synchronize()
    with pytest.raises(LabelMapError, match="outside the classes"):
        generator(Guest(masks), steps=3, stream=caller.handle)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mask": Guest(np.zeros((24, 32), np.int64))}, LabelMapError, "must be uint8"),
        ({"mask": Guest(np.zeros((24, 33), np.uint8))}, LabelMapError, "must be uint8"),
        ({"mask": Guest(np.zeros((24, 32), np.uint8), "cuda:1")}, DataError, "mask is on cuda:1"),
        ({"noise": Guest(np.zeros((1, 24, 32)))}, DataError, "must be float32"),
        ({"out": Guest(np.zeros((24, 32), np.float64))}, DataError, "must be float32 or uint8"),
        ({"out": Guest(np.zeros((2, 24, 32), np.float32))}, DataError, "must be float32 or uint8"),
        ({"out": Guest(np.zeros((24, 32), np.float32)), "on_step": print}, DataError, "on_step"),
    ],
)
def test_guests_that_do_not_fit(
    generator: Generator, masks: NDArray[np.uint8], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    mask = arguments.pop("mask", masks[0])
    with pytest.raises(error, match=message):
        generator(mask, steps=2, **arguments)


def test_an_engine_on_the_cpu_says_that_it_is_one(tiny_generator: Generator, masks: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match="runs on the cpu: give a NumPy array"):
        tiny_generator(Guest(masks[0]))


def test_closing_gives_everything_back(generator: Generator, masks: NDArray[np.uint8]) -> None:
    generator(masks[0], steps=2)
    session = generator._pool._idle[0]
    generator.close()
    assert session._stream.closed  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="closed"):
        generator(masks[0], steps=2)
