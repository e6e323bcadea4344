"""Windows: which pixels a network draws, and that its images go back onto them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seggd_rt.diffusion import resize_nearest
from seggd_rt.imaging import Fit, Window
from seggd_rt.imaging.geometry import Geometry

SIDES = st.integers(1, 40)
SIZES = st.tuples(SIDES, SIDES)


@given(size=SIZES, drawn=SIZES)
@settings(deadline=None)
def test_resizing_takes_all_of_it(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    label_map = np.random.default_rng(0).integers(0, 4, size).astype(np.uint8)
    window = Window.of(Fit.RESIZE, size, drawn)
    np.testing.assert_array_equal(window.take(label_map, drawn), resize_nearest(label_map, *drawn))
    assert window.put(np.ones(drawn, np.float32)).min() == 1


@given(size=SIZES, drawn=SIZES)
@settings(deadline=None)
def test_crop_and_pad_keep_every_pixel_that_both_have(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    label_map = np.random.default_rng(0).integers(1, 255, size).astype(np.uint8)
    window = Window.of(Fit.CROP_PAD, size, drawn)
    taken = window.take(label_map, drawn)
    assert np.count_nonzero(taken) == min(size[0], drawn[0]) * min(size[1], drawn[1])
    back = window.put(taken.astype(np.float32) / 255)
    seen = back > 0
    np.testing.assert_array_equal(np.rint(back[seen] * 255), label_map[seen])
    assert np.count_nonzero(seen) == np.count_nonzero(taken)


@given(size=SIZES, drawn=SIZES, rows=st.floats(0.3, 3), columns=st.floats(0.3, 3))
@settings(deadline=None)
def test_a_letterbox_holds_all_of_it_and_keeps_millimetres_alike(
    size: tuple[int, int], drawn: tuple[int, int], rows: float, columns: float
) -> None:
    window = Window.of(Fit.LETTERBOX, size, drawn, Geometry(np.diag([columns, rows, 1.0, 1.0])))
    assert window.height >= size[0]
    assert window.width >= size[1]
    assert (window.height == size[0]) or (window.width == size[1])
    # A drawn pixel's millimetres down and across agree up to the rounding of a side to whole pixels.
    down, across = window.height * rows / drawn[0], window.width * columns / drawn[1]
    assert abs(down - across) <= max(rows / drawn[0], columns / drawn[1]) / 2 + 1e-9
    assert window.put(np.ones(drawn, np.float32)).min() == 1


def test_a_letterbox_puts_background_on_both_sides() -> None:
    label_map = np.full((8, 4), 3, np.uint8)
    taken = Window.of(Fit.LETTERBOX, (8, 4), (16, 16)).take(label_map, (16, 16))
    np.testing.assert_array_equal(taken[5], [0] * 4 + [3] * 8 + [0] * 4)


@pytest.mark.parametrize("fit", Fit)
def test_an_image_goes_back_to_where_its_label_map_was(fit: Fit) -> None:
    label_map = np.zeros((60, 40), np.uint8)
    label_map[20:35, 12:24] = 1
    window = Window.of(fit, label_map.shape, (48, 48))
    back = window.put(window.take(label_map, (48, 48)).astype(np.float32))
    assert back.shape == label_map.shape
    assert (np.rint(back) == label_map).mean() > 0.97
    moved = np.argwhere(back > 0.5).mean(axis=0) - np.argwhere(label_map == 1).mean(axis=0)
    assert np.abs(moved).max() < 1
