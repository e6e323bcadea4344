"""The two TensorRT engines against a stand-in for the vendor's package and driver: no GPU runs here.

What the stand-in cannot show, a GPU host must: that plans load, and what they compute.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from seggd_engines.tensorrt import (
    BatchProfile,
    BuildOptions,
    Flavour,
    PlanCache,
    TensorRTEngine,
    TensorRTNetwork,
    find_or_build,
)
from seggd_engines.tensorrt import engine as tensorrt
from seggd_engines.tensorrt import flavor as tensorrt_flavour
from seggd_engines.tensorrt.build import build_plan
from seggd_engines.tensorrt.engine import PlanBuildWarning
from seggd_engines.tensorrt.inspect import check_inspected, operators
from seggd_engines.tensorrt.profile import make_listener
from seggd_rt.diffusion import Precision
from seggd_rt.engine import WARM_UPS, Buffer, Clock, LayerProfile
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.gpu import Gpu
from seggd_rt.gpu import devices as gpus
from tests.engines.tensorrt import fake_tensorrt
from tests.engines.tensorrt.fake_tensorrt import Script, layers, make_module
from tests.engines.tensorrt.plans import ADA, GRAPH, SHAPE, needs_filelock, needs_rtx

pytestmark = needs_filelock
HOPPER = Gpu(0, "NVIDIA H100", (9, 0), 80 << 30)
TURING = Gpu(0, "NVIDIA RTX 2080", (7, 5), 8 << 30)
BLOCKED = ("tensorrt", "tensorrt_rtx")


class FakeMemory:
    """Stands in for `DeviceMemory`."""

    free = 1 << 20

    def __init__(self, ordinal: int, size: int, what: str) -> None:
        if size > self.free:
            raise EngineError(f"the GPU cannot allocate {what}")
        self.address = 4096

    def close(self) -> None: ...


@pytest.fixture(params=[Flavour.TENSORRT, Flavour.TENSORRT_RTX])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    return Flavour(request.param)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """Put a stand-in for TensorRT and a GPU on this machine, with a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("WIN_PD_OVERRIDE_LOCAL_APPDATA", str(tmp_path / "cache"))

    def put(flavour: Flavour, *, gpu: Gpu = ADA, version: str | None = None, **played: Any) -> Script:
        rtx = flavour is Flavour.TENSORRT_RTX
        script = Script(rtx=rtx, **played)
        module = make_module(script, version or ("1.7.1.116" if rtx else "10.13.3.9"))
        module.__spec__ = ModuleSpec(flavour.module_name, None)
        monkeypatch.setitem(sys.modules, flavour.module_name, module)
        tensorrt_flavour._load.cache_clear()
        monkeypatch.setattr(gpus, "_look", lambda: ((gpu,), None))
        for where in ("tensorrt.engine", "tensorrt.build"):
            monkeypatch.setattr(f"seggd_engines.{where}.on_gpu", lambda ordinal: nullcontext())
        monkeypatch.setattr("seggd_engines.tensorrt.progress.make_current", lambda ordinal: None)
        monkeypatch.setattr(tensorrt, "DeviceMemory", FakeMemory)
        return script

    yield put
    tensorrt_flavour._load.cache_clear()


def open_tiny(flavour: Flavour, precision: Precision = Precision.FP32) -> TensorRTNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanBuildWarning)
        return TensorRTEngine(flavour).open(GRAPH, SHAPE, device="cuda:0", precision=precision, threads=None)


def bind(network: TensorRTNetwork, batch: int = 2, stream: int = 77) -> Callable[[], None]:
    shape = network.shape
    return network.bind(
        Buffer(256, (batch, shape.channels, shape.height, shape.width)),
        Buffer(512, (batch,)),
        Buffer(768, (batch, shape.image_channels, shape.height, shape.width)),
        stream,
    )


def test_opens_and_runs(flavour: Flavour, install: Callable[..., Script]) -> None:
    script = install(flavour)
    network = open_tiny(flavour)
    assert network.info.engine == flavour.value
    assert (network.info.device, network.info.device_name) == ("cuda:0", ADA.name)
    assert network.capturable
    call = bind(network)
    call()
    call()
    (context,) = script.contexts
    assert context.shapes == {"sample": (2, 4, 24, 32), "timestep": (2,)}
    assert context.addresses == {"sample": 256, "timestep": 512, "out": 768}
    assert context.memory == (4096, 2000), "memory for this batch, not for the largest"
    assert context.streams == [77, 77]
    bind(network, batch=1)
    assert len(script.contexts) == 2, "each bound call has a context of its own"
    network.close()
    network.close()


