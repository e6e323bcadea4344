"""Real images in the formats people have them in."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seggd_rt.bundle import Bundle
from seggd_rt.errors import DataError
from seggd_rt.imaging.real import ResizedImageWarning, read_real, read_region
from seggd_rt.manifest import Manifest

GREY: NDArray[np.float32] = np.random.default_rng(0).uniform(0, 1, (24, 32)).astype(np.float32)


@pytest.fixture
def spec(tiny_bundle: Path) -> Manifest:
    return Bundle.open(tiny_bundle).manifest


def save(path: Path, array: NDArray[np.generic]) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "array", "step"),
    [
        ("float.npy", GREY, 1e-7),
        ("channel.npy", GREY[..., None], 1e-7),
        ("bytes.npy", np.rint(GREY * 255).astype(np.uint8), 1 / 255),
        ("bytes.png", np.rint(GREY * 255).astype(np.uint8), 1 / 255),
        ("words.png", np.rint(GREY * 65535).astype(np.uint16), 1 / 65535),
        ("UPPER.PNG", np.rint(GREY * 255).astype(np.uint8), 1 / 255),
    ],
)
def test_grey(tmp_path: Path, spec: Manifest, name: str, array: NDArray[np.generic], step: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_real(save(tmp_path / name, array), spec)
    assert (found.dtype, found.shape) == (np.float32, (24, 32))
    np.testing.assert_allclose(found, GREY, atol=step)


def test_rgb(tmp_path: Path, tiny_rgb_bundle: Path) -> None:
    spec = Bundle.open(tiny_rgb_bundle).manifest
    pixels = np.random.default_rng(1).integers(0, 256, (16, 20, 3)).astype(np.uint8)
    found = read_real(save(tmp_path / "a.png", pixels), spec)
    np.testing.assert_array_equal(found, pixels / np.float32(255))
    with pytest.raises(DataError, match="1 channels, and this bundle draws 3"):
        read_real(save(tmp_path / "b.png", pixels[..., 0]), spec)


def test_another_size_is_resized_and_said(tmp_path: Path, spec: Manifest) -> None:
    large = np.repeat(np.repeat(GREY, 2, axis=0), 2, axis=1)
    with pytest.warns(ResizedImageWarning, match="48x64 and is resized to 24x32$"):
        found = read_real(save(tmp_path / "a.npy", large), spec)
    np.testing.assert_allclose(found, GREY, atol=1e-6)
    with pytest.warns(ResizedImageWarning, match="40x64 and is resized to 24x32, which changes its aspect ratio"):
        read_real(save(tmp_path / "b.npy", large[4:44]), spec)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("a.npy", GREY * 2, "outside"),
        ("a.npy", GREY * np.nan, "no numbers"),
        ("a.npy", np.zeros((24, 32), np.int32), "float in"),
        ("a.npy", np.zeros(24), "float in"),
        ("a.png", np.zeros((24, 32, 4), np.uint8), "mode RGBA"),
    ],
)
def test_what_is_no_real_image(
    tmp_path: Path, spec: Manifest, name: str, array: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_real(save(tmp_path / name, array), spec)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_damaged_files(tmp_path: Path, spec: Manifest, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png"):
        read_real(tmp_path / "a.png", spec)
    with pytest.raises(DataError, match=r"b\.png"):
        read_real(tmp_path / "b.png", spec)


def test_a_region_is_white_where_to_draw(tmp_path: Path, spec: Manifest) -> None:
    inside = np.zeros((24, 32), np.bool_)
    inside[4:9, 5:20] = True
    expected = inside.astype(np.float32)
    for name, array in (("a.png", inside * np.uint8(255)), ("b.npy", inside), ("c.npy", expected)):
        np.testing.assert_array_equal(read_region(save(tmp_path / name, array), spec), expected)
    rgb = msgspec.structs.replace(spec, image=msgspec.structs.replace(spec.image, channels=3))
    np.testing.assert_array_equal(read_region(tmp_path / "a.png", rgb), expected)
    soft = expected * np.float32(0.5)
    np.testing.assert_array_equal(read_region(save(tmp_path / "d.npy", soft), spec), soft)


@pytest.mark.parametrize("name", ["a.png", "a.npy"])
def test_a_region_of_zeros_and_ones_is_no_region(tmp_path: Path, spec: Manifest, name: str) -> None:
    ones = np.zeros((24, 32), np.uint8)
    ones[3:5] = 1
    with pytest.raises(DataError, match="write 255 where to draw"):
        read_region(save(tmp_path / name, ones), spec)
