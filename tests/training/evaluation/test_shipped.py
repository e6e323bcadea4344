"""A segmenter made ready for a bundle: what it states of itself, and that ONNX Runtime finds what PyTorch finds."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.bundles import TINY, copy_bundle, edit_manifest
from tests.training.grey_hearts import draw_hearts, heart_dataset, trained_segmenter, write_npz

pytest.importorskip("monai", reason="needs the extra `eval`")
pytest.importorskip("onnx_ir", reason="needs the extra `export`")

import torch

from seggd_export.graphs import write_segmenter
from seggd_rt.bundle import Bundle, Meaning
from seggd_rt.diffusion import name_classes
from seggd_rt.errors import DataError, OptionError
from seggd_rt.runs import OutputCheck
from seggd_training.data import Dataset
from seggd_training.evaluation import segmenter_to_ship
from seggd_training.evaluation.segmenter import standardize
from seggd_training.evaluation.shipped import UnknownDiceWarning, class_intensities, real_dice

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")


@pytest.fixture
def meaning() -> Meaning:
    return Bundle.open(TINY).manifest.meaning


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    path = tmp_path / "small.pt"
    trained_segmenter()[0].save(path)
    return path


def test_it_states_what_it_is_good_for(segmenter: Path, meaning: Meaning, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shipped = segmenter_to_ship(segmenter, write_npz(tmp_path / "hearts.npz"))(meaning)
    assert shipped.real is not None
    assert (shipped.real.data, shipped.real.images, shipped.real.patients) == ("hearts.npz, val", 12, 4)
    assert shipped.real.per_patient > 0.8 and shipped.real.per_image_low < shipped.real.per_image
    assert [each.name for each in shipped.intensities] == ["cavity", "myocardium", "right ventricle"]
    for each, level in zip(shipped.intensities, (0.8, 0.45, 0.65), strict=True):
        assert level - 0.05 < each.low < level < each.high < level + 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.concatenate([draw_hearts(24, 5)[0], draw_hearts(14, 1)[0]])}, "trained on other images"),
        ({"split": np.repeat([0, 2], [24, 14])}, "has no validation images"),
    ],
)
def test_a_dice_that_is_not_known_is_not_stated(
    segmenter: Path, meaning: Meaning, tmp_path: Path, changes: dict[str, np.ndarray], message: str
) -> None:
    data = write_npz(tmp_path / "hearts.npz", **changes)
    with pytest.warns(UnknownDiceWarning, match=f"is not stated in the bundle: .*{message}"):
        shipped = segmenter_to_ship(segmenter, data)(meaning)
    assert shipped.real is None and len(shipped.intensities) == 3


def test_data_and_segmenters_that_do_not_serve_are_refused(segmenter: Path, meaning: Meaning, tmp_path: Path) -> None:
    val_only = write_npz(tmp_path / "val.npz", split=np.ones(38, np.uint8))
    with pytest.raises(DataError, match="holds no image of split 0, 'train'"):
        segmenter_to_ship(segmenter, val_only)(meaning)
    leak = write_npz(tmp_path / "leak.npz", patient=np.arange(38) // 5)
    with pytest.raises(DataError, match="1 patient has images in both train and val"):
        segmenter_to_ship(segmenter, leak)(meaning)
    bundle = copy_bundle(TINY, tmp_path)
    edit_manifest(bundle, {"image.height": 12, "image.width": 16})
    with pytest.raises(OptionError, match="is a segmenter for height 24"):
        segmenter_to_ship(segmenter, write_npz(tmp_path / "hearts.npz"))(Bundle.open(bundle).manifest.meaning)


def test_bounds_are_of_each_images_median() -> None:
    """A hundred and one images whose one pixel of class 1 is 0, 1, ..., 100, the first without class 2."""
    images = np.zeros((101, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 1, 1, 0] = np.arange(101), 255
    label_maps = np.zeros((101, 2, 2), np.uint8)
    label_maps[:, 0, 0], label_maps[1:, 1, 1] = 1, 2
    classes = name_classes(["background", "a", "b", "c"])
    a, b = class_intensities(Dataset(images, label_maps, classes, names=("",) * 101))
    assert (a.name, a.low, a.high) == ("a", pytest.approx(1 / 255), pytest.approx(99 / 255))
    assert (b.name, b.low, b.high) == ("b", 1, 1), "c, which no image shows, has no bounds"


def test_the_dice_of_single_images_is_the_checks() -> None:
    segmenter, held_out = trained_segmenter()[0], heart_dataset(10, seed=1)
    empty = replace(held_out, label_maps=held_out.label_maps * (np.arange(10) > 0)[:, None, None].astype(np.uint8))
    found = real_dice(segmenter, empty, "hearts")
    assert found.images == 10 and found.patients is None
    assert (
        found.per_image_low <= found.per_image == pytest.approx(real_dice(segmenter, held_out, "").per_image, abs=0.02)
    )


def test_onnx_runtime_finds_what_pytorch_finds(segmenter: Path, meaning: Meaning, tmp_path: Path) -> None:
    """The graph in a bundle, on images it has not seen: the same Dice as from PyTorch's label maps."""
    bundle = copy_bundle(TINY, tmp_path)
    shipped = segmenter_to_ship(segmenter, write_npz(tmp_path / "hearts.npz"))(meaning)
    x = torch.rand(2, 1, 24, 32) * 0.3 + 0.5
    with torch.no_grad():
        assert torch.equal(shipped.network(x), trained_segmenter()[0].network(standardize(x)))
    graph = write_segmenter(shipped, meaning, bundle / "segmenter.onnx")
    assert graph.parity.rel_max < 1e-4 and graph.parity.labels_changed == 0
    edit_manifest(bundle, {"segmenter": msgspec.to_builtins(graph)})
    opened = Bundle.open(bundle)
    opened.verify()
    images, label_maps = (drawn[:12] for drawn in draw_hearts(14, seed=1))  # the validation images of that data
    results = OutputCheck.open(opened, threads=1)(images / np.float32(255), label_maps)
    mean = np.mean([result.mean_dice for result in results])
    assert shipped.real is not None and mean == pytest.approx(shipped.real.per_image, abs=1e-6)
    assert not any(result.outside for result in results[:6])