def profile(network: TensorRTNetwork, runs: int = 3) -> LayerProfile:
    return network.profile(Buffer(256, (2, 4, 24, 32)), Buffer(512, (2,)), Buffer(768, (2, 1, 24, 32)), runs, 77)


def test_a_profile_has_the_inspectors_operators(flavour: Flavour, install: Callable[..., Script]) -> None:
    script = install(flavour, inspected=layers("FP32"))
    network = open_tiny(flavour)
    bind(network)
    found = profile(network)
    assert [(layer.name, layer.operator, layer.calls, layer.ms) for layer in found.layers] == [
        ("conv", "Convolution", 1, 0.5),
        ("reformat", "unknown", 1, 0.25),
    ]
    assert (found.clock, found.runs) == (Clock.DEVICE, 3)
    plain, profiled = script.contexts
    assert (plain.profiler, plain.streams) == (None, []), "what draws images is not slowed"
    assert profiled.streams == [77] * (WARM_UPS + 3)


def test_a_profile_that_fails_says_why(flavour: Flavour, install: Callable[..., Script]) -> None:
    script = install(flavour, runs=False, says=["illegal address"])
    network = open_tiny(flavour)
    with pytest.raises(EngineError, match=r"failed: illegal address"):
        profile(network)
    script.runs, script.says, script.layer_ms = True, [], {}
    with pytest.raises(EngineError, match="told nothing of its layers"):
        profile(network)


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ("", {}),
        ('{"Layers": ["conv", "reformat"]}', {}),
        ('{"Layers": [{"Name": "conv", "LayerType": "Convolution"}, {"Name": "x"}]}', {"conv": "Convolution"}),
    ],
)
def test_what_the_inspector_says_of_operators(report: str, found: dict[str, str]) -> None:
    assert operators(report) == found


@pytest.mark.parametrize("report", ["conv", "[]", '{"Bindings": []}', '{"Layers": 3}'])
def test_an_inspector_that_is_not_understood(report: str) -> None:
    with pytest.raises(EngineError, match="inspector cannot be understood"):
        operators(report)


def test_contexts_bring_no_memory_and_no_graphs_of_their_own(flavour: Flavour, install: Callable[..., Script]) -> None:
    script = install(flavour)
    bind(open_tiny(flavour))
    asked = script.contexts[0].asked
    if flavour is Flavour.TENSORRT:
        assert asked.name == "USER_MANAGED"
    else:
        assert asked.strategy.name == "USER_MANAGED"
        assert asked.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
        assert asked.cuda_graph_strategy.name == "DISABLED"


@pytest.mark.parametrize(
    ("flavour", "version", "has_flag", "typed"),
    [
        (Flavour.TENSORRT, "10.13.3.9", True, 2),
        (Flavour.TENSORRT, "11.0.0.1", True, 2),
        (Flavour.TENSORRT, "11.9.0.1", False, 0),
        (Flavour.TENSORRT_RTX, "1.7.1", True, 2),
        (Flavour.TENSORRT_RTX, "1.9.0", False, 0),
    ],
)
def test_networks_are_strongly_typed_on_every_version(
    flavour: Flavour, version: str, has_flag: bool, typed: int, install: Callable[..., Script]
) -> None:
    script = install(flavour, version=version, strongly_typed_flag=has_flag)
    build_plan(GRAPH, SHAPE, BuildOptions(flavour, Precision.FP32), gpu=ADA)
    assert script.network_flags == [typed]
    assert "TF32" not in script.flags


def test_a_version_that_would_type_weakly_is_refused(install: Callable[..., Script]) -> None:
    install(Flavour.TENSORRT, strongly_typed_flag=False)
    with pytest.raises(EngineUnavailableError, match=r"10.13.3.9 cannot type networks strongly"):
        build_plan(GRAPH, SHAPE, BuildOptions(Flavour.TENSORRT, Precision.FP32), gpu=ADA)


