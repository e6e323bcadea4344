"""Every layout is read alike, and every fault of the data is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seggd_rt.diffusion import AspectRatioWarning
from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.imaging import Axis, Reading
from seggd_training.data import Dataset, Split, check_apart, load_dataset, to_8_bit, to_unit
from seggd_training.data.intensity import DarkImagesWarning
from seggd_training.data.leakage import LeakageWarning
from tests.training.scenes import CLASSES, draw_scenes, npz_arrays


def test_npz(npz: Path) -> None:
    arrays = npz_arrays()
    train, val = (load_dataset(npz, split=split) for split in (Split.TRAIN, Split.VAL))
    assert (len(train), len(val)) == (9, 3)
    assert train.images.shape == (9, 16, 16, 1)
    np.testing.assert_array_equal(val.images[..., 0], arrays["image"][3::4])
    np.testing.assert_array_equal(val.label_maps, arrays["label"][3::4])
    assert tuple(c.name for c in val.classes) == CLASSES
    assert val.names == ("scenes.npz[3]", "scenes.npz[7]", "scenes.npz[11]")
    assert val.patients is None


@pytest.mark.parametrize("reading", [Reading(axis=Axis.AXIAL), Reading(threshold=0.5)])
def test_how_volumes_are_cut_is_not_said_of_an_npz(npz: Path, reading: Reading) -> None:
    with pytest.raises(OptionError, match=r"npz is an \.npz and has no volumes to cut: leave --(axis|threshold) out"):
        load_dataset(npz, split=Split.TRAIN, reading=reading)


def test_npz_with_patients_floats_and_channels(npz: Path) -> None:
    arrays = npz_arrays()
    arrays["image"] = np.stack([arrays["image"], 255 - arrays["image"]], axis=-1) / np.float32(255)
    arrays["patient"] = np.arange(12) // 4
    np.savez(npz, **arrays)
    data = load_dataset(npz, split=Split.VAL, classes=["nothing", "a", "b"])
    np.testing.assert_array_equal(to_8_bit(data.images)[..., 1], 255 - npz_arrays()["image"][3::4])
    assert data.patients is not None
    assert data.patients.tolist() == [0, 1, 2]
    assert data.classes[2].name == "b"


def test_folder_of_png(folder: Path) -> None:
    data = load_dataset(folder, split=Split.TRAIN, classes=CLASSES)
    images, labels = (array[:3] for array in draw_scenes(6, 16, 12))
    np.testing.assert_array_equal(data.images[..., 0], images)
    np.testing.assert_array_equal(data.label_maps, labels)
    assert data.names == ("0.png", "1.png", "2.png")


def save_volumes(root: Path, split: str = "train", patients: tuple[str, ...] = ("p1", "p2")) -> NDArray[np.int16]:
    """Write volumes of Hounsfield units with their label volumes; return the first patient's, (X, Y, Z)."""
    nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    images, labels = draw_scenes(6, 16, 12)
    affine = np.diag([-2.0, -2.0, 5.0, 1.0])
    for folder in ("images", "masks/all"):
        (root / folder / split).mkdir(parents=True)
    for index, patient in enumerate(patients):
        picked = slice(3 * index, 3 * index + 3)
        units = (images[picked].astype(np.int16) * 4 - 500).transpose(2, 1, 0)
        nib.save(nib.Nifti1Image(units, affine), root / "images" / split / f"{patient}.nii.gz")
        classes = labels[picked].transpose(2, 1, 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(classes, affine), root / "masks/all" / split / f"{patient}.nii")
        if index == 0:
            first = units
    return first


def test_folder_of_volumes(tmp_path: Path) -> None:
    save_volumes(tmp_path)
    data = load_dataset(tmp_path, split=Split.TRAIN, classes=CLASSES, intensity_range=(-500, 520))
    images, labels = draw_scenes(6, 16, 12)
    np.testing.assert_array_equal(data.label_maps, labels)
    np.testing.assert_allclose(data.images[..., 0] / 65535, images / 255, atol=1e-4)
    assert data.names[:2] == ("p1.nii.gz[0]", "p1.nii.gz[1]")
    assert data.patients is not None
    assert data.patients.tolist() == ["p1"] * 3 + ["p2"] * 3
    coronal = load_dataset(
        tmp_path, split=Split.TRAIN, classes=CLASSES, intensity_range=(-500, 520), reading=Reading(Axis.CORONAL)
    )
    assert coronal.label_maps.shape == (32, 3, 12)


