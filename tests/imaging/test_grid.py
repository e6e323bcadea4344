"""Labelled grids of pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFont

from seggd_rt.diffusion import name_classes
from seggd_rt.imaging import png_bytes, render_grid, render_titled, rgb
from seggd_rt.imaging.grid import fit_label

RED, BLUE = np.zeros((24, 32, 3), np.uint8), np.zeros((24, 32, 3), np.uint8)
RED[..., 0], BLUE[..., 2] = 255, 255
CLASSES = name_classes(["background", "first", "second"])


def count(image: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(image) == color).all(axis=2).sum())


def test_pictures_are_enlarged_and_in_their_places() -> None:
    grid = render_grid([[RED, BLUE], [BLUE]], titles=["a", "b"])
    cell = 24 * 6 * 32 * 6  # the shorter side reaches 128
    assert count(grid, (255, 0, 0)) == cell
    assert count(grid, (0, 0, 255)) == 2 * cell
    pixels = np.asarray(grid)
    assert tuple(pixels[grid.height - 20, 20]) == (0, 0, 255)
    assert tuple(pixels[grid.height - 20, grid.width - 20]) == (255, 255, 255)


def test_labels_and_legend_take_room() -> None:
    plain = render_grid([[RED]], titles=["a"])
    labelled = render_grid([[RED]], titles=["a\nb"], labels=["one\ntwo"], legend=CLASSES)
    assert labelled.width > plain.width
    assert labelled.height > plain.height
    for label_class in CLASSES[1:]:
        assert count(labelled, label_class.color) >= 12 * 12
    assert count(labelled, (255, 0, 0)) == count(plain, (255, 0, 0))


def test_a_long_label_keeps_its_end() -> None:
    font = ImageFont.load_default(size=14)
    fitted = fit_label("a-very-long-name-of-a-slice-0012.png", font)
    assert fitted.startswith("...")
    assert fitted.endswith("0012.png")
    assert font.getlength(fitted) <= 96
    assert fit_label("0012.png", font) == "0012.png"


@pytest.mark.parametrize("number", [1, 3, 4, 7])
def test_titled_pictures_fill_rows(number: int) -> None:
    grid = render_titled([(str(place), RED) for place in range(number)], columns=3, legend=CLASSES)
    assert count(grid, (255, 0, 0)) == number * 24 * 6 * 32 * 6


def test_images_become_colours() -> None:
    grey = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    for image in (grey, grey[..., None], np.stack([grey] * 2, axis=-1)):
        np.testing.assert_array_equal(rgb(image), np.repeat(np.rint(grey * 255)[..., None], 3, axis=2))
    colour = np.random.default_rng(0).uniform(-1, 2, (2, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(rgb(colour), np.rint(colour.clip(0, 1) * 255))
    assert Image.open(io.BytesIO(png_bytes(Image.fromarray(RED)))).size == (32, 24)
