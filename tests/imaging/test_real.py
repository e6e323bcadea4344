"""Real images in the formats people have them in."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.diffusion import check_region
from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.imaging import ResizedImageWarning, read_real, read_region

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
    with pytest.raises(DataError, match=r"wrong number of channels \(1, the bundle has 3\)"):
        read_real(save(tmp_path / "b.png", pixels[..., 0]), spec)


@pytest.mark.parametrize("name", ["pipe", "pipe.png", "pipe.dcm", os.devnull])
def test_pipes_and_devices_are_refused(tmp_path: Path, spec: Manifest, name: str) -> None:
    path = tmp_path / name
    if name != os.devnull:
        os.mkfifo(path)
    for read in (read_real, read_region):
        with pytest.raises(DataError, match=re.escape(f"{path} is a pipe or a device: give a file")):
            read(path, spec)


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


INSIDE: NDArray[np.bool_] = np.zeros((24, 32), np.bool_)
INSIDE[4:9, 5:20] = True
REGIONS: dict[str, NDArray[np.generic]] = {
    "booleans.npy": INSIDE,
    "ones.npy": INSIDE.astype(np.int64),
    "bytes.npy": INSIDE * np.uint8(255),
    "floats.npy": INSIDE.astype(np.float32),
    "bits.png": INSIDE,
    "ones.png": INSIDE.astype(np.uint8),
    "bytes.png": INSIDE * np.uint8(255),
    "outside.npy": np.zeros((24, 32), np.uint8),
}


@pytest.mark.parametrize("name", REGIONS)
def test_files_and_arrays_of_regions_follow_one_rule(
    tmp_path: Path, spec: Manifest, tiny_rgb_bundle: Path, name: str
) -> None:
    found = read_region(save(tmp_path / name, REGIONS[name]), spec)
    np.testing.assert_array_equal(found, (REGIONS[name] != 0).astype(np.float32))
    np.testing.assert_array_equal(check_region(REGIONS[name]), REGIONS[name] != 0)
    rgb = Bundle.open(tiny_rgb_bundle).manifest
    with pytest.warns(ResizedImageWarning, match="24x32 and is resized to 16x20"):
        resized = read_region(tmp_path / name, rgb)
    assert set(np.unique(resized)) <= {0, 1}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (INSIDE.astype(np.uint8) * 2, "(0, 2)"),
        (np.where(INSIDE, 255, 1).astype(np.uint8), "(1, 255)"),
        (np.arange(768, dtype=np.uint8).reshape(24, 32), "(0, 1, 2, ...)"),
        (INSIDE * np.float32(0.5), "(0, 0.5)"),
        (INSIDE * np.float32(np.nan), "(nan)"),
    ],
)
def test_any_other_values_are_no_region(tmp_path: Path, spec: Manifest, values: NDArray[np.generic], said: str) -> None:
    message = re.escape(f"the region has values other than 0/1 or 0/255 {said}: if it is a label map, select classes")
    with pytest.raises(DataError, match=f"^{message}"):
        check_region(values)
    for name in ("a.npy", "a.png"):
        if name == "a.png" and values.dtype.kind == "f":
            continue
        with pytest.raises(DataError, match=f"{name}: {message}"):
            read_region(save(tmp_path / name, values), spec)


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.nii"])
def test_classes_of_a_label_map_may_be_the_region(
    tmp_path: Path, spec: Manifest, golden_mask: NDArray[np.uint8], name: str
) -> None:
    names = [c.name for c in spec.classes]
    if name == "a.nii":
        nib = pytest.importorskip("nibabel", reason="the extra nifti is not installed")
        nib.save(nib.Nifti1Image(golden_mask[::-1, ::-1].T[..., None], np.eye(4)), tmp_path / name)
    else:
        save(tmp_path / name, golden_mask)
    with pytest.raises(DataError, match="values other than 0/1 or 0/255"):
        read_region(tmp_path / name, spec)
    for ids in ([1], [1, 3], [0]):
        found = read_region(tmp_path / name, spec, classes=[names[i].upper() for i in ids])
        np.testing.assert_array_equal(found, np.isin(golden_mask, ids))
    with pytest.raises(OptionError, match="there is no class 'lung'"):
        read_region(tmp_path / name, spec, classes=["lung"])
    with pytest.raises(OptionError, match="no class is named"):
        read_region(tmp_path / name, spec, classes=[])


def test_a_region_of_labels_that_are_no_classes(tmp_path: Path, spec: Manifest) -> None:
    with pytest.raises(LabelMapError, match=r"a\.npy: labels 4, 5 are outside the classes"):
        labels = np.repeat(np.arange(6), 128).reshape(24, 32)
        read_region(save(tmp_path / "a.npy", labels), spec, classes=[spec.classes[1].name])