def test_faults_of_volumes_are_named(tmp_path: Path) -> None:
    nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    units = save_volumes(tmp_path)
    mask = tmp_path / "masks/all/train/p2.nii"

    def load() -> Dataset:
        return load_dataset(tmp_path, split=Split.TRAIN, classes=CLASSES, intensity_range=(-500, 520))

    with pytest.raises(DataError, match=r"p1\.nii\.gz\[0\] .*--intensity-range"):
        load_dataset(tmp_path, split=Split.TRAIN, classes=CLASSES)
    nib.save(nib.Nifti1Image(np.zeros(units.shape, np.uint8), np.diag([-2.0, -2.0, 4.0, 1.0])), mask)
    with pytest.raises(DataError, match=r"p2\.nii lie 1 mm apart"):
        load()
    nib.save(nib.Nifti1Image(np.zeros((*units.shape[:2], 4), np.uint8), np.diag([-2.0, -2.0, 5.0, 1.0])), mask)
    with pytest.raises(DataError, match=r"has 3 slices, its mask .*p2\.nii 4"):
        load()
    nib.save(nib.Nifti1Image(np.full(units.shape, 77, np.uint8), np.diag([-2.0, -2.0, 5.0, 1.0])), mask)
    with pytest.raises(LabelMapError, match=r"p2\.nii, slice 0: label 77"):
        load()
    mask.unlink()
    with pytest.raises(DataError, match=r"p2\.nii\.gz has no mask"):
        load()


def test_two_volumes_of_one_name(tmp_path: Path) -> None:
    save_volumes(tmp_path)
    (tmp_path / "images/train/p1.nii").touch()
    with pytest.raises(DataError, match=r"p1\.nii and .*p1\.nii\.gz have one name"):
        load_dataset(tmp_path, split=Split.TRAIN, classes=CLASSES)


def test_folder_of_dicom(tmp_path: Path) -> None:
    """A segmentation has the slices from its first segment to its last, and names of its own."""
    pytest.importorskip("highdicom", reason="DICOM needs the extra dicom")
    from tests.imaging.dicom.dicoms import AXIAL, segmentation, series

    images, labels = draw_scenes(6, 16, 12)
    for folder in ("images/train", "masks/all/train"):
        (tmp_path / folder).mkdir(parents=True)
    series(tmp_path / "images/train/p1", images.astype(np.int16) * 4 - 500)
    moved = AXIAL.copy()
    moved[:3, 3] += 2 * AXIAL[:3, 2]
    names = [f"Segment of {name}" for name in CLASSES[1:]]
    segmentation(tmp_path / "masks/all/train/p1.dcm", labels[2:5], names, moved, sparse=False)

    def load(**said: str) -> Dataset:
        reading = Reading(segments={name: said.get(name, own) for name, own in zip(names, CLASSES[1:], strict=True)})
        window = (-500, 520)
        return load_dataset(tmp_path, split=Split.TRAIN, classes=CLASSES, intensity_range=window, reading=reading)

    data = load()
    np.testing.assert_array_equal(data.label_maps, labels[2:5])
    np.testing.assert_allclose(data.images[..., 0] / 65535, images[2:5] / 255, atol=1e-4)
    assert data.names == ("p1[2]", "p1[3]", "p1[4]")
    assert data.patients is not None and data.patients.tolist() == ["p1"] * 3
    np.testing.assert_array_equal(load(**{names[0]: "background"}).label_maps, labels[2:5] * (labels[2:5] != 1))
    moved[:3, 3] += 2 * AXIAL[:3, 2]
    segmentation(tmp_path / "masks/all/train/p1.dcm", labels[2:5], names, moved, sparse=False)
    with pytest.raises(DataError, match=r"has 6 slices, its mask .*p1\.dcm 3"):
        load()


@pytest.mark.parametrize(
    ("array", "pixel"),
    [
        (np.full((16, 12), 257 * 77, np.uint16), [77]),
        (np.full((16, 12, 3), (100, 200, 3), np.uint8), [100, 200, 3]),
    ],
    ids=["16 bit", "RGB"],
)
def test_kinds_of_png(folder: Path, array: np.ndarray, pixel: list[int]) -> None:
    for name in "012":
        Image.fromarray(array).save(folder / f"images/train/{name}.png")
    data = load_dataset(folder, split=Split.TRAIN, classes=CLASSES)
    assert to_8_bit(data.images)[0, 5, 5].tolist() == pixel


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_channels_of_npy(folder: Path, dtype: type) -> None:
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 16, 12, 5))
    for i in range(3):
        for kind, array in (("images", (images[i] * scale).astype(dtype)), ("masks/all", np.ones((16, 12), np.int64))):
            (folder / kind / f"train/{i}.png").unlink()
            np.save(folder / kind / f"train/{i}.npy", array)
    data = load_dataset(folder, split=Split.TRAIN, classes=CLASSES)
    np.testing.assert_array_equal(to_8_bit(data.images), images)
    assert data.images.dtype == (np.uint8 if dtype is np.uint8 else np.uint16)
    assert (data.label_maps == 1).all()


