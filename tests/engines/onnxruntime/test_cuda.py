"""What ONNX Runtime is asked for on a GPU, against a stand-in for its package."""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seggd_engines.cuda import ALLOCATING
from seggd_engines.onnxruntime import OnnxRuntimeCudaEngine
from seggd_engines.onnxruntime import cuda as onnxruntime_cuda
from seggd_engines.onnxruntime.cpu import installed_builds
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import WARM_UPS, Buffer, Clock, LayerProfile, NetworkShape
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.gpu import Gpu

SHAPE = NetworkShape(1, 3, 24, 32)
GRAPH = OnnxGraph("unet.fp16.onnx", "tiny.seggd", b"")
CUDA = "CUDAExecutionProvider"


class FakeError(RuntimeError):
    """What the stand-in raises."""


class FakeSession(SimpleNamespace):
    """A session; unlike a plain namespace it can be referenced weakly."""


class FakeOrt:
    """The part of the package that the engine uses; it records what it is asked for."""

    def __init__(self) -> None:
        state = SimpleNamespace(RuntimeException=FakeError)
        for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented"):
            setattr(state, name, FakeError)
        self.capi = SimpleNamespace(onnxruntime_pybind11_state=state)
        self.providers = [CUDA, "CPUExecutionProvider"]
        self.loaded = [CUDA]
        self.channels = SHAPE.channels
        self.entries: dict[str, str] = {}
        self.run_entries: dict[str, str] = {}
        self.dimensions: dict[str, int] = {}
        self.asked: Any = None
        self.inputs: list[tuple[Any, ...]] = []
        self.runs = 0
        self.on_run: Callable[[], object] = lambda: None
        self.fails = False
        self.preloaded = False
        self.trace: list[dict[str, Any]] = []
        self.traced_to: Path | None = None

    def set_default_logger_severity(self, severity: int) -> None:
        self.severity = severity

    def preload_dlls(self) -> None:
        self.preloaded = True

    def get_available_providers(self) -> list[str]:
        return self.providers

    def SessionOptions(self) -> Any:
        return SimpleNamespace(
            add_free_dimension_override_by_name=self.dimensions.__setitem__,
            add_session_config_entry=self.entries.__setitem__,
        )

    def RunOptions(self) -> Any:
        return SimpleNamespace(add_run_config_entry=self.run_entries.__setitem__)

    def InferenceSession(self, graph: bytes, options: Any, providers: Any, enable_fallback: int) -> Any:
        self.asked = providers
        binding = SimpleNamespace(
            bind_input=lambda *given: self.inputs.append(given), bind_output=lambda *given: self.inputs.append(given)
        )

        def run(_: Any, options: Any) -> None:
            self.runs += 1
            self.on_run()
            if self.fails:
                raise FakeError("the GPU is on fire")

        def end_profiling() -> str:
            self.traced_to = Path(f"{options.profile_file_prefix}_1.json")
            self.traced_to.write_text(json.dumps(self.trace))
            return str(self.traced_to)

        size = (SHAPE.height, SHAPE.width)
        return FakeSession(
            get_providers=lambda: self.loaded,
            get_inputs=lambda: [
                SimpleNamespace(name="sample", type="tensor(float)", shape=[2, self.channels, *size]),
                SimpleNamespace(name="timestep", type="tensor(float)", shape=[2]),
            ],
            get_outputs=lambda: [SimpleNamespace(name="out", type="tensor(float)", shape=[2, 1, *size])],
            io_binding=lambda: binding,
            run_with_iobinding=run,
            end_profiling=end_profiling,
        )


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> FakeOrt:
    fake = FakeOrt()
    monkeypatch.setattr(onnxruntime_cuda, "require", lambda *_, **__: fake)
    monkeypatch.setattr(onnxruntime_cuda, "installed_builds", lambda: ("onnxruntime-gpu",))
    monkeypatch.setattr(onnxruntime_cuda.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(onnxruntime_cuda.importlib.metadata, "version", lambda _: "1.30")
    monkeypatch.setattr(onnxruntime_cuda, "find_gpu", lambda device: Gpu(int(device[-1]), "GPU", (9, 0), 1))
    return fake


def open_network(precision: Precision = Precision.FP16) -> Any:
    return OnnxRuntimeCudaEngine().open(GRAPH, SHAPE, device="cuda:1", precision=precision, threads=None)


def bind(network: Any) -> Any:
    return network.bind(Buffer(256, (2, 4, 24, 32)), Buffer(512, (2,)), Buffer(768, (2, 1, 24, 32)), 4711)


def test_buffers_are_bound_on_the_callers_stream(ort: FakeOrt) -> None:
    network = open_network()
    bind(network)()
    assert ort.preloaded
    ((provider, options),) = ort.asked
    assert provider == CUDA
    assert (options["device_id"], options["user_compute_stream"], options["use_tf32"]) == ("1", "4711", "0")
    assert ort.dimensions == {"batch": 2}
    assert ort.entries["session.disable_cpu_ep_fallback"] == "1"
    assert ort.run_entries["disable_synchronize_execution_providers"] == "1"
    assert [(given[0], given[1], given[2], given[-1]) for given in ort.inputs] == [
        ("sample", "cuda", 1, 256),
        ("timestep", "cuda", 1, 512),
        ("out", "cuda", 1, 768),
    ]
    assert ort.runs == 1
    assert (network.info.device, network.info.precision, network.capturable) == ("cuda:1", Precision.FP16, False)


def test_a_thread_records_at_its_first_call_and_nobody_allocates_meanwhile(ort: FakeOrt) -> None:
    call, seen = bind(open_network()), list[tuple[bool, bool]]()

    def try_to_allocate() -> bool:
        free: list[bool] = []

        def attempt() -> None:
            free.append(ALLOCATING.acquire(blocking=False))
            if free[0]:
                ALLOCATING.release()

        other = threading.Thread(target=attempt)
        other.start()
        other.join()
        return free[0]

    ort.on_run = lambda: seen.append((gc.isenabled(), try_to_allocate()))
    call()
    call()
    assert seen[0] == (False, False)
    assert seen[1] == (True, True)
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert seen[2] == (False, False), "a graph of its own"


def test_calls_may_be_recorded_where_it_records_none_itself(ort: FakeOrt) -> None:
    engine = OnnxRuntimeCudaEngine({"enable_cuda_graph": "0"})
    network = engine.open(GRAPH, SHAPE, device="cuda:1", precision=Precision.FP16, threads=None)
    assert network.capturable
    call = bind(network)
    assert ort.asked[0][1]["enable_cuda_graph"] == "0"
    call()
    assert ort.runs == 3, "before a recording it must have all its memory"
    call()
    assert ort.runs == 4


def profile(network: Any, runs: int = 2) -> LayerProfile:
    buffers = (Buffer(256, (2, 4, 24, 32)), Buffer(512, (2,)), Buffer(768, (2, 1, 24, 32)))
    found: LayerProfile = network.profile(*buffers, runs, 4711)
    return found


def test_a_profile_is_of_kernels_in_a_session_without_a_graph(ort: FakeOrt) -> None:
    for run in range(WARM_UPS + 2):
        at = 1000 * run
        ort.trace += [
            {"cat": "Session", "name": "model_run", "ts": at, "dur": 80, "args": {}},
            {"cat": "Node", "name": "c_kernel_time", "ts": at + 1, "dur": 9, "args": {"op_name": "Conv"}},
            {
                "cat": "Kernel",
                "name": "sm90_gemm",
                "ts": at + 5,
                "dur": 300,
                "args": {"op_name": "Conv", "parent_name": "c_kernel_time"},
            },
        ]
    found = profile(open_network())
    assert [(layer.name, layer.operator, layer.ms) for layer in found.layers] == [("c", "Conv", 0.3)]
    assert (found.clock, found.runs, ort.runs) == (Clock.DEVICE, 2, WARM_UPS + 2)
    ((_, options),) = ort.asked
    assert (options["enable_cuda_graph"], options["user_compute_stream"]) == ("0", "4711")
    assert not ort.run_entries, "each run is waited for"
    assert ort.traced_to is not None
    assert not ort.traced_to.parent.exists()
    bind(open_network())
    assert ort.asked[0][1]["enable_cuda_graph"] == "1"


def test_times_of_enqueueing_are_not_taken_for_those_of_the_gpu(ort: FakeOrt) -> None:
    for at in range(0, 5000, 1000):
        ort.trace += [
            {"cat": "Session", "name": "model_run", "ts": at, "dur": 80, "args": {}},
            {"cat": "Node", "name": "c_kernel_time", "ts": at + 1, "dur": 9, "args": {"op_name": "Conv"}},
        ]
    with pytest.raises(
        EngineUnavailableError, match=r"ONNX Runtime \(1.30\) times no kernels: .*--enable_cuda_profiling"
    ):
        profile(open_network())


def test_a_failure_is_an_engine_error(ort: FakeOrt) -> None:
    call = bind(open_network())
    ort.fails = True
    with pytest.raises(EngineError, match="on fire"):
        call()


def test_a_provider_that_did_not_load_is_no_silent_detour(ort: FakeOrt) -> None:
    ort.loaded = ["CPUExecutionProvider"]
    with pytest.raises(EngineUnavailableError, match="would run on the CPU"):
        bind(open_network())
    ort.providers = ["CPUExecutionProvider"]
    with pytest.raises(EngineUnavailableError, match="has no CUDAExecutionProvider"):
        open_network()


def test_a_graph_of_another_network_is_refused(ort: FakeOrt) -> None:
    ort.channels = 7
    with pytest.raises(EngineError, match="not the network of this manifest"):
        bind(open_network())


def test_it_computes_in_what_graphs_are_in(ort: FakeOrt) -> None:
    engine = OnnxRuntimeCudaEngine()
    assert engine.availability("cuda:0").precisions == (Precision.FP16, Precision.FP32)
    with pytest.raises(EngineUnavailableError, match="not in bf16"):
        open_network(Precision.BF16)


def test_a_build_in_a_folder_that_is_found_later_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(site: str, name: str) -> None:
        (tmp_path / site / "onnxruntime").mkdir(parents=True, exist_ok=True)
        (tmp_path / site / "onnxruntime" / "__init__.py").touch()
        info = tmp_path / site / f"{name.replace('-', '_')}-1.30.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.30.0\n")

    install("first", "onnxruntime-gpu")
    install("second", "onnxruntime")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second"), *sys.path])
    assert installed_builds() == ("onnxruntime-gpu",)
    install("first", "onnxruntime")
    assert installed_builds() == ("onnxruntime", "onnxruntime-gpu")


@pytest.mark.parametrize("builds", [("onnxruntime",), ("onnxruntime", "onnxruntime-gpu")])
def test_another_build_in_its_folder_is_noticed(
    ort: FakeOrt, monkeypatch: pytest.MonkeyPatch, builds: tuple[str, ...]
) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "installed_builds", lambda: builds)
    there = OnnxRuntimeCudaEngine().availability("cuda:0")
    assert not there.usable
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in there.reason