@pytest.mark.parametrize("version", ["10.12.0.36", "11.2.0"])
def test_fp16_of_a_float_network_is_refused(version: str, install: Callable[..., Script]) -> None:
    install(Flavour.TENSORRT, version=version)
    with pytest.raises(EngineError, match="not a graph in fp16: 1 layers, as conv_in, compute in FLOAT"):
        build_plan(GRAPH, SHAPE, BuildOptions(Flavour.TENSORRT, Precision.FP16), gpu=ADA)


@pytest.mark.parametrize(("flavour", "version"), [(Flavour.TENSORRT, "10.11.0"), (Flavour.TENSORRT_RTX, "1.1.1")])
def test_old_versions_are_refused(flavour: Flavour, version: str, install: Callable[..., Script]) -> None:
    install(flavour, version=version)
    there = TensorRTEngine(flavour).availability("cuda:0")
    assert not there.usable
    assert f"{version} is too old" in there.reason
    assert f"pip install -U 'seggd-rt[{flavour}]'" in there.reason


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, set()),
        ({"strip_weights": True}, {"STRIP_PLAN", "REFIT_IDENTICAL"}),
        ({"version_compatible": True}, {"VERSION_COMPATIBLE"}),
    ],
)
def test_what_tensorrt_is_told(options: dict[str, Any], flags: set[str], install: Callable[..., Script]) -> None:
    script = install(Flavour.TENSORRT)
    batch = BatchProfile(1, 4, 16)
    build_plan(GRAPH, SHAPE, BuildOptions(Flavour.TENSORRT, Precision.FP32, batch=batch, **options), gpu=ADA)
    assert script.flags == flags
    assert script.config.profile["sample"] == ((1, 4, 24, 32), (4, 4, 24, 32), (16, 4, 24, 32))
    assert script.config.profile["timestep"] == ((1,), (4,), (16,))
    assert script.config.profiling_verbosity.name == "DETAILED"
    assert not hasattr(script.config, "hardware_compatibility_level")
    build_plan(GRAPH, SHAPE, BuildOptions(Flavour.TENSORRT, Precision.FP32, hardware_compatible=True), gpu=ADA)
    assert script.config.hardware_compatibility_level.name == "AMPERE_PLUS"


def test_what_tensorrt_rtx_is_told(install: Callable[..., Script]) -> None:
    script = install(Flavour.TENSORRT_RTX)
    capabilities = ("8.6", "12.0")
    build_plan(GRAPH, SHAPE, BuildOptions(Flavour.TENSORRT_RTX, Precision.FP32, compute_capabilities=capabilities))
    assert script.flags == {"REQUIRE_USER_ALLOCATION"}
    assert script.config.num_compute_capabilities == 2
    assert [member.name for member in script.config.capabilities] == ["SM86", "SM120"]
    assert script.timing == [], "its timing cache would ask for a GPU"


def test_measurements_of_another_gpu_are_left_out(install: Callable[..., Script]) -> None:
    script = install(Flavour.TENSORRT)
    options = BuildOptions(Flavour.TENSORRT, Precision.FP32)
    assert build_plan(GRAPH, SHAPE, options, gpu=ADA, timing_cache=b"times").timing_cache == b"times+"
    assert build_plan(GRAPH, SHAPE, options, gpu=ADA, timing_cache=b"of another GPU").timing_cache == b"+"
    assert script.timing == [b"times", b"of another GPU", b""]


def test_what_tensorrt_says_reaches_the_user(install: Callable[..., Script]) -> None:
    options = BuildOptions(Flavour.TENSORRT, Precision.FP32)
    install(Flavour.TENSORRT, warns=["subnormal weights"])
    with pytest.warns(RuntimeWarning, match="TensorRT: subnormal weights"):
        build_plan(GRAPH, SHAPE, options, gpu=ADA)
    install(Flavour.TENSORRT, plan=None, says=["out of workspace"])
    with pytest.raises(EngineError, match=r"TensorRT cannot build unet.fp32.onnx: out of workspace"):
        build_plan(GRAPH, SHAPE, options, gpu=ADA)


