"""A network of features whose answers are known."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def mean_graph(tmp_path: Path) -> Path:
    """An ONNX graph that takes (N, 3, 48, 48) and gives each channel's mean, (N, 3)."""
    onnx = pytest.importorskip("onnx", reason="needs the extra `export`")
    pytest.importorskip("onnxruntime", reason="needs the extra `cpu`")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["images", "axes"], ["features"], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("images", kind, ["N", 3, 48, 48])],
        [helper.make_tensor_value_info("features", kind, ["N", 3])],
        [helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3])],
    )
    path = tmp_path / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
