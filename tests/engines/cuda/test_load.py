"""Loading on a GPU: which engine and precision `auto` takes there, and what an engine must prove first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

import seggd_rt
from seggd_engines.cuda import CudaSession
from seggd_engines.onnxruntime import OnnxRuntimeEngine
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import Availability, Buffer, DeviceKind, EngineInfo, Network, NetworkShape, registry
from seggd_rt.errors import EngineCheckError, EngineUnavailableError, OptionError
from seggd_rt.gpu import Gpu
from seggd_rt.gpu import devices as gpus
from tests.bundles import TINY, copy_bundle, edit_manifest
from tests.engines.cuda.emulated import STREAMS, EmulatedStream, Work

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")
HALF = (Precision.FP16, Precision.FP32)


@dataclass
class Emulated:
    """ONNX Runtime on an emulated GPU, whose second image of a batch is off by a factor."""

    network: Network
    info: EngineInfo
    row_error: float
    max_batch: int | None = None
    capturable: bool = True

    @property
    def shape(self) -> NetworkShape:
        return self.network.shape

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Work:
        from tests.engines.analytic import host_array

        call, output = self.network.bind(sample, timestep, out), host_array(out)

        def work() -> None:
            call()
            output[1:] *= np.float32(1 + self.row_error)

        return lambda: STREAMS[stream].enqueue(work)

    def session(self, batch: int, lanes: int = 1) -> CudaSession:
        return CudaSession(self, EmulatedStream(), batch, lanes)

    def close(self) -> None:
        self.network.close()


@dataclass
class GpuEngine:
    """An engine on emulated GPUs."""

    name: str = "gpu"
    row_error: float = 0.0
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    reason: str = ""
    max_batch: int | None = None
    kind: DeviceKind = DeviceKind.CUDA
    opened: list[tuple[str, Precision]] = field(default_factory=list)

    def availability(self, device: str) -> Availability:
        return Availability(not self.reason, "1", "GPU", self.precisions, self.reason)

    def graph_precision(self, precision: Precision) -> Precision:
        return precision

    def open(
        self, graph: OnnxGraph, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> Emulated:
        self.opened.append((device, precision))
        network = OnnxRuntimeEngine().open(graph, shape, device="cpu", precision=Precision.FP32, threads=1)
        info = replace(network.info, engine=self.name, version="1", device=device, precision=precision)
        return Emulated(network, info, self.row_error, self.max_batch)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Give the machine GPUs and engines."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def give(*engines: object, count: int = 1) -> None:
        found = tuple(Gpu(i, "GPU", (9, 0), 1 << 30) for i in range(count))
        monkeypatch.setattr(gpus, "_look", lambda: (found, None if found else "there is none"))
        monkeypatch.setattr(registry, "engines", lambda: engines)

    return give


def test_auto_takes_the_gpu_where_there_is_one(machine: Callable[..., None]) -> None:
    machine(GpuEngine("first", reason="not installed"), GpuEngine("second"), OnnxRuntimeEngine())
    with seggd_rt.load(TINY) as generator:
        assert (generator.engine.engine, generator.engine.device) == ("second", "cuda:0")
        assert generator.engine.notes == ("first: not installed",)


def test_auto_takes_the_cpu_where_no_engine_can_use_the_gpu(machine: Callable[..., None]) -> None:
    machine(GpuEngine("gpu", reason="not installed"), OnnxRuntimeEngine())
    with seggd_rt.load(TINY) as generator:
        assert (generator.engine.engine, generator.engine.device) == ("onnxruntime", "cpu")
        assert generator.engine.notes == ("gpu: not installed",)
    with pytest.raises(EngineUnavailableError, match="no engine can run on cuda:0: gpu: not installed"):
        seggd_rt.load(TINY, device="cuda:0")


def test_without_a_gpu_auto_does_not_ask_its_engines(machine: Callable[..., None]) -> None:
    machine(GpuEngine(), OnnxRuntimeEngine(), count=0)
    with seggd_rt.load(TINY) as generator:
        assert (generator.engine.engine, generator.engine.notes) == ("onnxruntime", ())


@pytest.mark.parametrize(("device", "opened"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("auto", "cuda:0")])
def test_devices_are_named(machine: Callable[..., None], device: str, opened: str) -> None:
    engine = GpuEngine()
    machine(engine, count=2)
    with seggd_rt.load(TINY, engine="gpu", device=device) as generator:
        assert generator.engine.device == opened
    assert engine.opened == [(opened, Precision.FP32)]


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CUDA:0", "cpu:0", ""])
def test_what_is_no_device(machine: Callable[..., None], device: str) -> None:
    machine(GpuEngine())
    with pytest.raises(OptionError, match="there is no device"):
        seggd_rt.load(TINY, device=device)


def test_equal_images_of_a_batch_must_come_out_equal(machine: Callable[..., None]) -> None:
    machine(GpuEngine(row_error=1e-4))
    with pytest.raises(EngineCheckError, match=r"two equal images of a batch .* differ by 1.*e-04, over 1e-05"):
        seggd_rt.load(TINY, precision="fp32")


def test_a_plan_of_single_images_has_no_pairs_to_check(machine: Callable[..., None]) -> None:
    machine(GpuEngine(row_error=1e-4, max_batch=1))
    with seggd_rt.load(TINY) as generator:
        assert generator.engine.engine == "gpu"


def test_auto_takes_a_precision_that_the_bundle_has(machine: Callable[..., None], tmp_path: Path) -> None:
    there = {graph.precision for graph in seggd_rt.Bundle.open(TINY).manifest.graphs}
    assert there == {Precision.FP32}
    engine = GpuEngine(precisions=HALF)
    machine(engine)
    with seggd_rt.load(TINY) as generator:
        assert generator.engine.precision is Precision.FP32
    half = copy_bundle(TINY, tmp_path)
    edit_manifest(half, {"graphs.0.precision": "fp16"})
    with seggd_rt.load(half) as generator:
        assert generator.engine.precision is Precision.FP16
