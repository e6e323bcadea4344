"""`segmenter.onnx`: in the bundle with what is said of it, proven or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from seggd_export import export_bundle
from seggd_export.graphs import ShippedSegmenter, write_segmenter
from seggd_export.graphs import segmenter as module
from seggd_export.graphs.segmenter import prove_segmenter, trial_images
from seggd_rt.bundle import Bundle, ClassIntensity, Meaning
from seggd_rt.diffusion import Precision
from seggd_rt.errors import ExportError, OptionError
from seggd_rt.runs import OutputCheck

UseTrace = Callable[[ir.Model], None]


def small_segmenter(seed: int = 0) -> ShippedSegmenter:
    """Of the WIDE bundle: RGB, three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    return ShippedSegmenter(network.eval(), (1.0, 99.0), (ClassIntensity(name="disc", low=0.2, high=0.5),), None)


def test_a_bundle_has_it(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    asked: list[Meaning] = []

    def make(meaning: Meaning) -> ShippedSegmenter:
        asked.append(meaning)
        return small_segmenter()

    path = export_bundle(wide_pt, tmp_path / "a.seggd", precisions=(Precision.FP32,), segmenter=make)
    bundle = Bundle.open(path)
    bundle.verify()
    assert asked == [bundle.manifest.meaning]
    segmenter = bundle.segmenter
    assert segmenter.classes == ("background", "ring", "disc") and segmenter.opset == 20
    assert segmenter.parity.images == 16 and 0 < segmenter.parity.rel_max < 1e-5
    assert segmenter.intensities[0].name == "disc" and segmenter.real is None
    graph = onnx.load(path / "segmenter.onnx").graph
    assert graph.name == "segmenter" and not any(node.doc_string or node.metadata_props for node in graph.node)
    images = np.random.default_rng(0).random((3, 16, 24, 3), np.float32)
    labels = np.random.default_rng(1).integers(0, 3, (3, 16, 24))
    with torch.no_grad():
        found = small_segmenter().network(torch.from_numpy(np.moveaxis(images, -1, 1).copy())).argmax(1).numpy()
    for result, ours, wanted in zip(OutputCheck.open(bundle, threads=1)(images, labels), found, labels, strict=True):
        same = ((ours == wanted) & (wanted == 2)).sum()
        assert result.dice["disc"] == pytest.approx(2 * same / ((ours == 2).sum() + (wanted == 2).sum()))


def test_trial_images_show_every_class_and_differ(wide_bundle: Path) -> None:
    images = trial_images(Bundle.open(wide_bundle).manifest.meaning)
    assert images.shape == (16, 3, 16, 24) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert len({image.tobytes() for image in images}) == 16


def test_a_graph_of_another_network_is_refused(wide_bundle: Path, tmp_path: Path) -> None:
    meaning = Bundle.open(wide_bundle).manifest.meaning
    write_segmenter(small_segmenter(), meaning, tmp_path / "segmenter.onnx")
    with pytest.raises(
        ExportError, match=r"does not agree with PyTorch on 16 images: .* limit 1e-04; .* another class"
    ):
        prove_segmenter(tmp_path / "segmenter.onnx", small_segmenter(1).network, trial_images(meaning))


def constant_segmenter(*scores: float) -> nn.Module:
    network = nn.Conv2d(3, 3, 1).eval()
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor(scores))
    return network


def test_the_right_classes_are_no_excuse_for_other_scores(wide_bundle: Path, tmp_path: Path) -> None:
    meaning = Bundle.open(wide_bundle).manifest.meaning
    shipped = ShippedSegmenter(constant_segmenter(9, 5, 0), (1.0, 99.0), (), None)
    write_segmenter(shipped, meaning, tmp_path / "segmenter.onnx")
    with pytest.raises(ExportError, match=r"max\|d\|/max\|o\| 1\.11e-0[23], .*; 0\.00% of the pixels"):
        prove_segmenter(tmp_path / "segmenter.onnx", constant_segmenter(9, 5.01, 0), trial_images(meaning))


def test_scores_within_their_limit_are_no_excuse_for_other_classes(
    wide_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two channels that are nearly equal: another one is the largest, though no score is far off."""
    meaning = Bundle.open(wide_bundle).manifest.meaning
    tied, other = constant_segmenter(9, 9, 0), constant_segmenter(9, 9.0001, 0)
    write_segmenter(ShippedSegmenter(tied, (1.0, 99.0), (), None), meaning, tmp_path / "segmenter.onnx")
    with pytest.raises(ExportError, match=r"100\.00% of the pixels get another class, limit 0\.01%"):
        prove_segmenter(tmp_path / "segmenter.onnx", other, trial_images(meaning))
    monkeypatch.setattr(module, "LABEL_LIMIT", 1.0)
    assert prove_segmenter(tmp_path / "segmenter.onnx", other, trial_images(meaning)).rel_max < 1e-4


def test_a_segmenter_that_does_not_fit_leaves_nothing(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    def refuse(meaning: Meaning) -> ShippedSegmenter:
        raise OptionError("it is for other images")

    with pytest.raises(OptionError, match="for other images"):
        export_bundle(wide_pt, tmp_path / "a.seggd", segmenter=refuse)
    assert list(tmp_path.iterdir()) == []