def test_palette_masks_are_read_by_index(folder: Path) -> None:
    mask = Image.fromarray(draw_scenes(1, 16, 12)[1][0], mode=None).convert("P")
    mask.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    mask.save(folder / "masks/all/train/0.png")
    data = load_dataset(folder, split=Split.TRAIN, classes=CLASSES)
    np.testing.assert_array_equal(data.label_maps[0], draw_scenes(1, 16, 12)[1][0])


def test_resize_by_area_and_nearest(npz: Path) -> None:
    arrays = npz_arrays()
    with pytest.warns(AspectRatioWarning, match=r"3 images are distorted: 16x16 to 8x4 changes the aspect ratio: crop"):
        data = load_dataset(npz, split=Split.VAL, image_size=(8, 4))
    area = arrays["image"][3::4].reshape(3, 8, 2, 4, 4).mean(axis=(2, 4))
    assert np.abs(data.images[..., 0] - area).max() <= 1  # PIL rounds after each axis
    np.testing.assert_array_equal(data.label_maps, arrays["label"][3::4][:, 1::2, 2::4])


def test_resize_unlike_sizes_to_one(folder: Path) -> None:
    images, labels = draw_scenes(1, 40, 30)
    Image.fromarray(images[0]).save(folder / "images/train/1.png")
    Image.fromarray(labels[0]).save(folder / "masks/all/train/1.png")
    data = load_dataset(folder, split=Split.TRAIN, classes=CLASSES, image_size=(16, 12))
    assert data.images.shape == (3, 16, 12, 1)
    # Antialiased: the shrunken disc keeps its brightness and the corners theirs.
    assert data.images[1, 8, 6, 0] > 200
    assert data.images[1, 0, 0, 0] < 40
    with pytest.raises(DataError, match=r"1\.png is 40x30, .*0\.png is 16x12: give --image-size"):
        load_dataset(folder, split=Split.TRAIN, classes=CLASSES)


def _write(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no mask": (lambda r: (r / "masks/all/train/1.png").unlink(), DataError, r"images/train/1\.png has no mask"),
    "no image": (lambda r: (r / "images/train/1.png").unlink(), DataError, r"masks/all/train/1\.png has no image"),
    "no images": (
        lambda r: [p.unlink() for p in (r / "images/train").iterdir()],
        DataError,
        r"images/train holds no image",
    ),
    "no folder": (lambda r: (r / "masks").rename(r / "labels"), DataError, r"masks/all/train is not there"),
    "sizes": (
        lambda r: _write(r / "masks/all/train/2.png", np.zeros((12, 16), np.uint8)),
        DataError,
        r"masks/all/train/2\.png is 12x16, its image .*images/train/2\.png is 16x12",
    ),
    "unknown label": (
        lambda r: _write(r / "masks/all/train/2.png", np.full((16, 12), 7, np.uint8)),
        LabelMapError,
        r"masks/all/train/2\.png: label 7 is outside the classes",
    ),
    "colour mask": (
        lambda r: _write(r / "masks/all/train/0.png", np.zeros((16, 12, 3), np.uint8)),
        DataError,
        r"masks/all/train/0\.png is a PNG of mode RGB",
    ),
    "transparent image": (
        lambda r: _write(r / "images/train/0.png", np.zeros((16, 12, 4), np.uint8)),
        DataError,
        r"images/train/0\.png is a PNG of mode RGBA",
    ),
    "channels differ": (
        lambda r: _write(r / "images/train/1.png", np.zeros((16, 12, 3), np.uint8)),
        DataError,
        r"images/train/1\.png has 3 channels and .*0\.png has 1: convert all images to grey, or all to RGB",
    ),
    "damaged": (
        lambda r: (r / "images/train/1.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more"),
        DataError,
        r"images/train/1\.png cannot be read",
    ),
    "truncated": (
        lambda r: (r / "images/train/1.png").write_bytes((r / "images/train/1.png").read_bytes()[:90]),
        DataError,
        r"images/train/1\.png cannot be read",
    ),
    "other file": (
        lambda r: (r / "images/train/a.txt").touch(),
        DataError,
        r"a\.txt is neither \.png, \.npy nor a volume",
    ),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_fault_of_a_folder_is_named(folder: Path, fault: str) -> None:
    spoil, kind, message = FOLDER_FAULTS[fault]
    spoil(folder)
    with pytest.raises(kind, match=message):
        load_dataset(folder, split=Split.TRAIN, classes=CLASSES)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((16, 12), np.int32), r"holds int32"),
        (np.full((16, 12), 1.5), r"has float values in \[1\.5, 1\.5\]"),
        (np.full((16, 12), np.nan), r"has float values that are not finite"),
        (np.zeros((1, 16, 12, 1), np.uint8), r"has shape \(1, 16, 12, 1\)"),
        (np.array([[{}]], object), r"holds Python objects"),
    ],
)
def test_fault_of_an_npy_image_is_named(folder: Path, array: np.ndarray, message: str) -> None:
    for kind in ("images", "masks/all"):
        (folder / kind / "train/0.png").unlink()
    np.save(folder / "images/train/0.npy", array, allow_pickle=True)
    np.save(folder / "masks/all/train/0.npy", np.zeros((16, 12), np.uint8))
    with pytest.raises(DataError, match=r"images/train/0\.npy " + message):
        load_dataset(folder, split=Split.TRAIN, classes=CLASSES)


