import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seggd_rt.diffusion import (
    LabelClass,
    MaskEncoding,
    ablate,
    aspect_change,
    check_classes,
    check_label_map,
    colorize,
    encode,
    encode_table,
    looks_one_hot,
    mask_channels,
    name_classes,
    resize_nearest,
    select_classes,
)
from seggd_rt.errors import LabelMapError, OptionError

CLASSES = name_classes(["background", "RV cavity", "myocardium", "LV cavity"])
label_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3))
subsets = st.sets(st.integers(1, 3), min_size=1)


@pytest.mark.parametrize("encoding", list(MaskEncoding))
@given(label_map=label_maps, keep=subsets)
def test_zeroed_rows_equal_an_ablated_mask(encoding: MaskEncoding, label_map: np.ndarray, keep: set[int]) -> None:
    """What training does, dropping classes from the mask, is what the table does at run time."""
    table = encode_table(encoding, 4)
    ablated = np.where(np.isin(label_map, list(keep)), label_map, 0).astype(np.uint8)
    assert np.array_equal(encode(label_map, ablate(table, keep)), encode(ablated, table))


def test_one_hot_and_label_over_255() -> None:
    label_map = np.array([[0, 1], [2, 3]], np.uint8)
    one_hot = encode(label_map, encode_table(MaskEncoding.ONE_HOT, 4))
    assert one_hot.dtype == np.float32
    assert one_hot.tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 1]]]
    grey = encode(label_map, encode_table(MaskEncoding.LABEL_OVER_255, 4))
    assert np.array_equal(grey, label_map[None].astype(np.float32) / np.float32(255))
    assert (mask_channels(MaskEncoding.ONE_HOT, 4), mask_channels(MaskEncoding.LABEL_OVER_255, 4)) == (3, 1)


def test_encode_keeps_leading_axes() -> None:
    stack = np.zeros((5, 6, 7), np.uint8)
    assert encode(stack, encode_table(MaskEncoding.ONE_HOT, 4)).shape == (5, 3, 6, 7)


def test_select_classes() -> None:
    assert select_classes(CLASSES) == (1, 2, 3)
    assert select_classes(CLASSES, keep=["lv cavity", " Myocardium "]) == (2, 3)
    assert select_classes(CLASSES, drop=["myocardium"]) == (1, 3)
    assert select_classes(CLASSES, drop=[]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"keep": ["LV cavty"]}, "did you mean 'LV cavity'"),
        ({"keep": ["spleen"]}, "there is no class 'spleen': there are 'RV cavity', 'myocardium', 'LV cavity'"),
        ({"keep": []}, "keep names no class"),
        ({"drop": ["RV cavity", "myocardium", "LV cavity"]}, "drop leaves no class"),
        ({"keep": ["background"]}, "is the background"),
        ({"keep": [1]}, "1 is no class name: there are 'RV cavity'"),
        ({"keep": ["LV cavity"], "drop": ["myocardium"]}, "exclude each other"),
    ],
)
def test_bad_choices(choice: dict[str, list[str]], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        select_classes(CLASSES, **choice)


def test_a_string_is_one_name_and_a_name_may_come_twice() -> None:
    assert select_classes(CLASSES, keep="LV cavity") == select_classes(CLASSES, keep=["LV cavity", "lv cavity "])
    assert select_classes(CLASSES, drop="LV cavity") == select_classes(CLASSES, drop=["LV cavity"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint16])
def test_integer_label_maps_become_uint8(dtype: type) -> None:
    label_map = np.array([[0, 1], [1, 0]], dtype)
    assert check_label_map(label_map, CLASSES).dtype == np.uint8


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        (np.zeros((4, 4), np.float32), "must hold integers"),
        (np.zeros((4, 4), complex), "must hold integers"),
        (np.array([["a"]]), "must hold integers"),
        (np.zeros(4, np.uint8), r"shape \(H, W\)"),
        (np.zeros((0, 4), np.uint8), "pixels"),
        (np.array([[0, 4]]), "label 4 is outside the classes 0 background, 1 RV cavity"),
        (np.array([[0, -1]]), "label -1 is outside"),
        (np.array([[256, 0]], np.uint16), "label 256 is outside"),
        (np.array([[4, 9, 80, 160]]), "labels 4, 9, 80, ... are outside"),
        (
            np.zeros((9, 8), bool),
            "cannot tell 3 classes apart: give integers, 1 for RV cavity, 2 for myocardium, 3 for",
        ),
        (np.zeros((9, 8, 3), np.uint8), r"\(9, 8, 3\) has an axis of 3 last, as pictures have: make class ids"),
        (np.zeros((9, 8, 4), np.uint8), "as pictures have"),
        (np.zeros((9, 8, 1), np.uint8), r"take mask\[..., 0\]"),
    ],
)
def test_bad_label_maps(label_map: np.ndarray, message: str) -> None:
    with pytest.raises(LabelMapError, match=message):
        check_label_map(label_map, CLASSES)


