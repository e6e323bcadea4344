"""DICOM in: segmentations, series of class ids, real images, and what is none of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pydicom", reason="the extra dicom is not installed")
pytest.importorskip("highdicom", reason="the extra dicom is not installed")

import msgspec
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.diffusion import name_classes
from seggd_rt.errors import DataError, LabelMapError, ManifestError, OptionError, SeggdError
from seggd_rt.imaging import (
    PLAIN,
    Axis,
    Fit,
    LabelMapFile,
    LabelMapSet,
    Place,
    Reading,
    Slice,
    read_real,
    read_region,
    require_reader,
    stem,
)
from seggd_rt.imaging.dicom import DicomReader
from seggd_rt.imaging.dicom.slices import EmptySlicesWarning
from seggd_rt.imaging.geometry import Geometry
from seggd_rt.imaging.real import MisplacedImageWarning
from seggd_rt.runs import OneMask, plan_run
from tests.bundles import TINY, copy_bundle, edit_manifest
from tests.commands import run_command
from tests.imaging.dicom.dicoms import (
    AXIAL,
    CAPTURE,
    CT,
    FRAME,
    MR,
    WAYS_TO_STORE,
    Way,
    save,
    segmentation,
    series,
    slice_object,
    stored_as,
    turned,
)

pytestmark = pytest.mark.filterwarnings("ignore::seggd_rt.imaging.dicom.slices.EmptySlicesWarning")
"""Most segmentations here leave empty slices out, as those of other tools do."""

READER = DicomReader()


def shift(*, slices: int) -> NDArray[np.float64]:
    return shifted_mm(0, 0, slices)


def shifted_mm(x: float, y: float, z: float) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


NAMES = ["cavity", "myocardium", "right ventricle"]
READING = Reading(classes=name_classes(["background", *NAMES]))


def labels() -> NDArray[np.uint8]:
    """(6, 8, 10): the first slice and two inner ones are empty, each class is in one or two others."""
    volume = np.zeros((6, 8, 10), np.uint8)
    volume[1, 1:3, 2:9], volume[1, 5:, :4] = 1, 2
    volume[4, 2:4, 1:], volume[5, 7, 9] = 3, 1
    return volume


def volume_of(file: LabelMapFile) -> NDArray[Any]:
    return np.stack([file.read(index) for index in range(len(file))])


# Segmentations


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("affine", [AXIAL, turned([0.1, -0.2, 0.3])], ids=["axial", "oblique"])
def test_a_segmentation_is_its_label_map(tmp_path: Path, kind: str, affine: NDArray[np.float64]) -> None:
    file = READER.open(segmentation(tmp_path / "a.dcm", labels(), NAMES, affine, kind=kind), READING)
    assert file.stacked
    assert file.geometry is not None
    assert (file.geometry.is_known, file.geometry.frame_of_reference) == (True, FRAME)
    np.testing.assert_allclose(file.geometry.spacing_mm, (1.5, 0.8))
    # Its first slice is empty and left out of the file; two in between are too, and are there.
    np.testing.assert_array_equal(volume_of(file), labels()[1:])
    expected = affine.copy()
    expected[:3, 3] += affine[:3, 2]
    np.testing.assert_allclose(file.geometry.affine, expected, atol=1e-6)


SHOWN = {
    "axial": AXIAL,
    "coronal": np.array([[0.8, 0, 0, -31.25], [0, 0, 2.5, -20.5], [0, -1.5, 0, 100.125], [0, 0, 0, 1]]),
    "sagittal": np.array([[0, 0, 2.5, -31.25], [0.8, 0, 0, -20.5], [0, -1.5, 0, 100.125], [0, 0, 0, 1]]),
    "oblique": turned([0.3, -0.2, 0.25]),
}
"""Slices as they are looked at, of (column, row, slice)."""


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
@pytest.mark.parametrize("way", WAYS_TO_STORE, ids=str)
def test_slices_are_shown_alike_however_they_are_stored(tmp_path: Path, way: Way, shown: NDArray[np.float64]) -> None:
    whole = labels()
    whole[0, 0, 9] = 3
    stored, affine = stored_as(way, whole, shown)
    mask = segmentation(tmp_path / "a.dcm", stored, NAMES, affine)
    images = series(tmp_path / "images", stored.astype(np.int16) * 7, affine)[0].parent
    maps = series(tmp_path / "maps", stored, affine)[0].parent
    for file, expected in (
        (READER.open(mask, READING), whole),
        (READER.open_region(mask, READING), whole > 0),
        (READER.open(maps, READING), whole),
        (READER.open_real(images), whole * 7),
    ):
        np.testing.assert_array_equal(volume_of(file), expected)
        assert file.geometry is not None
        np.testing.assert_allclose(file.geometry.affine, shown, atol=1e-6)
        one = Slice(file, 4)
        assert one.geometry is not None
        np.testing.assert_allclose(one.geometry.affine, shown @ shift(slices=4), atol=1e-6)
    # With the first axis of the file's array they stay as they lie there.
    as_they_lie = READER.open(mask, Reading(axis=Axis.FIRST, classes=READING.classes))
    assert as_they_lie.geometry is not None
    np.testing.assert_allclose(as_they_lie.geometry.affine[:3, :2], affine[:3, :2], atol=1e-6)
    assert (as_they_lie.read(0) == stored[0]).all() or (as_they_lie.read(0) == stored[-1]).all()


def test_with_empty_frames_all_slices_are_there(tmp_path: Path) -> None:
    file = READER.open(segmentation(tmp_path / "a.dcm", labels(), NAMES, sparse=False), READING)
    np.testing.assert_array_equal(volume_of(file), labels())


def test_a_segmentation_of_one_slice(tmp_path: Path) -> None:
    file = READER.open(segmentation(tmp_path / "a.dcm", labels()[1:2], NAMES[:2]), READING)
    assert (len(file), file.stacked) == (1, False)
    assert file.geometry is not None
    np.testing.assert_allclose(file.geometry.affine, AXIAL, atol=1e-6)  # as thick as slices are apart


def test_segments_are_what_the_reading_says(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "a.dcm", labels(), ["Kammer", "Muskel", "x"], meanings=["a", "Myocardium", "c"])
    with pytest.raises(LabelMapError, match="'Kammer', 'x' are none of the classes 'cavity', 'myocardium', 'right"):
        READER.open(path, READING)
    said = Reading(classes=READING.classes, segments={"kammer": "Right ventricle", "X": "background"})
    expected = np.array([0, 3, 2, 0])[labels()[1:]]
    np.testing.assert_array_equal(volume_of(READER.open(path, said)), expected)


def test_overlapping_segments_are_refused_unless_they_are_one_class(tmp_path: Path) -> None:
    both = np.zeros((2, 8, 10, 2), np.uint8)
    both[:, 1:4, 2:5, 0] = both[:, 3:6, 4:9, 1] = 1
    path = segmentation(tmp_path / "a.dcm", both[..., 0], ["cavity", "Wall"], pixels=both)
    apart = Reading(classes=READING.classes, segments={"Wall": "myocardium"})
    with pytest.raises(LabelMapError, match=r"segments 'cavity' and 'Wall' overlap, .* with --map \"Wall=background\""):
        READER.open(path, apart).read(0)
    for target, expected in (("cavity", both.any(axis=3)), ("background", both[..., 0])):
        file = READER.open(path, Reading(classes=READING.classes, segments={"Wall": target}))
        np.testing.assert_array_equal(volume_of(file), expected)


def test_fractions_need_a_threshold(tmp_path: Path) -> None:
    shares = np.zeros((2, 8, 10), np.float64)
    shares[:, 1, :5] = [0.2, 0.4, 0.5, 0.6, 1]
    path = segmentation(tmp_path / "a.dcm", np.ones((2, 8, 10), np.uint8), ["cavity"], kind="FRACTIONAL", pixels=shares)
    with pytest.raises(LabelMapError, match="--threshold"):
        READER.open(path, READING)
    for threshold in (0.3, 0.55, 1.0):
        file = READER.open(path, Reading(classes=READING.classes, threshold=threshold))
        np.testing.assert_array_equal(volume_of(file), shares >= threshold)
    with pytest.raises(OptionError, match=r"threshold of fractions is 1.5"):
        READER.open(path, Reading(classes=READING.classes, threshold=1.5))


def test_another_plane_than_the_stored_one(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "a.dcm", labels(), NAMES)
    for axis in (Axis.AXIAL, Axis.FIRST):
        READER.open(path, Reading(classes=READING.classes, axis=axis))
    with pytest.raises(DataError, match="holds axial slices, and DICOM is not cut along another axis, sagittal"):
        READER.open(path, Reading(classes=READING.classes, axis=Axis.SAGITTAL))


def change_segmentation(path: Path, change: Callable[[pydicom.Dataset], None]) -> Path:
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(path)
    return path


def lose_a_frame(data: pydicom.Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[0]


def name_no_segment(data: pydicom.Dataset) -> None:
    data.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def lay_two_together(data: pydicom.Dataset) -> None:
    one, two = (data.PerFrameFunctionalGroupsSequence[k] for k in (0, 1))
    two.PlanePositionSequence, two.SegmentIdentificationSequence = (
        one.PlanePositionSequence,
        one.SegmentIdentificationSequence,
    )


def lose_a_place(data: pydicom.Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def be_a_slide(data: pydicom.Dataset) -> None:
    data.TotalPixelMatrixRows = 8


def be_a_surface(data: pydicom.Dataset) -> None:
    data.SegmentationType = "SURFACE"


def lie_far(data: pydicom.Dataset) -> None:
    for item in data.PerFrameFunctionalGroupsSequence[1:]:
        item.PlanePositionSequence[0].ImagePositionPatient[2] += 1e8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lose_a_frame, "states 4 frames and describes 3"),
        (name_no_segment, "a frame of segment 9, which it does not describe"),
        (lay_two_together, "two frames of one segment at one place"),
        (lose_a_place, "where some frames lie, and of others not"),
        (be_a_slide, "tiles"),
        (be_a_surface, "of the type 'SURFACE'"),
        (lie_far, r"would have \d+ that are 2.5 mm apart"),
    ],
)
def test_segmentations_that_are_none(tmp_path: Path, change: Callable[[pydicom.Dataset], None], message: str) -> None:
    path = change_segmentation(segmentation(tmp_path / "a.dcm", labels(), NAMES), change)
    with pytest.raises(DataError, match=message):
        READER.open(path, READING)


def test_a_segmentation_may_have_too_many_voxels(tmp_path: Path) -> None:
    """Also where each frame is small."""
    volume = np.zeros((3, 1024, 1024), np.uint8)
    volume[:, 0, 0] = 1
    path = segmentation(tmp_path / "a.dcm", volume, NAMES[:1])

    def lie_apart(data: pydicom.Dataset) -> None:
        data.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient[2] += 260 * 2.5

    with pytest.raises(DataError, match="spans 260 slices of 1024x1024: a volume may have"):
        READER.open(change_segmentation(path, lie_apart), READING)


def state_spacing(mm: float | None, thickness_mm: float = 2.5) -> Callable[[pydicom.Dataset], None]:
    def change(data: pydicom.Dataset) -> None:
        measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices, measures.SliceThickness = mm, thickness_mm
        if mm is None:
            del measures.SpacingBetweenSlices

    return change


def every(number: int) -> NDArray[np.uint8]:
    """(5, 8, 10): a segment in every second slice, say."""
    volume = np.zeros((5, 8, 10), np.uint8)
    volume[::number, 2:5, 2:5] = 1
    return volume


@pytest.mark.parametrize(
    ("volume", "change", "count", "warned"),
    [
        (every(1), state_spacing(2.5), 5, []),
        (every(1), state_spacing(None), 5, []),  # as far apart as they are thick
        (every(2), state_spacing(2.5), 5, ["has 3 of 5 slices: those between are read as empty"]),
        (every(2), state_spacing(None), 3, ["does not state how far apart slices are .*: 5 mm is taken, the smallest"]),
        (every(1), state_spacing(1.25), 9, ["has 5 of 9 slices"]),
        (every(1), state_spacing(2.0), 5, ["has frames that are not 2 mm apart, as .* states: 2.5 mm is taken"]),
        (every(1), state_spacing(0.025), 401, ["has 5 of 401 slices"]),
    ],
)
def test_slices_that_are_filled_in_are_named(
    tmp_path: Path, volume: NDArray[np.uint8], change: Callable[[pydicom.Dataset], None], count: int, warned: list[str]
) -> None:
    path = change_segmentation(segmentation(tmp_path / "a.dcm", volume, NAMES[:1]), change)
    for opening in (READER.open, READER.open_region):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            assert len(opening(path, READING)) == count
        assert {each.category for each in found} <= {EmptySlicesWarning}
        assert len(found) == len(warned)
        for each, message in zip(found, warned, strict=True):
            assert re.search(message, str(each.message))


@pytest.mark.parametrize("mm", [0.0001, 0.01, 0.0197])
def test_a_spacing_that_leaves_far_more_empty_slices_than_frames_is_refused(tmp_path: Path, mm: float) -> None:
    path = change_segmentation(segmentation(tmp_path / "a.dcm", every(1), NAMES[:1]), state_spacing(mm))
    with pytest.raises(
        DataError, match=rf"has 5 slices, and would have \d+ that are {mm:g} mm apart, .* correct Spacing"
    ):
        READER.open(path, READING)


def be_of_the_fraction(largest: int | None) -> Callable[[pydicom.Dataset], None]:
    def change(data: pydicom.Dataset) -> None:
        data.MaximumFractionalValue = largest
        if largest is None:
            del data.MaximumFractionalValue

    return change


def be_fractional(data: pydicom.Dataset) -> None:
    data.SegmentationType, data.MaximumFractionalValue = "FRACTIONAL", 255


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("FRACTIONAL", be_of_the_fraction(0), r"which of its 8-bit values is the fraction 1 \(Max.*Value 0\): export"),
        ("FRACTIONAL", be_of_the_fraction(None), r"the fraction 1 \(MaximumFractionalValue missing\): export"),
        ("FRACTIONAL", be_of_the_fraction(100), r"has fractions greater than 1 \(204 of 100\): export"),
        ("BINARY", be_fractional, r"which of its 1-bit values is the fraction 1 \(MaximumFractionalValue 255\)"),
    ],
)
def test_fractions_of_what_is_not_known(
    tmp_path: Path, kind: str, change: Callable[[pydicom.Dataset], None], message: str
) -> None:
    shares = np.full((2, 8, 10), 0.8) if kind == "FRACTIONAL" else None
    path = segmentation(tmp_path / "a.dcm", np.ones((2, 8, 10), np.uint8), ["cavity"], kind=kind, pixels=shares)
    change_segmentation(path, change)
    for opening in (READER.open, READER.open_region):
        with pytest.raises(DataError, match=message):
            opening(path, Reading(classes=READING.classes, threshold=0.5)).read(0)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_two_segments_of_one_number_are_refused(tmp_path: Path, kind: str) -> None:
    path = segmentation(tmp_path / "a.dcm", labels(), NAMES, kind=kind)
    change_segmentation(path, lambda data: setattr(data.SegmentSequence[-1], "SegmentNumber", 1))
    with pytest.raises(DataError, match=r"describes several segments with one number \(1\): export it again"):
        READER.open(path, READING)


def test_a_label_map_with_an_unknown_number(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "a.dcm", labels(), NAMES, kind="LABELMAP")
    change_segmentation(path, lambda data: setattr(data, "PixelData", data.PixelData.replace(b"\x03", b"\x07")))
    with pytest.raises(DataError, match="pixels of segment 7, which it does not describe"):
        READER.open(path, READING).read(0)


# Series


def test_a_series_is_sorted_by_place(tmp_path: Path) -> None:
    affine = turned([0.2, 0.1, -0.3])
    series(tmp_path / "case.1", labels(), affine)
    (tmp_path / "case.1" / "readme.txt").write_text("not read")
    (tmp_path / "case.1" / "LICENSE").write_text("not read")
    assert READER.owns(tmp_path / "case.1")
    assert stem(tmp_path / "case.1") == "case.1"
    (file,) = LabelMapSet.open(tmp_path / "case.1", READING).files
    np.testing.assert_array_equal(volume_of(file), labels())
    assert file.geometry is not None
    assert file.geometry.frame_of_reference == FRAME
    np.testing.assert_allclose(file.geometry.affine, affine, atol=1e-6)


def test_names_need_no_suffix(tmp_path: Path) -> None:
    for path in series(tmp_path / "a", labels()):
        path.rename(path.with_name(f"1.2.3.{path.stem}" if int(path.stem) % 2 else f"IM{path.stem}"))
    np.testing.assert_array_equal(volume_of(READER.open(tmp_path / "a", READING)), labels())


def test_a_folder_of_series_is_many_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        series(tmp_path / name, labels())
        monkeypatch.chdir(tmp_path / name)
        assert READER.open(Path(), READING).path.name == name
    assert [len(file) for file in LabelMapSet.open(tmp_path, READING).files] == [6, 6]


def test_a_folder_of_segmentations_is_no_series(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        segmentation(tmp_path / name, labels(), NAMES)
    assert not READER.owns(tmp_path)
    assert [len(file) for file in LabelMapSet.open(tmp_path, READING).files] == [5, 5]
    series(tmp_path, labels(), prefix="slice")
    with pytest.raises(
        DataError, match=r"holds images and a segmentation: give the segmentation as label map \(a\.dcm\)"
    ):
        LabelMapSet.open(tmp_path, READING)
    assert len(READER.open_real(tmp_path)) == 6


def test_folders_that_are_no_series(tmp_path: Path) -> None:
    series(tmp_path / "two", labels())
    series(tmp_path / "two", labels(), prefix="b", series="1.2.9", SeriesDescription="other")
    with pytest.raises(DataError, match=r"2 series \(6 of 'no description', as 0000.dcm; 6 of 'other', as b0000.dcm\)"):
        READER.open(tmp_path / "two", READING)
    paths = series(tmp_path / "gap", labels())
    paths[3].unlink()
    with pytest.raises(DataError, match=r"slices missing: slices 2 and 3 are 5 mm apart, others 2\.5 mm"):
        READER.open(tmp_path / "gap", READING)
    save(slice_object(labels()[0], turned([0.3, 0, 0]), 3), paths[3])
    with pytest.raises(DataError, match="several orientations"):
        READER.open(tmp_path / "gap", READING)
    save(slice_object(labels()[0][:5], AXIAL, 3), paths[3])
    with pytest.raises(DataError, match="several sizes"):
        READER.open(tmp_path / "gap", READING)
    save(slice_object(labels()[0], AXIAL, 3, FrameOfReferenceUID="1.9"), paths[3])
    with pytest.raises(DataError, match="several frames of reference"):
        READER.open(tmp_path / "gap", READING)
    save(slice_object(labels()[0], AXIAL, 3, ImagePositionPatient=None), paths[3])
    with pytest.raises(DataError, match="has slices without a position"):
        READER.open(tmp_path / "gap", READING)
    paths[3].write_bytes(b"text")
    with pytest.raises(DataError, match="is not a DICOM file"):
        READER.open(tmp_path / "gap", READING)


@pytest.mark.parametrize("keyword", ["PatientID", "PatientName", "StudyInstanceUID"])
@pytest.mark.parametrize("other", ["1.2.3.9", None])
def test_a_series_is_of_one_patient_and_study(tmp_path: Path, keyword: str, other: str | None) -> None:
    paths = series(tmp_path / "a", labels())
    save(slice_object(labels()[3], AXIAL, 3, **{keyword: other}), paths[3])
    for opening in (READER.open, READER.open_region, READER.open_real):
        with pytest.raises(DataError, match=rf"several patients or studies \({keyword} differs in ") as raised:
            opening(tmp_path / "a", READING)
        assert paths[3].name in str(raised.value)
        assert "Doe" not in str(raised.value), "a patient's name is shown nowhere"


def test_one_slice(tmp_path: Path) -> None:
    file = READER.open(save(slice_object(labels()[1], AXIAL, 2), tmp_path / "a.dcm"), READING)
    assert (len(file), file.stacked) == (1, False)
    np.testing.assert_array_equal(file.read(0), labels()[1])
    assert file.geometry is not None
    np.testing.assert_allclose(file.geometry.affine[:3, 3], AXIAL[:3, 3] + 2 * AXIAL[:3, 2])


def test_a_picture_lies_nowhere(tmp_path: Path) -> None:
    plain = slice_object(labels()[1], AXIAL, 0, CAPTURE)
    assert READER.open(save(plain, tmp_path / "a.dcm"), READING).geometry is None
    plain.NominalScannedPixelSpacing = [3, 2]
    geometry = READER.open(save(plain, tmp_path / "b.dcm"), READING).geometry
    assert geometry is not None
    assert (geometry.is_known, geometry.spacing_mm) == (False, (3, 2))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings(tmp_path: Path, syntax: str) -> None:
    data = slice_object(labels()[1].astype(np.int16), AXIAL, 0)
    if syntax == ExplicitVRBigEndian:
        data.PixelData = labels()[1].astype(">i2").tobytes()
        data["PixelData"].VR = "OW"
    np.testing.assert_array_equal(READER.open(save(data, tmp_path / "a.dcm", syntax), READING).read(0), labels()[1])


def test_run_lengths(tmp_path: Path) -> None:
    data = slice_object(labels()[1], AXIAL, 0)
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.compress(pydicom.uid.RLELossless)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(READER.open(tmp_path / "a.dcm", READING).read(0), labels()[1])


def test_rescaled_class_ids(tmp_path: Path) -> None:
    data = slice_object((labels()[1] + np.int16(1024)), AXIAL, 0, RescaleIntercept=-1024)
    np.testing.assert_array_equal(READER.open(save(data, tmp_path / "a.dcm"), READING).read(0), labels()[1])
    data.RescaleSlope = 0.5
    with pytest.raises(LabelMapError, match="holds fractions"):
        READER.open(save(data, tmp_path / "a.dcm"), READING).read(0)


# Real images


@pytest.mark.filterwarnings("ignore::seggd_rt.imaging.real.ResizedImageWarning")
def test_real_images_are_in_their_own_units(tmp_path: Path) -> None:
    stored = np.arange(480, dtype=np.int16).reshape(6, 8, 10)
    series(tmp_path / "a", stored, RescaleSlope=2, RescaleIntercept=-1024)
    file = READER.open_real(tmp_path / "a")
    assert file.physical
    np.testing.assert_array_equal(np.stack([file.read(k) for k in range(6)]), stored * 2.0 - 1024)
    manifest = ranged(-1024, -64)
    found = read_real(tmp_path / "a", manifest, Reading(index=5))
    assert (found.shape, found.min()) == ((24, 32), 400 * 2 / 960)
    assert read_real(tmp_path / "a" / "0000.dcm", manifest).shape == (24, 32)
    with pytest.raises(OptionError, match="holds 6 slices"):
        read_real(tmp_path / "a", manifest)


def ranged(low: float, high: float) -> Any:
    manifest = Bundle.open(TINY).manifest
    return msgspec.structs.replace(manifest, intensity_range=(low, high))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_inverted_images_are_turned(tmp_path: Path, dtype: type[np.integer]) -> None:
    stored = np.linspace(np.iinfo(dtype).min, np.iinfo(dtype).max, 80).astype(dtype).reshape(8, 10)
    data = slice_object(stored, AXIAL, 0, MR, PhotometricInterpretation="MONOCHROME1")
    found = READER.open_real(save(data, tmp_path / "a.dcm")).read(0)
    limits = np.iinfo(dtype)
    np.testing.assert_array_equal(found, limits.max + limits.min - stored.astype(np.int64))
    # Of class ids nothing is turned.
    np.testing.assert_array_equal(READER.open(tmp_path / "a.dcm").read(0), stored)
    # Nor of what has a unit, in which values mean the same however they are shown.
    data.RescaleSlope, data.RescaleIntercept = 2, -1024
    found = READER.open_real(save(data, tmp_path / "units.dcm")).read(0)
    np.testing.assert_array_equal(found, (2 * stored.astype(np.float64) - 1024).astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "change", "is_turned"),
    [
        (CT, {"RescaleType": "HU"}, False),
        (CT, {}, False),
        (CT, {"RescaleSlope": None, "RescaleIntercept": None}, False),
        (MR, {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "T1"}, False),
        (MR, {"RescaleSlope": 1, "RescaleIntercept": 0}, False),
        (MR, {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US"}, True),  # as X-ray images state it
        (MR, {}, True),
    ],
)
def test_inverted_images_with_a_unit_keep_their_values(
    tmp_path: Path, kind: str, change: dict[str, Any], is_turned: bool
) -> None:
    """Also where the rescale is slope 1 and intercept 0, as of CT."""
    stored = np.arange(-40, 40, dtype=np.int16).reshape(8, 10)
    data = slice_object(stored, AXIAL, 0, kind, PhotometricInterpretation="MONOCHROME1", **change)
    found = READER.open_real(save(data, tmp_path / "a.dcm")).read(0)
    np.testing.assert_array_equal(found, -1 - stored if is_turned else stored)


def test_a_lookup_table(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.add_new("LUTData", "US", [5, 10, 20, 40])
    data = slice_object(labels()[1], AXIAL, 0, MR)
    data.ModalityLUTSequence = [table]
    found = READER.open_real(save(data, tmp_path / "a.dcm")).read(0)
    np.testing.assert_array_equal(found, np.array([5, 10, 20, 40])[labels()[1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PhotometricInterpretation": "RGB"}, "is RGB, not grey"),
        ({"SamplesPerPixel": 3}, "3 samples a pixel"),
        ({"NumberOfFrames": 2, "Rows": 4}, "holds 2 frames"),
        ({"BitsAllocated": 12}, "no pixels that are read"),
        ({"Rows": None}, "no pixels that are read"),
        ({"PixelData": None}, "no pixels that are read"),
    ],
)
def test_what_is_no_real_image(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = save(slice_object(labels()[1], AXIAL, 0, **change), tmp_path / "a.dcm")
    with pytest.raises(DataError, match=message):
        READER.open_real(path)


def test_values_that_are_none(tmp_path: Path) -> None:
    path = save(slice_object(labels()[1], AXIAL, 0, RescaleSlope="3"), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"DS\x02\x003 ", b"DS\x04\x00nan "))
    with pytest.raises(DataError, match="slope or intercept that is none"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        READER.open_real(path).read(0)


def test_a_segmentation_is_no_real_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a segmentation, no image"):
        READER.open_real(segmentation(tmp_path / "a.dcm", labels(), NAMES))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_is_a_region_whatever_its_segments(tmp_path: Path, kind: str) -> None:
    """Also where segments overlap, of which no label map could be made."""
    manifest = ranged(-100, 100)
    height, width = manifest.image.height, manifest.image.width
    volume = np.zeros((2, height, width), np.uint8)
    volume[0, 3:9, 4:20], volume[1, 5:7, 2:9] = 2, 3
    path = segmentation(tmp_path / "a.dcm", volume, NAMES, kind=kind)
    for index in (0, 1):
        region = read_region(path, manifest, Reading(index=index))
        np.testing.assert_array_equal(region, (volume[index] != 0).astype(np.float32))
    with pytest.raises(OptionError, match="holds 2 slices"):
        read_region(path, manifest)
    both = np.zeros((1, height, width, 2), bool)
    both[0, 3:9, 4:20, 0] = both[0, 6:12, 9:22, 1] = True
    overlapping = segmentation(tmp_path / "b.dcm", volume[:1], NAMES[:2], pixels=both)
    with pytest.raises(LabelMapError, match="overlap"):
        READER.open(overlapping, READING).read(0)
    np.testing.assert_array_equal(read_region(overlapping, manifest), both[0].any(axis=-1).astype(np.float32))
    named = with_classes(manifest)
    for place, name in enumerate(NAMES[1:]):
        region = read_region(path, named, Reading(index=place), classes=[name])
        np.testing.assert_array_equal(region, volume[place] == place + 2)


def test_the_real_slice_lies_where_the_label_map_does(tmp_path: Path) -> None:
    """A segmentation begins where its first segment does, not where the series does."""
    manifest = ranged(0, 1000)
    height, width = manifest.image.height, manifest.image.width
    volume = np.zeros((7, height, width), np.int16)
    volume += np.arange(7, dtype=np.int16)[:, None, None] * 100
    series(tmp_path / "series", volume)
    shifted = AXIAL @ shift(slices=2)
    numbers = np.zeros((3, height, width), np.uint8)
    numbers[0, 3:9], numbers[1, 2:5], numbers[2, 5:7] = 1, 2, 1
    path = segmentation(tmp_path / "a.dcm", numbers, NAMES, shifted)
    for index in range(3):
        mask = OneMask.read(path, with_classes(manifest), Reading(index=index))
        np.testing.assert_allclose(mask.read_real(tmp_path / "series"), (index + 2) / 10, atol=1e-6)
        np.testing.assert_allclose(mask.read_real(tmp_path / "series", 6), 0.6, atol=1e-6)
        np.testing.assert_array_equal(mask.read_region(path, 2 - index), numbers[index] != 0)
    for slices in (-1, 7):
        with pytest.raises(OptionError, match="no slice where the label map lies"):
            real_beside(tmp_path / "series", manifest, Geometry(AXIAL @ shift(slices=slices), FRAME))


@pytest.mark.parametrize("way", WAYS_TO_STORE, ids=str)
def test_a_real_slice_lies_beside_a_label_map_that_is_stored_otherwise(tmp_path: Path, way: Way) -> None:
    manifest = with_classes(ranged(0, 1000))
    size = (3, manifest.image.height, manifest.image.width)
    volume = np.random.default_rng(0).integers(0, 1000, size).astype(np.int16)
    numbers = (volume > 700).astype(np.uint8)
    mask = OneMask.read(segmentation(tmp_path / "a.dcm", numbers, NAMES), manifest, Reading(index=1))
    stored, affine = stored_as(way, volume, AXIAL)
    series(tmp_path / "series", stored, affine)
    np.testing.assert_allclose(mask.read_real(tmp_path / "series"), volume[1] / 1000, atol=1e-6)
    region = segmentation(tmp_path / "b.dcm", (stored > 700).astype(np.uint8), NAMES, affine)
    np.testing.assert_array_equal(mask.read_region(region), numbers[1])


@pytest.mark.parametrize(
    ("affine", "apart"),
    [
        (np.diag([1, 1, 1, 1]), None),
        (np.diag([1, 1, 1.001, 1]), None),
        (shifted_mm(0.5, 0.5, 1.2), None),  # half a pixel, of the coarser spacing, and half a slice
        (shifted_mm(0.8, 0, 0), "0.8"),
        (shifted_mm(0, 0, 100), "no slice"),
        (np.diag([0.5, 1, 1, 1]), "6.4"),
        (np.diag([-1, -1, 1, 1]), "mm"),
        (turned([0.1, 0, 0], np.eye(4)), "mm"),
        (turned([np.pi / 2, 0, 0], np.eye(4)), "no slice"),
    ],
)
def test_in_one_space_a_real_slice_lies_where_the_label_map_does_or_is_refused(
    tmp_path: Path, affine: NDArray[np.float64], apart: str | None
) -> None:
    """About the middle of the series, so that a turn leaves its first pixel in it."""
    manifest = ranged(0, 1000)
    height, width = manifest.image.height, manifest.image.width
    series(tmp_path / "a", np.full((7, height, width), 500, np.int16))
    middle = np.eye(4)
    middle[:3, 3] = (AXIAL @ [(width - 1) / 2, (height - 1) / 2, 3, 1])[:3]
    there = middle @ affine @ np.linalg.inv(middle) @ AXIAL @ shift(slices=3)
    if apart is None:
        np.testing.assert_allclose(real_beside(tmp_path / "a", manifest, Geometry(there, FRAME)), 0.5, atol=1e-6)
    else:
        with pytest.raises(SeggdError, match=apart):
            real_beside(tmp_path / "a", manifest, Geometry(there, FRAME))
    # Of another frame of reference nothing is known: the slice of that number is taken.
    real_beside(tmp_path / "a", manifest, Geometry(there, FRAME + ".2"))
    if apart is not None:  # without one, it may be the same
        with pytest.warns(MisplacedImageWarning, match="mm apart at a corner"):
            real_beside(tmp_path / "a", manifest, Geometry(there))
    one = read_real(tmp_path / "a" / "0000.dcm", manifest)
    np.testing.assert_allclose(one, 0.5, atol=1e-6)
    alone = Geometry(AXIAL @ shift(slices=20), FRAME)
    with pytest.raises(OptionError, match="no slice where the label map lies"):
        real_beside(tmp_path / "a" / "0000.dcm", manifest, alone)


def real_beside(path: Path, manifest: Manifest, geometry: Geometry) -> NDArray[np.float32]:
    size = (manifest.image.height, manifest.image.width)
    return read_real(path, manifest, Reading(index=3), Place(geometry, size))


def with_classes(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, classes=name_classes(["background", *NAMES]))


def test_a_picture_is_fitted_as_the_label_map_is(tmp_path: Path) -> None:
    """Pixels of a label map in DICOM are no squares; a picture beside it has the same, and does not say so."""
    manifest = ranged(0, 1)
    size = (manifest.image.height * 2, manifest.image.width)
    label_map = np.zeros(size, np.uint8)
    label_map[10:30, 5:20] = 1
    path = save(slice_object(label_map, AXIAL, 0), tmp_path / "a.dcm")
    mask = OneMask.read(path, manifest, Reading(fit=Fit.LETTERBOX))
    np.save(tmp_path / "real.npy", label_map.astype(np.float32))
    for found in (mask.read_real(tmp_path / "real.npy"), mask.read_region(tmp_path / "real.npy")):
        outside = (found > 0.5) != (mask.label_map > 0)
        assert outside.mean() < 0.03


def test_files_may_be_called_anything(tmp_path: Path) -> None:
    series(tmp_path / "a", labels().astype(np.int16))
    for number, path in enumerate(sorted((tmp_path / "a").iterdir())):
        path.rename(path.with_name(f"loc{number}.125mm" if number % 2 else f"{number}.IMA"))
    (tmp_path / "a" / "notes.doc").write_text("no DICOM")
    file = require_reader(tmp_path / "a").open(tmp_path / "a", READING)
    np.testing.assert_array_equal(volume_of(file), labels())


# Damage


def test_files_that_are_no_dicom(tmp_path: Path) -> None:
    for name, data in (("a.dcm", b""), ("b.dcm", b"\x89PNG" * 100), ("c.dcm", b"\0" * 128 + b"DICM")):
        (tmp_path / name).write_bytes(data)
        for opening in (READER.open, READER.open_real):
            with pytest.raises(DataError, match=name) as raised:
                opening(tmp_path / name, PLAIN)
            assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match="cannot be read"):
        READER.open(tmp_path / "none.dcm")


def test_what_a_file_promises_is_not_believed(tmp_path: Path) -> None:
    """Each of these would be gigabytes."""
    huge = {"Rows": 65535, "Columns": 65535}
    with pytest.raises(LabelMapError, match="65535x65535"):
        READER.open(save(slice_object(labels()[1], AXIAL, 0, **huge), tmp_path / "a.dcm"), READING)
    large = {"Rows": 8000, "Columns": 8000}
    with pytest.raises(DataError, match="states 1 frames of 8000x8000 and is too short"):
        READER.open(save(slice_object(labels()[1], AXIAL, 0, **large), tmp_path / "a.dcm"), READING)
    path = segmentation(tmp_path / "b.dcm", labels(), NAMES)
    change_segmentation(path, lambda data: setattr(data, "NumberOfFrames", (1 << 31) - 1))
    with pytest.raises(DataError, match="states 2147483647 frames"):
        READER.open(path, READING)


def test_run_lengths_that_promise_too_much(tmp_path: Path) -> None:
    data = slice_object(labels()[1], AXIAL, 0, Rows=8000, Columns=8000)
    data.PixelData = pydicom.encaps.encapsulate([b"\x01\0\0\0" + b"\x40\0\0\0" + b"\0" * 56 + b"\x81\x07" * 100])
    data["PixelData"].is_undefined_length = True
    with pytest.raises(DataError, match="too short"):
        READER.open(save(data, tmp_path / "a.dcm", pydicom.uid.RLELossless), READING)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [(DeflatedExplicitVRLittleEndian, "Deflated"), (pydicom.uid.JPEG2000Lossless, "JPEG 2000"), ("1.2.3", "1.2.3")],
)
def test_compressed_files_are_refused_before_they_are_unpacked(tmp_path: Path, syntax: str, name: str) -> None:
    data = slice_object(labels()[1], AXIAL, 0)
    if syntax == pydicom.uid.JPEG2000Lossless:
        data.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"])
        data["PixelData"].is_undefined_length = True
    path = save(data, tmp_path / "a.dcm", ImplicitVRLittleEndian if syntax == "1.2.3" else syntax)
    if syntax == "1.2.3":
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2\0", b"1.2.3" + b"\0" * 13))
    with pytest.raises(DataError, match=f"compressed as {name}.*decompress it first"):
        READER.open(path, READING)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["slice", "segmentation", "label map"])
def test_files_cut_short(tmp_path: Path, kind: str) -> None:
    path = example(tmp_path / "a.dcm", kind)
    whole = path.read_bytes()
    for length in [*range(0, 400, 37), *range(400, len(whole) - 1, max(1, len(whole) // 60))]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as raised:
            volume_of(READER.open(path, READING))
        assert "\n" not in str(raised.value)


def example(path: Path, kind: str) -> Path:
    if kind == "slice":
        return save(slice_object(labels()[1].astype(np.int16), AXIAL, 0), path)
    return segmentation(path, labels(), NAMES, kind="BINARY" if kind == "segmentation" else "LABELMAP")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["slice", "segmentation", "label map"])
def test_changed_bytes_raise_nothing_else(tmp_path: Path, kind: str) -> None:
    path = example(tmp_path / "a.dcm", kind)
    whole, random = path.read_bytes(), np.random.default_rng(7)
    for _ in range(150):
        changed = bytearray(whole)
        for place in random.integers(132, len(whole), 3):
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        try:
            volume_of(READER.open(path, READING))
            READER.open_real(path).read(0)
        except SeggdError as error:
            assert "\n" not in str(error)


@pytest.mark.filterwarnings("ignore")
def test_a_value_of_no_kind_that_there_is(tmp_path: Path) -> None:
    path = example(tmp_path / "a.dcm", "slice")
    tag = b"\x20\0\x52\0"  # of the frame of reference
    content = path.read_bytes()
    assert content.count(tag + b"UI") == 1
    path.write_bytes(content.replace(tag + b"UI", tag + b"U\xb8"))
    with pytest.raises(DataError, match="is damaged, or not whole"):
        DicomReader().open(path)


def test_a_file_that_changes_under_way(tmp_path: Path) -> None:
    for path in (segmentation(tmp_path / "a.dcm", labels(), NAMES), *series(tmp_path / "b", labels())[:1]):
        file = READER.open(path, READING)
        path.write_bytes(path.read_bytes() + b"\0\0")
        with pytest.raises(DataError, match="was changed while it was in use"):
            file.read(0)


# Bundles and commands


def test_a_bundle_knows_its_segments(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "a.dcm", labels()[1:2], ["Kammer", "myocardium"])
    folder = copy_bundle(TINY, tmp_path)
    edit_manifest(folder, {"dicom": {"segments": {"Kammer": "cavity"}}})
    bundle = Bundle.open(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for said, expected in ({}, 1), ({"kammer": "right ventricle"}, 3):
            plan = plan_run(bundle, path, tmp_path / "out", steps=2, reading=Reading(segments=said))
            assert sorted(np.unique(plan.masks.files[0].read(0))) == sorted([0, 2, expected])
            found = OneMask.read(path, bundle.manifest, Reading(segments=said)).label_map
            assert sorted(np.unique(found)) == sorted([0, 2, expected])
    for wrong in ({"segments": {"Kammer": "none"}}, {"segment": {}}, {"segments": {"Kammer": 1}}):
        edit_manifest(folder, {"dicom": wrong})
        with pytest.raises(ManifestError):
            Bundle.open(folder)


def test_commands_take_a_map(tmp_path: Path, needs_onnxruntime: None) -> None:
    path = segmentation(tmp_path / "a.dcm", labels()[1:2], ["Kammer", "myocardium"])
    common = (TINY, "--mask", path, "-o", tmp_path / "a.png", "--steps", 2, "--engine", "onnxruntime")
    for command in ("generate", "sweep"):
        ended = run_command(command, *common)
        assert ended.code == 2
        assert 'with --map "Kammer=CLASS"' in ended.error_lines[-1]
        assert not (tmp_path / "a.png").exists()
    ended = run_command("generate", *common, "--map", "Kammer=cavity,other=background", "--map", "x=myocardium")
    assert ended.code == 0, ended.err
    assert "--map has 'other', 'x', which are no segment: there are 'Kammer', 'myocardium'" in ended.err
    assert (tmp_path / "a.png").exists()
    assert run_command("generate", *common, "--map", "Kammer").code == 2
