"""The graphs: what a viewer and an engine see, types included, and that they compute the network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from diffusers import UNet2DModel

from seggd_export.graphs import Network, to_half, trace
from seggd_export.parity.rounded import rounded_twin
from seggd_rt.diffusion import PARITY_LIMIT, Precision, relative_errors
from seggd_rt.errors import ExportError

HALVES = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}


@pytest.fixture(scope="module", params=list(HALVES))
def half(request: pytest.FixtureRequest, traced: ir.Model, network: Network) -> tuple[ir.Model, ir.DataType]:
    return to_half(traced, request.param, network.float32_modules()), HALVES[request.param]


def test_inputs_and_output(traced: ir.Model) -> None:
    seen = {
        value.name: (value.dtype, list(value.shape or ())) for value in [*traced.graph.inputs, *traced.graph.outputs]
    }
    batch = ir.SymbolicDim("batch")
    assert seen == {
        "sample": (ir.DataType.FLOAT, [batch, 5, 16, 24]),
        "timestep": (ir.DataType.FLOAT, [batch]),
        "out": (ir.DataType.FLOAT, [batch, 3, 16, 24]),
    }


def test_operators_are_few_and_plain(traced: ir.Model) -> None:
    operators = Counter(node.op_type for node in traced.graph)
    assert not operators.keys() & {"Shape", "Slice", "Expand", "Identity", "Constant", "Where", "Sin", "Cos"}
    # The row of the time table is found in whole numbers; nothing else changes type.
    assert [node.name for node in traced.graph if node.op_type == "Cast"] == ["time_table/Cast", "time_table/Cast_1"]
    assert operators["Gather"] == 1
    assert all(node.domain == "" for node in traced.graph)
    assert not traced.functions
    # Four attentions: three linear layers in, one out, and two products each.
    assert (operators["Softmax"], operators["MatMul"]) == (4, 24)
    assert operators["InstanceNormalization"] == 21


def test_names_can_be_read(traced: ir.Model, wide_unet: UNet2DModel) -> None:
    names = [node.name or "" for node in traced.graph]
    assert len(set(names)) == len(names)
    assert "down_blocks.1.resnets.0.conv1/Conv" in names
    assert "mid_block.attentions.0/Softmax" in names
    assert "up_blocks.0.upsamplers.0/Resize" in names
    for node in traced.graph:
        assert node.name == node.outputs[0].name or node.outputs[0].name == "out"
    weights = {name for name in traced.graph.initializers if not name.startswith("constant.")}
    assert weights == set(wide_unet.state_dict()) | {"time_table.weight"}


def test_nothing_of_this_machine_is_in_it(wide_bundle: Path) -> None:
    for path in wide_bundle.glob("*.onnx"):
        data = path.read_bytes()
        assert b".py" not in data
        assert b"site-packages" not in data
        assert b"pkg.torch" not in data


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_runs(wide_bundle: Path, wide_unet: UNet2DModel, batch: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    sample = torch.randn(batch, 5, 16, 24, generator=generator)
    timestep = torch.linspace(0, 999, batch).floor()
    expected = wide_unet(sample, timestep).sample.numpy()
    for precision in (Precision.FP32, Precision.FP16):  # ONNX Runtime runs float16 in float32, and has no bfloat16
        out = _run(wide_bundle / f"unet.{precision}.onnx", sample.numpy(), timestep.numpy())
        assert out.dtype == np.float32
        assert max(relative_errors(out, expected)) < PARITY_LIMIT[precision]


def test_timestep_survives_an_engine_that_lowers_to_bfloat16(wide_bundle: Path, wide_unet: UNet2DModel) -> None:
    """OpenVINO lowers a float32 graph by itself; 951 is no bfloat16 number, 952 is: the time table must not care."""
    openvino = pytest.importorskip("openvino")
    sample = torch.randn(1, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    right, wrong = (wide_unet(sample, torch.tensor([t])).sample.numpy() for t in (951.0, 952.0))
    options = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(str(wide_bundle / "unet.fp32.onnx"), "CPU", options)
    out = next(iter(compiled([sample.numpy(), np.array([951.0], np.float32)]).values()))
    assert relative_errors(out, right)[0] < 0.3 * relative_errors(wrong, right)[0]


def test_half_graph_is_half_outside_its_islands(half: tuple[ir.Model, ir.DataType], network: Network) -> None:
    model, dtype = half
    types = {
        node.name: (node.op_type, {value.dtype for value in node.outputs if _is_float(value)}) for node in model.graph
    }
    for name, (operator, outputs) in types.items():
        if operator == "Cast" or not outputs:
            continue
        module = str(name).rpartition("/")[0]
        island = module in network.float32_modules() or operator == "Softmax"
        assert outputs == {ir.DataType.FLOAT if island else dtype}, name
    assert {operator for operator, outputs in types.values() if dtype in outputs} >= {"Conv", "MatMul", "Gemm", "Add"}


def test_half_graph_is_strongly_typed(half: tuple[ir.Model, ir.DataType]) -> None:
    """No node mixes float types but by what the standard fixes; that is what TensorRT 11 takes precision from."""
    model, dtype = half
    for node in model.graph:
        if node.op_type in ("Cast", "Resize"):
            continue
        floats = {value.dtype for value in [*node.inputs, *node.outputs] if value is not None}
        assert len(floats & {ir.DataType.FLOAT, dtype}) <= 1, node.name


def test_half_graph_keeps_its_face(half: tuple[ir.Model, ir.DataType], traced: ir.Model) -> None:
    model, dtype = half
    for mine, theirs in zip(
        [*model.graph.inputs, *model.graph.outputs], [*traced.graph.inputs, *traced.graph.outputs], strict=True
    ):
        assert (mine.name, mine.dtype, mine.shape) == (theirs.name, ir.DataType.FLOAT, theirs.shape)
    assert set(model.graph.initializers) == set(traced.graph.initializers)
    assert model.graph.initializers["conv_in.weight"].dtype is dtype
    assert model.graph.initializers["conv_norm_out.weight"].dtype is ir.DataType.FLOAT
    assert model.graph.initializers["time_embedding.linear_1.weight"].dtype is ir.DataType.FLOAT


def test_casts_are_made_once(half: tuple[ir.Model, ir.DataType]) -> None:
    model, _ = half
    casts = [
        (node.inputs[0], node.attributes["to"].as_int())
        for node in model.graph
        if node.op_type == "Cast" and _is_float(node.outputs[0])
    ]
    assert len(set(casts)) == len(casts)
    # Into and out of each norm and each softmax; the sample, the time embedding and the output.
    assert len(casts) == 2 * 21 + 2 * 4 + 3 - _shared_norm_inputs(model)


def test_traced_graph_is_not_changed_by_lowering(traced: ir.Model, network: Network) -> None:
    to_half(traced, Precision.BF16, network.float32_modules())
    floats = {value.dtype for node in traced.graph for value in node.outputs if _is_float(value)}
    assert floats == {ir.DataType.FLOAT}
    assert traced.opset_imports == {"": 20}


def test_weight_beyond_float16_is_refused_by_name(traced: ir.Model, network: Network) -> None:
    model = traced.clone()
    weight = model.graph.initializers["conv_in.weight"]
    assert weight.const_value is not None
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1e6))
    with pytest.raises(ExportError, match=r"'conv_in\.weight' reaches .* more than fp16 holds"):
        to_half(model, Precision.FP16, network.float32_modules())
    to_half(model, Precision.BF16, network.float32_modules())


def test_rounded_twin_rounds_every_half_tensor(tmp_path: Path) -> None:
    """Against bfloat16 arithmetic done by hand: rounded operands, a float32 sum, a rounded result, for each node."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in ((7, 32), (32, 9), (9,)))
    bf16 = ir.DataType.BFLOAT16
    inputs = [ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([7, 32]))]
    weights = [
        ir.Value(
            name=name, type=ir.TensorType(bf16), shape=ir.Shape(array.shape), const_value=ir.tensor(array, name=name)
        )
        for name, array in (("w", w.astype(ml_dtypes.bfloat16)), ("b", b.astype(ml_dtypes.bfloat16)))
    ]
    values = [
        ir.Value(name=name, type=ir.TensorType(bf16), shape=ir.Shape(shape))
        for name, shape in (("xh", [7, 32]), ("product", [7, 9]), ("sum", [7, 9]))
    ]
    out = ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([7, 9]))
    nodes = [
        ir.node("Cast", inputs, {"to": bf16}, outputs=[values[0]], name="down"),
        ir.node("MatMul", [values[0], weights[0]], outputs=[values[1]], name="matmul"),
        ir.node("Add", [values[1], weights[1]], outputs=[values[2]], name="add"),
        ir.node("Cast", [values[2]], {"to": ir.DataType.FLOAT}, outputs=[out], name="up"),
    ]
    graph = ir.Graph(inputs, [out], nodes=nodes, initializers=weights, opset_imports={"": 22}, name="g")
    twin = rounded_twin(ir.Model(graph, ir_version=10))
    ir.save(twin, tmp_path / "twin.onnx")

    def rounded(array: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return array.astype(ml_dtypes.bfloat16).astype(np.float32)

    expected = rounded(rounded(rounded(x) @ rounded(w)) + rounded(b))
    got = onnxruntime.InferenceSession(tmp_path / "twin.onnx").run(None, {"x": x})[0]
    # Sums of another order may round to the neighbour, one part in 256.
    assert np.mean(got != expected) < 0.05
    np.testing.assert_allclose(got, expected, rtol=2**-7)
    np.testing.assert_array_equal(got, rounded(got))


def test_rounded_twin_of_float16_is_near_what_torch_computes_in_float16(
    traced: ir.Model, network: Network, tmp_path: Path
) -> None:
    """PyTorch's own float16 layers on the CPU round at the same places: a witness that shares no code with the twin."""
    ir.save(rounded_twin(to_half(traced, Precision.FP16, network.float32_modules())), tmp_path / "twin.onnx")
    generator = torch.Generator().manual_seed(3)
    sample, timestep = torch.randn(1, 5, 16, 24, generator=generator), torch.tensor([300.0])
    exact = network(sample, timestep).numpy()
    got = _run(tmp_path / "twin.onnx", sample.numpy(), timestep.numpy())
    with torch.autocast("cpu", torch.float16):
        theirs = network(sample, timestep).float().numpy()
    mine, torchs = relative_errors(got, exact)[0], relative_errors(theirs, exact)[0]
    assert 0.2 < mine / torchs < 5


def test_failing_trace_is_one_sentence() -> None:
    class Stubborn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv_in = torch.nn.Conv2d(2, 1, 1)

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return sample if float(sample.sum()) > 0 else -sample

    with pytest.raises(ExportError, match="torch could not export the network"):
        trace(Stubborn().eval(), 4, 4)  # type: ignore[arg-type]


def _run(path: Path, sample: np.ndarray, timestep: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    out: np.ndarray = session.run(["out"], {"sample": sample, "timestep": timestep})[0]  # type: ignore[type-arg]
    return out


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, *HALVES.values())


def _shared_norm_inputs(model: ir.Model) -> int:
    """How many norms take a tensor that another takes too: one Cast serves both."""
    users = Counter(node.inputs[0] for node in model.graph if node.op_type == "Reshape" and "norm" in (node.name or ""))
    return sum(count - 1 for value, count in users.items() if "/float32" in (value.name or "") if value)
