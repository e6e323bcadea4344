"""GPUs found, or the reason why there is none, against a stand-in for the driver."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

from seggd_engines.cuda import DeviceMemory
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.gpu import devices as gpus
from seggd_rt.gpu import drive, find_gpu
from tests.engines.tensorrt.plans import ADA


class FakeDriver:
    """The driver's calls that find GPUs, with a machine of two."""

    class Code(int):
        name = "CUDA_ERROR_UNKNOWN"

    def __init__(self, init: int = 0, name: str = "") -> None:
        self.init = self.Code(init)
        self.init.name = name
        self.CUdevice_attribute = type(
            "A",
            (),
            {"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": 0, "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": 1},
        )

    def cuInit(self, flags: int) -> tuple[int]:
        return (self.init,)

    def cuDeviceGetCount(self) -> tuple[int, int]:
        return 0, 2

    def cuDeviceGet(self, ordinal: int) -> tuple[int, int]:
        return 0, ordinal

    def cuDeviceGetAttribute(self, which: int, device: int) -> tuple[int, int]:
        return 0, (8, 9)[which]

    def cuDeviceGetName(self, size: int, device: int) -> tuple[int, bytes]:
        return 0, b"NVIDIA RTX 4090\0\0\0"

    def cuDeviceTotalMem(self, device: int) -> tuple[int, int]:
        return 0, 24 << 30


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    find = importlib.util.find_spec

    def use(fake: Any) -> None:
        monkeypatch.setattr(gpus, "driver", lambda: fake)
        present = ModuleSpec("cuda", None)
        monkeypatch.setattr(
            "importlib.util.find_spec",
            lambda name, package=None: present if name.startswith("cuda") else find(name, package),
        )
        monkeypatch.setattr(gpus, "_core_version", lambda: "1.0.0")
        gpus._look.cache_clear()
        gpus._primary_context.cache_clear()

    yield use
    gpus._look.cache_clear()
    gpus._primary_context.cache_clear()


def test_finds_gpus(driver: Callable[[Any], None]) -> None:
    driver(FakeDriver())
    assert gpus.find_gpus() == (ADA, dataclasses.replace(ADA, ordinal=1))
    assert gpus.why_no_gpu() is None
    assert find_gpu("cuda:1").ordinal == 1
    with pytest.raises(EngineUnavailableError, match=r"no device cuda:2: this machine has cuda:0 \(NVIDIA RTX 4090\)"):
        find_gpu("cuda:2")
    for name in ("cuda", "cpu", "cuda:x", "cuda:-1"):
        with pytest.raises(EngineUnavailableError, match="as device 'cuda:0'"):
            find_gpu(name)


class NoDriver(FakeDriver):
    def cuInit(self, flags: int) -> tuple[int]:
        raise RuntimeError("libcuda.so.1 is not there")


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        (NoDriver(), "no NVIDIA driver is installed here: install one"),
        (FakeDriver(100, "CUDA_ERROR_NO_DEVICE"), "finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES"),
        (FakeDriver(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"), r"does not start \(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH\)"),
    ],
)
def test_why_there_is_no_gpu(fake: FakeDriver, reason: str, driver: Callable[[Any], None]) -> None:
    driver(fake)
    assert gpus.find_gpus() == ()
    with pytest.raises(EngineUnavailableError, match=reason) as failure:
        find_gpu("cuda:0")
    assert str(failure.value) == gpus.why_no_gpu()


def test_without_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    gpus._look.cache_clear()
    assert "pip install 'cuda-core[cu13]'" in str(gpus.why_no_gpu())
    gpus._look.cache_clear()


@pytest.mark.parametrize(
    ("version", "reason"),
    [("0.7.0", "cuda-core 0.7.0 is too old: pip install"), (None, "not installed"), ("1.0.0", ""), ("12.3.0rc1", "")],
)
def test_an_old_cuda_core_is_no_use(
    version: str | None, reason: str, driver: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(FakeDriver())
    monkeypatch.setattr(gpus, "_core_version", lambda: version)
    assert reason in (gpus.why_no_gpu() or "")
    assert bool(gpus.find_gpus()) == (not reason)


def test_the_version_of_cuda_core_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"cuda-core": "1.2.3"}[name])
    assert gpus._core_version() == "1.2.3"


def test_device_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    fake = FakeDriver()
    fake.cuDevicePrimaryCtxRetain = lambda device: (0, "context")  # type: ignore[attr-defined]
    fake.cuCtxGetCurrent = lambda: (0, 0)  # type: ignore[attr-defined]
    fake.cuCtxSetCurrent = lambda context: (0,)  # type: ignore[attr-defined]
    out_of_memory = FakeDriver.Code(2)
    out_of_memory.name = "CUDA_ERROR_OUT_OF_MEMORY"
    fake.cuMemAlloc = lambda size: (0, 512) if size < 1 << 30 else (out_of_memory, 0)  # type: ignore[attr-defined]
    fake.cuMemFree = lambda pointer: (freed.append(pointer) or 0,)  # type: ignore[attr-defined]
    for module in ("seggd_rt.gpu.devices", "seggd_engines.cuda.memory"):
        monkeypatch.setattr(f"{module}.driver", lambda: fake)
    gpus._primary_context.cache_clear()
    memory = DeviceMemory(0, 1000, "a test")
    assert memory.address == 512
    memory.close()
    memory.close()
    assert freed == [512]
    del memory
    assert freed == [512]
    DeviceMemory(0, 1000, "a test")
    assert freed == [512, 512]
    with pytest.raises(
        EngineError, match=r"allocate 1024 MiB for a test \(CUDA_ERROR_OUT_OF_MEMORY\): choose a smaller"
    ):
        DeviceMemory(0, 1 << 30, "a test")
    gpus._primary_context.cache_clear()


def test_what_the_driver_says() -> None:
    assert drive((0, 5), "count") == 5
    assert drive((0,), "count") is None
    with pytest.raises(EngineError, match=r"the GPU cannot count \(7\)"):
        drive((7,), "count")


@pytest.mark.parametrize("context", [0, 1000, 1001])
def test_a_shared_context_is_fine(driver: Callable[[Any], None], context: int) -> None:
    driver(in_context(context))
    gpus.refuse_foreign_context()


def test_a_context_of_somebodys_own_is_refused(driver: Callable[[Any], None]) -> None:
    driver(in_context(77))
    with pytest.raises(EngineError, match=r"import pycuda\.autoprimaryctx in place of pycuda\.autoinit"):
        gpus.refuse_foreign_context()


def in_context(context: int) -> FakeDriver:
    """Return a driver whose calling thread is in a context; those of the two GPUs are 1000 and 1001."""
    fake = FakeDriver()
    fake.cuCtxGetCurrent = lambda: (0, context)  # type: ignore[attr-defined]
    fake.cuCtxGetDevice = lambda: (0, context % 2)  # type: ignore[attr-defined]
    fake.cuDevicePrimaryCtxRetain = lambda device: (0, 1000 + device)  # type: ignore[attr-defined]
    return fake