def test_builds_what_is_missing_and_says_so(flavour: Flavour, install: Callable[..., Script]) -> None:
    install(flavour)
    engine = TensorRTEngine(flavour)
    with pytest.warns(PlanBuildWarning, match=r"building the TensorRT.* plan of tiny.seggd in fp32.*does it ahead"):
        engine.open(GRAPH, SHAPE, device="cuda:0", precision=Precision.FP32, threads=None).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.open(GRAPH, SHAPE, device="cuda:0", precision=Precision.FP32, threads=None).close()


def test_takes_the_plan_that_was_built_for_a_larger_batch(flavour: Flavour, install: Callable[..., Script]) -> None:
    script = install(flavour, profile=(1, 1, 8))
    with pytest.raises(EngineError, match=rf"batches of 1 to 8, not 9: .*--engine {flavour} .*--batch 1:1:9"):
        bind(open_tiny(flavour), batch=9)
    with pytest.raises(EngineError, match="batches of 1 to 8, not 10"):
        open_tiny(flavour).session(5, lanes=2)
    script.plan, script.profile = b"a larger plan", (1, 1, 16)
    options = BuildOptions(flavour, Precision.FP32, batch=BatchProfile(1, 1, 16))
    find_or_build(PlanCache.of_user(), GRAPH, SHAPE, options, gpu=ADA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = TensorRTEngine(flavour).open(GRAPH, SHAPE, device="cuda:0", precision=Precision.FP32, threads=None)
    bind(network, batch=9)()


def test_a_plan_that_does_not_load(flavour: Flavour, install: Callable[..., Script]) -> None:
    install(flavour, loads=False, says=["built for another device"])
    reason = "unsupported cc; built for" if flavour is Flavour.TENSORRT_RTX else "built for"
    with pytest.raises(EngineError, match=rf"cannot load the plan .* on the {ADA.name} .*cache clear.*: {reason}"):
        open_tiny(flavour)


def test_a_plan_of_another_gpu_is_not_taken(install: Callable[..., Script]) -> None:
    install(Flavour.TENSORRT, gpu=ADA)
    open_tiny(Flavour.TENSORRT)
    install(Flavour.TENSORRT, gpu=HOPPER)
    with pytest.warns(PlanBuildWarning):
        TensorRTEngine(Flavour.TENSORRT).open(GRAPH, SHAPE, device="cuda:0", precision=Precision.FP32, threads=None)
    assert {record.key.gpu for record in PlanCache.of_user().records()} == {ADA.name, HOPPER.name}


def test_stripped_plans_take_the_weights_from_the_graph(install: Callable[..., Script]) -> None:
    script = install(Flavour.TENSORRT)
    options = BuildOptions(Flavour.TENSORRT, Precision.FP32, strip_weights=True)
    find_or_build(PlanCache.of_user(), GRAPH, SHAPE, options, gpu=ADA)
    open_tiny(Flavour.TENSORRT)
    assert script.refitted_from == [GRAPH.model]
    script.refits = False
    with pytest.raises(EngineError, match=r"cannot put the weights of unet.fp32.onnx into the plan"):
        open_tiny(Flavour.TENSORRT)


def test_host_code_is_allowed_for_version_compatible_plans_alone(install: Callable[..., Script]) -> None:
    script = install(Flavour.TENSORRT)
    open_tiny(Flavour.TENSORRT)
    assert not script.host_code_allowed
    options = BuildOptions(Flavour.TENSORRT, Precision.FP32, version_compatible=True)
    find_or_build(PlanCache.of_user(), GRAPH, SHAPE, options, gpu=ADA)
    open_tiny(Flavour.TENSORRT)
    assert script.host_code_allowed


@pytest.mark.parametrize(
    ("precision", "types", "refused"),
    [
        (Precision.FP16, ("FP16", "FP32"), False),
        (Precision.FP16, ("Half", "Float"), False),
        (Precision.FP16, ("FP32", "FP32"), True),
        (Precision.FP16, ("Float",), True),
        (Precision.FP16, ("FP16", "BF16"), True),
        (Precision.BF16, ("BF16", "FP32"), False),
        (Precision.BF16, ("BFloat16",), False),
        (Precision.BF16, ("FP32",), True),
        (Precision.FP32, ("FP32",), False),
        (Precision.FP32, ("FP32", "FP16"), True),
        (Precision.FP16, (), False),
    ],
)
def test_the_inspector_is_asked(precision: Precision, types: tuple[str, ...], refused: bool) -> None:
    if refused:
        with pytest.raises(EngineError, match=f"was built for {precision}, but its inspector names"):
            check_inspected(layers(*types), precision)
    else:
        check_inspected(layers(*types), precision)


def test_an_engine_in_another_precision_is_refused_when_it_is_loaded(
    flavour: Flavour, install: Callable[..., Script]
) -> None:
    install(flavour, dtype="HALF", inspected=layers("FP32"))
    with pytest.raises(EngineError, match="was built for fp16, but its inspector names fp32 1 times"):
        open_tiny(flavour, Precision.FP16)


def test_an_engine_of_another_network_is_refused(flavour: Flavour, install: Callable[..., Script]) -> None:
    install(flavour)
    open_tiny(flavour).close()  # the plan is in the cache now, so that only the loaded engine tells
    other = dataclasses.replace(SHAPE, height=32, width=24)
    with pytest.raises(EngineError, match="not the network of this manifest"):
        TensorRTEngine(flavour).open(GRAPH, other, device="cuda:0", precision=Precision.FP32, threads=None)


def test_compiled_kernels_are_kept_beside_the_plan(install: Callable[..., Script]) -> None:
    script = install(Flavour.TENSORRT_RTX)
    open_tiny(Flavour.TENSORRT_RTX).close()
    (kept,) = PlanCache.of_user().folder.glob("*.kernels")
    assert kept.read_bytes() == b"k"
    open_tiny(Flavour.TENSORRT_RTX).close()
    assert script.kernels == [b"k"]
    assert kept.read_bytes() == b"kk"
    install(Flavour.TENSORRT_RTX, accepts_kernels=False)
    open_tiny(Flavour.TENSORRT_RTX).close()
    assert kept.read_bytes() == b"k", "those that do not fit are compiled again"


def test_plain_tensorrt_keeps_no_kernels(install: Callable[..., Script]) -> None:
    install(Flavour.TENSORRT)
    open_tiny(Flavour.TENSORRT).close()
    assert not list(PlanCache.of_user().folder.glob("*.kernels"))


def test_a_context_that_cannot_be_captured_says_so(install: Callable[..., Script]) -> None:
    install(Flavour.TENSORRT_RTX, capturable=False)
    network = open_tiny(Flavour.TENSORRT_RTX)
    bind(network)
    assert not network.capturable


def test_a_refused_run_is_an_error(flavour: Flavour, install: Callable[..., Script]) -> None:
    install(flavour, runs=False, says=["illegal address"])
    call = bind(open_tiny(flavour))
    with pytest.raises(EngineError, match=r"TensorRT.* failed: illegal address"):
        call()


def test_too_little_device_memory(
    flavour: Flavour, install: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(flavour)
    network = open_tiny(flavour)
    monkeypatch.setattr(FakeMemory, "free", 1500)
    bind(network, batch=1)
    with pytest.raises(EngineError, match="cannot allocate the network's activations"):
        bind(network, batch=2)


@pytest.mark.parametrize(
    ("flavour", "gpu", "precisions", "reason"),
    [
        (Flavour.TENSORRT, HOPPER, (Precision.FP16, Precision.FP32, Precision.BF16), ""),
        (Flavour.TENSORRT, TURING, (Precision.FP16, Precision.FP32), ""),
        (Flavour.TENSORRT, dataclasses.replace(TURING, compute_capability=(7, 0)), (), "7.5 and newer"),
        (Flavour.TENSORRT_RTX, ADA, (Precision.FP16, Precision.FP32, Precision.BF16), ""),
        (Flavour.TENSORRT_RTX, TURING, (), "runs on compute capability 8.0, 8.6, 8.9, 12.0, and the NVIDIA RTX 2080"),
        (Flavour.TENSORRT_RTX, HOPPER, (), "and the NVIDIA H100 has 9.0: choose another engine"),
    ],
)
def test_which_gpus_and_precisions(
    flavour: Flavour, gpu: Gpu, precisions: tuple[Precision, ...], reason: str, install: Callable[..., Script]
) -> None:
    install(flavour, gpu=gpu)
    there = TensorRTEngine(flavour).availability("cuda:0")
    assert (there.usable, there.precisions) == (not reason, precisions)
    assert reason in there.reason
    assert there.device_name == (gpu.name if there.usable else "")


def test_a_gpu_that_is_not_listed_may_be_tried(install: Callable[..., Script]) -> None:
    install(Flavour.TENSORRT_RTX, gpu=HOPPER)
    assert TensorRTEngine(Flavour.TENSORRT_RTX, any_gpu=True).availability("cuda:0").usable


def test_what_is_not_there_is_one_line(flavour: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TensorRTEngine(flavour)
    monkeypatch.setattr(Flavour, "installed", property(lambda flavour: True))
    monkeypatch.setattr(gpus, "_look", lambda: ((), "no NVIDIA driver is installed here: install one"))
    for device, reason in (("cuda:0", "no NVIDIA driver is installed here"), ("cpu", "as device 'cuda:0', not on cpu")):
        assert reason in engine.availability(device).reason
        with pytest.raises(EngineUnavailableError, match=reason) as failure:
            engine.open(GRAPH, SHAPE, device=device, precision=Precision.FP16, threads=None)
        assert "\n" not in str(failure.value)
    monkeypatch.setattr(Flavour, "installed", property(lambda flavour: False))
    assert engine.availability("cuda:0").reason == f"not installed: pip install 'seggd-rt[{flavour}]'"


def test_a_precision_that_the_gpu_has_not(install: Callable[..., Script]) -> None:
    install(Flavour.TENSORRT, gpu=TURING)
    with pytest.raises(EngineUnavailableError, match="computes in fp16, fp32, not in bf16"):
        open_tiny(Flavour.TENSORRT, Precision.BF16)


def test_a_package_that_is_broken(install: Callable[..., Script], monkeypatch: pytest.MonkeyPatch) -> None:
    install(Flavour.TENSORRT)

    def broken(name: str) -> None:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", broken)
    there = TensorRTEngine(Flavour.TENSORRT).availability("cuda:0")
    assert "installed but cannot be loaded (libnvinfer.so.10" in there.reason


@needs_rtx
def test_the_stand_in_has_the_names_of_the_real_package() -> None:
    real = Flavour.TENSORRT_RTX.load().module
    script = Script(rtx=True)
    played = make_module(script, "1.7.1")
    for name in vars(played):
        assert name.startswith("__") or hasattr(real, name), name
    builder = fake_tensorrt.Builder(played, script, played.ILogger())
    engine = fake_tensorrt.Engine(played, script, lambda: None)
    for fake, vendors in (
        (fake_tensorrt.Builder, real.Builder),
        (fake_tensorrt.Engine, real.ICudaEngine),
        (fake_tensorrt.Context, real.IExecutionContext),
        (fake_tensorrt.Runtime, real.Runtime),
        (builder.create_builder_config(), real.IBuilderConfig),
        (fake_tensorrt.Runtime(played, script, played.ILogger()), real.Runtime),
        (engine.create_runtime_config(), real.IRuntimeConfig),
    ):
        assert _public(fake) <= {*dir(vendors), "capabilities"}, vendors
    kinds = ("BuilderFlag", "LayerType", "DataType", "CudaGraphStrategy", "EngineInvalidityDiagnostics")
    for kind in (*kinds, "DynamicShapesKernelSpecializationStrategy", "ProfilingVerbosity", "EngineValidity"):
        assert set(getattr(played, kind).__members__) <= set(getattr(real, kind).__members__), kind
    assert {"profiling_verbosity", "builder_optimization_level", "progress_monitor", "num_compute_capabilities"} <= set(
        dir(real.IBuilderConfig)
    )
    assert {"dynamic_shapes_kernel_specialization_strategy", "cuda_graph_strategy"} <= set(dir(real.IRuntimeConfig))
    assert {"profiler", "enqueue_emits_profile"} <= set(dir(real.IExecutionContext))


@needs_rtx
def test_the_real_package_takes_the_listener() -> None:
    module, told = Flavour.TENSORRT_RTX.load().module, list[tuple[str, float]]()
    listener = make_listener(module, told)
    assert isinstance(listener, module.IProfiler)
    listener.report_layer_time("conv", 0.5)
    assert told == [("conv", 0.5)]


def _public(thing: Any) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("_")}
