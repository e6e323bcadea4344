"""Graphs derived for ONNX Runtime's CUDA provider compute what the bundle's do.

No CPU has its fused normalisations, so they are computed here, as its documentation defines them, by onnx's evaluator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from benchmarks.gpu.contenders.onnxruntime_graphs import unrolled, with_group_norms
from benchmarks.reference_network import reference_network
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import Column, NoiseSchedule, Precision, Sampler, sampler_rows

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder, precisions = tmp_path_factory.mktemp("bundle"), (Precision.FP32, Precision.FP16)
    return Bundle.open(reference_network(folder, network="tiny", size=16, precisions=precisions)[1])


@pytest.fixture(params=[Precision.FP32, Precision.FP16])
def graph(request: pytest.FixtureRequest, bundle: Bundle) -> Path:
    return bundle.graph_file(bundle.graph(request.param))


def normalise(x: NDArray[Any], gamma: NDArray[Any], beta: NDArray[Any], options: dict[str, Any]) -> NDArray[Any]:
    assert options["channels_last"] == 1
    assert gamma.dtype == beta.dtype == np.float32
    images, height, width, channels = x.shape
    groups = options["groups"]
    values = x.astype(np.float32).reshape(images, height * width, groups, channels // groups)
    mean, variance = values.mean((1, 3), keepdims=True), values.var((1, 3), keepdims=True)
    y = ((values - mean) / np.sqrt(variance + options["epsilon"])).reshape(x.shape) * gamma + beta
    return (y / (1 + np.exp(-y)) if options["activation"] else y).astype(x.dtype)


class GroupNorm(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x: Any, gamma: Any, beta: Any, **options: Any) -> tuple[Any]:
        return (normalise(x, gamma, beta, options),)


class SkipGroupNorm(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x: Any, gamma: Any, beta: Any, skip: Any, **options: Any) -> tuple[Any, Any]:
        s = x + (skip[:, None, None] if skip.ndim == 2 else skip)
        assert s.shape == x.shape
        return normalise(s, gamma, beta, options), s


def inputs_of(session: Any) -> dict[str, NDArray[np.float32]]:
    shape = session.get_inputs()[0].shape[1:]
    sample = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    return {"sample": sample, "timestep": np.array([500, 20], np.float32)}


def test_fused_normalisations_are_the_graphs_own(graph: Path, tmp_path: Path) -> None:
    session, count = ort.InferenceSession(graph), with_group_norms(graph, tmp_path / "fused.onnx")
    nodes = onnx.load(tmp_path / "fused.onnx").graph.node
    kinds = [node.op_type for node in nodes if node.domain == "com.microsoft"]
    assert set(kinds) == {"GroupNorm", "SkipGroupNorm"}
    assert len(kinds) == count > 4
    # What they are made of is gone, but for what the time embedding has of it.
    assert not {"InstanceNormalization"} & {node.op_type for node in nodes}
    assert sum(node.op_type == "Sigmoid" for node in nodes) == 2
    inputs = inputs_of(session)
    (expected,) = session.run(None, inputs)
    (found,) = ReferenceEvaluator(str(tmp_path / "fused.onnx"), new_ops=[GroupNorm, SkipGroupNorm]).run(None, inputs)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < (1e-5 if "fp32" in graph.name else 2e-3)


def test_an_unrolled_run_is_the_steps_one_after_the_other(graph: Path, tmp_path: Path) -> None:
    session, table = ort.InferenceSession(graph), sampler_rows(Sampler.DDIM, NoiseSchedule(), 3)
    unrolled(graph, tmp_path / "unrolled.onnx", table)
    weights = {weight.name for weight in onnx.load(graph).graph.initializer}
    rest = [weight for weight in onnx.load(tmp_path / "unrolled.onnx").graph.initializer if weight.name not in weights]
    assert max(np.prod(weight.dims) for weight in rest) == 1, "each weight is there once"
    inputs = inputs_of(session)
    (found,) = ort.InferenceSession(tmp_path / "unrolled.onnx").run(None, inputs)
    sample = inputs["sample"]
    x, mask = sample[:, : found.shape[1]], sample[:, found.shape[1] :]
    for row, timestep in zip(table.rows, table.timesteps, strict=True):
        times = np.full(2, timestep, np.float32)
        (o,) = session.run(None, {"sample": np.concatenate([x, mask], axis=1), "timestep": times})
        x0 = np.clip(row[Column.KX] * x + row[Column.KO] * o, -row[Column.CLIP], row[Column.CLIP])
        x = row[Column.CX] * x + row[Column.CO] * o + row[Column.C0] * x0
    np.testing.assert_allclose(found, x, rtol=0, atol=1e-5 if "fp32" in graph.name else 2e-2)


def test_a_run_that_draws_noise_is_not_unrolled(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="eta 0"):
        unrolled(graph, tmp_path / "x.onnx", sampler_rows(Sampler.DDIM, NoiseSchedule(), 3, eta=1.0))
