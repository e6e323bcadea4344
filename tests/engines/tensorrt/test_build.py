"""Plans built by the real TensorRT-RTX, which needs no GPU for it. What TensorRT is told: `test_engine.py`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from seggd_engines.tensorrt import BatchProfile, BuildOptions, BuildProgress, Flavour
from seggd_engines.tensorrt.build import build_plan, check_size
from seggd_engines.tensorrt.flavor import Messages, tidy
from seggd_engines.tensorrt.progress import Phases
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import NetworkShape
from seggd_rt.errors import EngineError, EngineUnavailableError, MissingExtraError, OptionError
from tests.bundles import TINY_RGB
from tests.engines.tensorrt.plans import GRAPH, SHAPE, needs_rtx, rtx


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, OnnxGraph]:
    """The tiny network of seggd_training, with attention, in every precision; weights beside the graph."""
    return _graphs("tiny", (32, 32), tmp_path_factory.mktemp("graphs"), tuple(Precision))


def _graphs(
    name: str, size: tuple[int, int], folder: Path, precisions: tuple[Precision, ...]
) -> dict[Precision, OnnxGraph]:
    """Trace a network with random weights, without the proof that an export adds."""
    pytest.importorskip("torch", reason="the export side is not installed")
    import onnx_ir as ir

    from seggd_export.graphs import Network, to_half, trace
    from seggd_training.loop import build_unet, unet_config

    unet = build_unet(unet_config(name, image_channels=1, mask_channels=1, size=size)).eval()
    network = Network(unet, 1000)
    traced = trace(network, *size)
    paths = {}
    for precision in precisions:
        model = traced if precision is Precision.FP32 else to_half(traced, precision, network.float32_modules())
        paths[precision] = folder / f"unet.{precision}.onnx"
        ir.save(model, paths[precision], external_data=f"unet.{precision}.data")
    return {precision: OnnxGraph.read(path) for precision, path in paths.items()}


GREY = NetworkShape(1, 1, 32, 32)


@needs_rtx
@pytest.mark.parametrize(
    ("graph", "shape"),
    [(GRAPH, SHAPE), (OnnxGraph.read(TINY_RGB / "unet.fp32.onnx"), NetworkShape(3, 1, 16, 20))],
    ids=["grey", "rgb"],
)
def test_builds_the_tiny_bundles(graph: OnnxGraph, shape: NetworkShape) -> None:
    told: list[BuildProgress] = []
    plan = build_plan(graph, shape, rtx(batch=BatchProfile(1, 4, 16)), on_progress=told.append)
    assert len(plan.data) > graph.size
    assert plan.version.startswith("1.")
    shares = [progress.share for progress in told]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert 0.5 < shares[-1] <= 1


@needs_rtx
@pytest.mark.parametrize("precision", list(Precision))
def test_the_plan_has_the_precision_of_the_graph(graphs: dict[Precision, OnnxGraph], precision: Precision) -> None:
    plan = build_plan(graphs[precision], GREY, rtx(precision))
    # Without its external data there would be no weights in the plan.
    assert len(plan.data) > sum(map(len, graphs[precision].external.values())) > 0


@needs_rtx
@pytest.mark.parametrize(
    ("there", "asked"),
    [(there, asked) for there in Precision for asked in Precision if there is not asked],
    ids=lambda precision: str(precision),
)
def test_a_graph_in_another_precision_is_refused(
    graphs: dict[Precision, OnnxGraph], there: Precision, asked: Precision
) -> None:
    with pytest.raises(EngineError, match=f"unet.{there}.onnx is not a graph in {asked}: .* --precision {asked}"):
        build_plan(graphs[there], GREY, rtx(asked))


@needs_rtx
def test_a_graph_without_anything_to_tell_its_precision_by(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the export side is not installed")
    tensor = onnx.helper.make_tensor_value_info
    inputs = [tensor("sample", 1, ["n", 4, 24, 32]), tensor("timestep", 1, ["n"])]
    starts, ends, axes = (
        onnx.helper.make_tensor(name, 7, [1], [value]) for name, value in (("starts", 0), ("ends", 1), ("axes", 1))
    )
    node = onnx.helper.make_node("Slice", ["sample", "starts", "ends", "axes"], ["out"])
    outputs = [tensor("out", 1, ["n", 1, 24, 32])]
    graph = onnx.helper.make_graph([node], "graph", inputs, outputs, initializer=[starts, ends, axes])
    path = tmp_path / "unet.fp32.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    with pytest.raises(EngineError, match="not a graph in fp32: it has no convolution"):
        build_plan(OnnxGraph.read(path), SHAPE, rtx())


@needs_rtx
def test_compute_capabilities(graphs: dict[Precision, OnnxGraph]) -> None:
    graph = graphs[Precision.FP16]
    assert build_plan(graph, GREY, rtx(Precision.FP16, compute_capabilities=("8.6", "8.9", "12.0"))).data
    with pytest.raises(EngineUnavailableError, match=r"cannot build for compute capability 9.0, only for 7.5, 8.0"):
        build_plan(graph, GREY, rtx(Precision.FP16, compute_capabilities=("9.0",)))
    with pytest.raises(EngineError, match=r"cannot build unet.fp16.onnx: .*SM75.*FP32 GEMM is not supported"):
        build_plan(graph, GREY, rtx(Precision.FP16, compute_capabilities=("7.5",)))


@needs_rtx
def test_graphs_that_cannot_be_read(tmp_path: Path, graphs: dict[Precision, OnnxGraph]) -> None:
    for name, data in (("cut", GRAPH.model[:1500]), ("text", b"no graph")):
        with pytest.raises(EngineError, match=f"cannot open {name}.onnx"):
            build_plan(OnnxGraph(f"{name}.onnx", "", data), SHAPE, rtx())
    alone = OnnxGraph("alone.onnx", "", graphs[Precision.FP32].model, {"other": b""})
    with pytest.raises(EngineError, match=r"cannot open alone\.onnx"):
        build_plan(alone, GREY, rtx())
    for shape in (NetworkShape(2, 3, 24, 32), NetworkShape(1, 2, 24, 32), NetworkShape(1, 3, 32, 24)):
        with pytest.raises(EngineError, match="not the network of this manifest"):
            build_plan(GRAPH, shape, rtx())


@needs_rtx
def test_what_the_parser_says_reaches_the_user(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the export side is not installed")
    model = onnx.load_from_string(GRAPH.model)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    first.op_type, first.name = "NoSuchOperator", "conv_in"
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(
        EngineError, match=r"TensorRT-RTX cannot open odd.onnx: conv_in \(NoSuchOperator\): .*Plugin not found"
    ):
        build_plan(OnnxGraph.read(tmp_path / "odd.onnx"), SHAPE, rtx())


@needs_rtx
def test_an_exception_in_the_callers_thread_cancels_the_build(graphs: dict[Precision, OnnxGraph]) -> None:
    told: list[BuildProgress] = []
    caller = threading.current_thread()

    def show(progress: BuildProgress) -> None:
        assert threading.current_thread() is caller
        told.append(progress)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(graphs[Precision.FP32], GREY, rtx(), on_progress=show)
    assert len(told) == 3
    assert not [thread for thread in threading.enumerate() if thread.name == "seggd-build"]
    assert build_plan(graphs[Precision.FP32], GREY, rtx()).data, "a cancelled build disturbs the next one"


@needs_rtx
@pytest.mark.parametrize("options", [{"compute_capabilities": ("current",)}, {"strip_weights": True}])
def test_what_needs_a_gpu_says_so(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seggd_engines.tensorrt.build.why_no_gpu", lambda: "there is none: buy one")
    with pytest.raises(EngineUnavailableError, match=r"TensorRT-RTX cannot build this without a GPU: .* buy one"):
        build_plan(GRAPH, SHAPE, rtx(**options))


@needs_rtx
@pytest.mark.slow
def test_builds_the_reference_network(tmp_path: Path) -> None:
    # Traced here in 16 s rather than exported: the proof of an export runs PyTorch for minutes.
    precisions = (Precision.FP32, Precision.FP16)
    graphs = _graphs("reference", (256, 256), tmp_path, precisions)
    sizes = {}
    for precision in precisions:
        plan = build_plan(graphs[precision], NetworkShape(1, 1, 256, 256), rtx(precision, batch=BatchProfile(1, 1, 16)))
        sizes[precision] = len(plan.data)
    assert sizes[Precision.FP32] > 4 * 113.6e6
    assert 2 * 113.6e6 < sizes[Precision.FP16] < 0.6 * sizes[Precision.FP32]


@pytest.mark.parametrize(
    ("weights", "plan"),
    [(11_494_118, 30_131_284), (227_400_000, 467_707_060)],
    ids=["demo", "reference"],
)
def test_a_half_plan_as_large_as_a_single_one_is_refused(weights: int, plan: int) -> None:
    # Sizes as built: half weights, and the plan of the same network in fp32.
    with pytest.raises(EngineError, match="built in fp32, so it is refused"):
        check_size(plan, weights, Precision.FP16)
    check_size(plan, weights, Precision.FP32)
    check_size(weights + (12 << 20), weights, Precision.FP16)


@pytest.mark.parametrize("text", ["0:1:8", "2:1:8", "1:9:8", "1:1:1025", "1:8", "a:b:c", "", "-1:1:1", "1:1:8:9"])
def test_bad_batch_profiles(text: str) -> None:
    with pytest.raises(OptionError, match=r"the batch profile is .*MIN:BEST:MAX"):
        BatchProfile.parse(text)


def test_batch_profiles() -> None:
    assert BatchProfile.parse("4") == BatchProfile(4, 4, 4)
    assert str(BatchProfile.parse("1:2:16")) == "1:2:16"


@pytest.mark.parametrize(
    ("flavour", "options", "message"),
    [
        (Flavour.TENSORRT, {"compute_capabilities": ("8.9",)}, "tensorrt builds for the GPU it runs on"),
        (Flavour.TENSORRT_RTX, {"hardware_compatible": True}, "only tensorrt has"),
        (Flavour.TENSORRT_RTX, {"version_compatible": True}, "only tensorrt has"),
        (Flavour.TENSORRT_RTX, {"compute_capabilities": ("89",)}, "the compute capability is '89'"),
        (Flavour.TENSORRT_RTX, {"compute_capabilities": ("current", "8.9")}, "must stand alone"),
        (Flavour.TENSORRT_RTX, {"compute_capabilities": ("8.9", "8.9")}, "named twice"),
        (Flavour.TENSORRT_RTX, {"optimisation_level": 6}, "the optimisation level is 6"),
    ],
)
def test_options_that_a_flavour_has_not(flavour: Flavour, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        BuildOptions(flavour, Precision.FP16, **options)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'seggd-rt\[tensorrt\]'"):
        Flavour.TENSORRT.load()


def test_messages_lose_line_breaks_doubles_and_foreign_folders() -> None:
    messages = Messages(Flavour.TENSORRT)
    messages.error("nobody listens")
    with messages.heard() as outer, messages.heard() as inner:
        messages.error("In f at /_src/x/y.cpp:12 (failed)\n")
        messages.error("In f at /_src/x/y.cpp:12 (failed)")
        messages.warning("slow")
    messages.error("nobody listens")
    assert outer == inner
    assert outer.errors == ["In f (failed)"]
    assert str(outer.failure("cannot")) == "TensorRT cannot: In f (failed)"
    with pytest.warns(RuntimeWarning, match="TensorRT: slow"):
        outer.pass_on_warnings()
    assert tidy("a\n  b") == "a b"


def test_shares_of_nested_phases() -> None:
    phases = Phases()
    assert phases.start("all", None, 2).share == 0
    assert phases.start("half", "all", 4).share == 0
    assert phases.step("half", 1).share == pytest.approx(0.25)
    assert phases.finish("half").share == pytest.approx(0.25)
    assert phases.step("all", 0).share == pytest.approx(0.5)
    phases.start("second", "all", 1)
    assert phases.step("second", 0).share == 1
    assert phases.finish("all") == BuildProgress("all", 1)
    assert phases.step("unknown", 5).share == 1