def test_true_and_false_are_enough_for_one_class() -> None:
    label_map = check_label_map(np.array([[True, False]]), name_classes(["background", "liver"]))
    assert (label_map.dtype, label_map.tolist()) == (np.uint8, [[1, 0]])


@given(label_map=label_maps)
def test_a_map_split_into_its_classes_looks_one_hot(label_map: np.ndarray) -> None:
    maps = (label_map == np.arange(4)[:, None, None]).astype(np.uint8)
    assert looks_one_hot(maps, 4)
    assert looks_one_hot(maps[1:], 4) == bool(label_map.any())
    assert not looks_one_hot(maps[:2], 4)
    assert not looks_one_hot(maps * 2, 4)


def test_stacks_that_overlap_or_leave_gaps_are_many_maps() -> None:
    maps = np.zeros((3, 2, 2), np.uint8)
    maps[:, 0, 0] = 1
    assert not looks_one_hot(maps, 4)
    gap = np.zeros((4, 2, 2), np.uint8)
    gap[1:, 0, 0] = [1, 0, 0]
    assert not looks_one_hot(gap, 4)
    assert not looks_one_hot(gap[1], 2)


@pytest.mark.parametrize(
    ("size", "new", "changes"),
    [
        ((128, 80), (64, 64), True),
        ((80, 128), (64, 64), True),
        ((256, 192), (64, 48), False),
        ((217, 181), (128, 107), False),
        ((65, 130), (33, 65), False),
        ((64, 64), (64, 60), True),
    ],
)
def test_a_change_of_the_aspect_ratio_is_more_than_rounding(
    size: tuple[int, int], new: tuple[int, int], changes: bool
) -> None:
    note = aspect_change(size, new)
    assert (note is not None) == changes
    if note is not None:
        assert note.startswith(f"{size[0]}x{size[1]} to {new[0]}x{new[1]} changes the aspect ratio: crop or pad first")


def test_rows_of_different_lengths() -> None:
    with pytest.raises(LabelMapError, match="each row as long as the others"):
        check_label_map([[0, 1], [1]], CLASSES)  # type: ignore[list-item]


@given(label_map=label_maps, factor=st.integers(1, 4))
def test_nearest_undoes_a_whole_enlargement(label_map: np.ndarray, factor: int) -> None:
    large = label_map.repeat(factor, 0).repeat(factor, 1)
    assert np.array_equal(resize_nearest(label_map, *large.shape), large)
    assert np.array_equal(resize_nearest(large, *label_map.shape), label_map)


def test_colorize() -> None:
    assert colorize(np.array([[0, 2]], np.uint8), CLASSES)[0].tolist() == [[0, 0, 0], list(CLASSES[2].color)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": 256}, "class id"),
        ({"id": -1}, "class id"),
        ({"name": " "}, "class name"),
        ({"name": "a,b"}, "comma"),
        ({"name": "a\nb"}, "printable"),
        ({"name": "liver "}, "spaces around"),
        ({"color": (0, 0, 256)}, "color"),
    ],
)
def test_bad_classes(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelClass(**{"id": 1, "name": "liver", "color": (1, 2, 3)} | fields)


@pytest.mark.parametrize("classes", [CLASSES[:1], CLASSES[1:], CLASSES[::-1], name_classes(["a", "b", "B"])])
def test_bad_class_lists(classes: tuple[LabelClass, ...]) -> None:
    with pytest.raises(ValueError, match="must"):
        check_classes(classes)
