"""Feature networks given as ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monai", reason="needs the extra `eval`")

from seggd_rt.errors import DataError
from seggd_training.evaluation.segmenter import FeatureGraph


def test_images_are_fitted_to_the_graph(mean_graph: Path) -> None:
    images = np.random.default_rng(0).random((40, 24, 32, 1), np.float32)
    features = FeatureGraph.open(mean_graph, (24, 32, 1))(images)
    assert features.shape == (40, 3)
    np.testing.assert_allclose(features[:, 0], features[:, 2])
    np.testing.assert_allclose(features[:, 0], images.mean(axis=(1, 2, 3)), atol=0.01)  # resized, so not exactly
    colours = np.zeros((2, 48, 48, 3), np.float32)
    colours[..., 1] = 0.5
    np.testing.assert_allclose(FeatureGraph.open(mean_graph, (48, 48, 3))(colours), [[0, 0.5, 0]] * 2)


def test_what_is_no_feature_graph_is_refused(tmp_path: Path, mean_graph: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        FeatureGraph.open(tmp_path / "none.onnx", (24, 32, 1))
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(DataError, match="cannot be run on images"):
        FeatureGraph.open(tmp_path / "text.onnx", (24, 32, 1))
    with pytest.raises(DataError, match=r"mean\.onnx cannot be run on images"):
        FeatureGraph.open(mean_graph, (48, 48, 2))