def test_float_mask_is_refused(folder: Path) -> None:
    for kind in ("images", "masks/all"):
        (folder / kind / "train/0.png").unlink()
        np.save(folder / kind / "train/0.npy", np.zeros((16, 12), np.float32))
    with pytest.raises(LabelMapError, match=r"masks/all/train/0\.npy: a label map must hold integers"):
        load_dataset(folder, split=Split.TRAIN, classes=CLASSES)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"label": None}, DataError, "has no array 'label'"),
        ({"class_names": None}, DataError, "has no array 'class_names'.*or give --classes"),
        ({"label": np.zeros((12, 16, 15), np.uint8)}, DataError, r"image \(12, 16, 16\) and label \(12, 16, 15\)"),
        ({"label": np.full((12, 16, 16), 3)}, LabelMapError, "scenes.npz: label 3 is outside"),
        ({"label": np.zeros((12, 16, 16))}, LabelMapError, "scenes.npz: a label map must hold integers"),
        ({"split": np.zeros(11)}, DataError, r"split \(11,\): it must have one entry an image"),
        ({"patient": np.zeros(11)}, DataError, r"patient \(11,\)"),
        ({"split": np.zeros(12)}, DataError, "holds no image of split 1, 'val'"),
        ({"image": np.zeros((12, 16, 16), np.int16)}, DataError, "holds int16"),
        ({"class_names": np.array(["background", "Ring", "ring"])}, OptionError, "differ by more than case"),
        (
            {"class_names": np.array([b"background", b"a", b"b"])},
            DataError,
            "class_names of a wrong type .*: store strings",
        ),
        ({"class_names": np.zeros(3, "M8")}, DataError, "class_names of a wrong type .*: store strings"),
        ({"class_names": np.array([{}, {}, {}])}, DataError, "cannot be read as an .npz of plain arrays"),
    ],
)
def test_fault_of_an_npz_is_named(npz: Path, changes: dict, kind: type[Exception], message: str) -> None:
    arrays = {key: array for key, array in {**npz_arrays(), **changes}.items() if array is not None}
    np.savez(npz, **arrays)
    with pytest.raises(kind, match=message):
        load_dataset(npz, split=Split.VAL)


