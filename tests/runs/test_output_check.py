"""What the check says of images, against what is known of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

import seggd_rt
from seggd_rt.bundle import Bundle, file_ref
from seggd_rt.errors import BundleError, DataError, EngineError, IntegrityError, LabelMapError, OptionError
from seggd_rt.runs import OutputCheck, shown_dice, shown_medians
from seggd_rt.runs.output_check import CheckResult
from tests.bundles import TINY, TINY_CHECKED, copy_bundle, edit_manifest

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")

CLASSES = ("cavity", "myocardium", "right ventricle")


@pytest.fixture(scope="module")
def check() -> OutputCheck:
    return OutputCheck.open(Bundle.open(TINY_CHECKED), threads=1)


@pytest.fixture(scope="module")
def generator(needs_onnxruntime: None) -> Iterator[seggd_rt.Generator]:
    with seggd_rt.load(TINY_CHECKED, engine="onnxruntime", precision="fp32", threads=1) as generator:
        yield generator


def painted(label_map: NDArray[np.uint8], **changes: float) -> NDArray[np.float32]:
    """An image of a label map, each class at the middle of its range but for those in `changes`."""
    segmenter = Bundle.open(TINY_CHECKED).segmenter
    levels = {each.name: (each.low + each.high) / 2 for each in segmenter.intensities} | changes
    return np.array([0.18, *(levels[name] for name in CLASSES)], np.float32)[label_map]


def test_images_that_follow_their_masks_have_a_high_dice(
    check: OutputCheck, generator: seggd_rt.Generator, golden_mask: NDArray[np.uint8]
) -> None:
    masks = np.stack([golden_mask, golden_mask[:, ::-1]])
    images = generator(masks, seeds=[1, 2], steps=10)
    for result in check(images, masks):
        assert tuple(result.dice) == CLASSES
        assert result.mean_dice == pytest.approx(np.mean(list(result.dice.values())))
        assert result.mean_dice > 0.75 and result.outside == ()
    for right, wrong in zip(check(images, masks), check(images, masks[::-1]), strict=True):
        assert right.mean_dice is not None and wrong.mean_dice is not None
        assert wrong.mean_dice < right.mean_dice - 0.2


def test_an_image_is_judged_by_itself(
    check: OutputCheck, generator: seggd_rt.Generator, golden_mask: NDArray[np.uint8]
) -> None:
    masks = np.repeat(golden_mask[None], 20, axis=0)  # more than the segmenter reads at a time
    images = generator(masks, seeds=range(20), steps=2)
    together = check(images, masks)
    assert together[17:18] == check(images[17:18], masks[17:18])
    assert check(images[..., None], masks) == together
    assert len({result.mean_dice for result in together}) > 10


def test_only_classes_that_are_kept_and_shown_count(check: OutputCheck, golden_mask: NDArray[np.uint8]) -> None:
    without = np.where(golden_mask == 3, 0, golden_mask).astype(np.uint8)
    image = painted(golden_mask)
    (all_shown,), (kept,), (absent,) = (
        check(image[None], golden_mask[None]),
        check(image[None], golden_mask[None], [["Cavity", "right ventricle"]]),
        check(image[None], without[None]),
    )
    assert tuple(kept.dice) == ("cavity", "right ventricle") and kept.dice.items() <= all_shown.dice.items()
    assert tuple(absent.dice) == ("cavity", "myocardium")


def test_without_any_class_there_is_no_dice(check: OutputCheck, golden_mask: NDArray[np.uint8]) -> None:
    """A mask without foreground, and one that shows none of the classes kept: nothing is judged, nothing rejected."""
    image, without = painted(golden_mask), np.where(golden_mask == 3, 0, golden_mask)
    results = check(np.stack([image, image]), np.stack([0 * golden_mask, without]), [CLASSES, ["right ventricle"]])
    assert results == (CheckResult(dice={}, mean_dice=None, outside=()),) * 2
    assert results[0].reaches(1.0)


def test_a_class_of_another_brightness_is_named(check: OutputCheck, golden_mask: NDArray[np.uint8]) -> None:
    masks = np.repeat(golden_mask[None], 3, axis=0)
    bounds = {each.name: each for each in Bundle.open(TINY_CHECKED).segmenter.intensities}["myocardium"]
    images = np.stack([painted(golden_mask, myocardium=v) for v in (bounds.low - 0.01, bounds.low, bounds.high + 0.01)])
    assert [result.outside for result in check(images, masks)] == [("myocardium",), (), ("myocardium",)]
    assert [result.outside for result in check(images, masks, [["cavity"]] * 3)] == [(), (), ()]
    with pytest.raises(DataError, match="images hold NaN"):
        check(np.full_like(images[:1], np.nan), masks[:1])


def test_a_class_without_bounds_is_never_outside(golden_mask: NDArray[np.uint8], tmp_path: Path) -> None:
    bundle = copy_bundle(TINY_CHECKED, tmp_path)
    edit_manifest(bundle, {"segmenter.intensities.1": ...})
    check = OutputCheck.open(Bundle.open(bundle), threads=1)
    assert check(painted(golden_mask, myocardium=0.0)[None], golden_mask[None])[0].outside == ()


def test_dice_and_medians_of_a_few_pixels() -> None:
    found, label_map = np.array([[1, 1, 2], [0, 1, 0]]), np.array([[1, 0, 2], [1, 1, 0]])
    assert shown_dice(found, label_map, [1, 2, 3]) == {1: 2 * 2 / 6, 2: 1.0}
    image = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert shown_medians(image, label_map, [1, 3]) == {1: np.median([0, 1, 6, 7, 8, 9])}


def test_a_threshold_is_reached_or_not() -> None:
    result = CheckResult(dice={"a": 0.5}, mean_dice=0.5, outside=("a",))
    assert result.reaches(0.5) and not result.reaches(0.5001)
    assert msgspec.json.decode(msgspec.json.encode(result), type=CheckResult) == result


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tiny\.seggd has no segmenter"):
        OutputCheck.open(Bundle.open(TINY))
    with pytest.raises(OptionError, match="threads is 0"):
        OutputCheck.open(Bundle.open(TINY_CHECKED), threads=0)
    bundle = copy_bundle(TINY_CHECKED, tmp_path)
    path = bundle / "segmenter.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="was changed"):
        OutputCheck.open(Bundle.open(bundle))
    path.write_bytes((bundle / "unet.fp32.onnx").read_bytes())
    edit_manifest(bundle, {"segmenter.files.0": msgspec.to_builtins(file_ref(path))})
    with pytest.raises(
        EngineError, match=r"segmenter\.onnx has wrong inputs or outputs .*'sample'.* export the bundle again"
    ):
        OutputCheck.open(Bundle.open(bundle))
    path.write_bytes(b"\x3a\x02no")
    edit_manifest(bundle, {"segmenter.files.0": msgspec.to_builtins(file_ref(path))})
    with pytest.raises((EngineError, IntegrityError)):
        OutputCheck.open(Bundle.open(bundle))


@pytest.mark.parametrize(
    ("repeats", "factor", "message"),
    [
        ([1, 1, 2, 1], 1.0, r"gave float32 \(1, 4, 48, 32\), not float32 \(1, 4, 24, 32\)"),
        ([1, 2, 1, 1], 1.0, r"gave float32 \(1, 8, 24, 32\)"),
        ([2, 1, 1, 1], 1.0, r"gave float32 \(2, 4, 24, 32\)"),
        ([0, 1, 1, 1], 1.0, r"gave float32 \(0, 4, 24, 32\)"),
        ([1, 1, 1, 1], np.nan, "not finite"),
        ([1, 1, 1, 1], np.inf, "not finite"),
    ],
)
def test_scores_other_than_the_graph_states(
    repeats: list[int], factor: float, message: str, tmp_path: Path, golden_mask: NDArray[np.uint8]
) -> None:
    onnx = pytest.importorskip("onnx", reason="the export side is not installed")
    bundle = copy_bundle(TINY_CHECKED, tmp_path)
    path, helper, numpy = bundle / "segmenter.onnx", onnx.helper, onnx.numpy_helper
    # Sizes that come of the image's content are in no shape that an engine infers: 0 x its largest value + repeats.
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["y"]),
        helper.make_node("Mul", ["y", "factor"], ["scaled"]),
        helper.make_node("ReduceMax", ["image"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["whole"], to=onnx.TensorProto.INT64),
        helper.make_node("Add", ["whole", "repeats"], ["times"]),
        helper.make_node("Tile", ["scaled", "times"], ["scores"]),
    ]
    constants = {
        "weights": np.ones((4, 1, 1, 1), np.float32),
        "factor": np.float32(factor),
        "zero": np.float32(0),
        "repeats": np.array(repeats),
    }
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, 24, 32])
        for name, channels in (("image", 1), ("scores", 4))
    ]
    initializers = [numpy.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    edit_manifest(bundle, {"segmenter.files.0": msgspec.to_builtins(file_ref(path))})
    with pytest.raises(EngineError, match=message):
        OutputCheck.open(Bundle.open(bundle), threads=1)(painted(golden_mask)[None], golden_mask[None])


@pytest.mark.parametrize(
    ("images", "label_maps", "kept", "error", "message"),
    [
        (np.zeros((2, 24, 32, 3)), np.zeros((2, 24, 32), int), None, DataError, "images are"),
        (np.zeros((2, 24, 30)), np.zeros((2, 24, 30), int), None, DataError, "they must be"),
        (np.zeros((3, 24, 32)), np.zeros((2, 24, 32), int), None, DataError, "label maps"),
        (np.zeros((2, 24, 32)), np.full((2, 24, 32), 4), None, LabelMapError, "label 4"),
        (np.zeros((2, 24, 32)), np.zeros((2, 24, 32), int), [["cavity"]], DataError, "kept is for 1 images"),
        (np.zeros((1, 24, 32)), np.zeros((1, 24, 32), int), [["atrium"]], OptionError, "no class 'atrium'"),
    ],
)
def test_what_does_not_fit_is_refused(
    check: OutputCheck, images: Any, label_maps: Any, kept: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check(images, label_maps, kept)