def test_paths_that_hold_no_data(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_dataset(tmp_path / "nowhere", split=Split.TRAIN)
    (tmp_path / "a.zip").touch()
    with pytest.raises(DataError, match=r"a\.zip is neither a folder"):
        load_dataset(tmp_path / "a.zip", split=Split.TRAIN)
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(DataError, match=re.escape("a.npz cannot be read")):
        load_dataset(tmp_path / "a.npz", split=Split.TRAIN)
    with pytest.raises(OptionError, match="give --classes"):
        load_dataset(folder, split=Split.TRAIN)
    with pytest.raises(OptionError, match="0x8"):
        load_dataset(folder, split=Split.TRAIN, classes=CLASSES, image_size=(0, 8))


def mri(count: int = 12) -> np.ndarray:
    """Return (N, 16, 16) uint16 of 12 bits, every grey level of 0 to 3071 in it."""
    return np.arange(count * 256, dtype=np.uint16).reshape(count, 16, 16) % 3072


def load_both(path: Path, **options: Any) -> tuple[Dataset, Dataset]:
    train, val = (load_dataset(path, split=split, **options) for split in (Split.TRAIN, Split.VAL))
    return train, val


def test_twelve_bits_keep_their_grey_levels(npz: Path) -> None:
    np.savez(npz, **{**npz_arrays(), "image": mri()})
    with pytest.warns(DarkImagesWarning, match=r"--intensity-range 0,28\d\d$"):
        plain = load_dataset(npz, split=Split.TRAIN)
    assert len(np.unique(plain.images)) == 9 * 256
    data = load_dataset(npz, split=Split.TRAIN, intensity_range=(0, 3071))
    assert len(np.unique(data.images)) == 9 * 256
    expected = mri()[np.arange(12) % 4 != 3] / 3071
    np.testing.assert_allclose(to_unit(data.images)[..., 0], expected, atol=1 / 65535)


def test_a_window_clips_and_takes_any_numbers(npz: Path) -> None:
    hounsfield = np.linspace(-1000, 3000, 12 * 256).reshape(12, 16, 16)
    for array in (hounsfield, hounsfield.astype(np.int16)):
        np.savez(npz, **{**npz_arrays(), "image": array})
        data = load_dataset(npz, split=Split.VAL, intensity_range=(-100, 300))
        expected = ((array[3::4] + 100) / 400).clip(0, 1)
        np.testing.assert_allclose(to_unit(data.images)[..., 0], expected, atol=1 / 65535)


def test_sixteen_bits_are_resized_without_loss(npz: Path) -> None:
    np.savez(npz, **{**npz_arrays(), "image": mri()})
    data = load_dataset(npz, split=Split.VAL, image_size=(8, 8), intensity_range=(0, 4095))
    area = mri()[3::4].reshape(3, 8, 2, 8, 2).mean(axis=(2, 4)) / 4095
    np.testing.assert_allclose(to_unit(data.images)[..., 0], area, atol=2 / 65535)


def test_a_folder_of_8_and_16_bits_is_of_one_scale(folder: Path) -> None:
    _write(folder / "images/train/1.png", np.full((16, 12), 257 * 200, np.uint16))
    data = load_dataset(folder, split=Split.TRAIN, classes=CLASSES)
    np.testing.assert_allclose(to_unit(data.images)[0, ..., 0], draw_scenes(6, 16, 12)[0][0] / 255, atol=1e-6)
    np.testing.assert_allclose(to_unit(data.images)[1], 200 / 255, atol=1e-6)


def test_a_window_below_all_pixels_is_refused(npz: Path) -> None:
    with pytest.raises(DataError, match="no pixel is under 0, which is white"):
        load_dataset(npz, split=Split.VAL, intensity_range=(-100, 0))


def test_bright_images_are_not_called_dark(npz: Path) -> None:
    load_both(npz)  # warnings are errors here


def test_a_size_rounded_to_pixels_is_not_called_distorted(npz: Path) -> None:
    arrays = npz_arrays()
    images, labels = draw_scenes(12, 65, 130)
    np.savez(npz, **{**arrays, "image": images, "label": labels})
    assert load_dataset(npz, split=Split.VAL, image_size=(33, 65)).images.shape == (3, 33, 65, 1)


def test_patients_in_two_splits_are_refused(npz: Path) -> None:
    np.savez(npz, **npz_arrays(), patient=np.array([f"p{i // 2}" for i in range(12)]))
    with pytest.raises(DataError, match=r"3 patients have images in both train and val \(p1, p3, p5\)"):
        check_apart(*load_both(npz))


def test_patients_of_one_split_each_are_no_leak(npz: Path) -> None:
    np.savez(npz, **npz_arrays(), patient=np.arange(12) % 4)
    assert check_apart(*load_both(npz)) is None


def test_an_image_in_two_splits_is_said(npz: Path) -> None:
    arrays = npz_arrays()
    arrays["image"][7] = arrays["image"][0]
    np.savez(npz, **arrays)
    with pytest.warns(
        LeakageWarning, match=r"1 image of val lies in train too \(val scenes.npz\[7\] = train scenes.npz\[0"
    ):
        assert check_apart(*load_both(npz)) is not None


def test_empty_slices_are_no_leak(npz: Path) -> None:
    arrays = npz_arrays()
    arrays["image"][[0, 3]] = 0
    np.savez(npz, **arrays)
    assert check_apart(*load_both(npz)) is None
