"""DICOM out: objects that a checker and other readers accept, where their label map lies, of nobody, twice alike."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pydicom", reason="the extra dicom is not installed")
pytest.importorskip("highdicom", reason="the extra dicom is not installed")

import highdicom
import pydicom

import seggd_rt
from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.engine import NetworkShape
from seggd_rt.errors import DataError, OptionError, OutputError
from seggd_rt.imaging import (
    WRITERS,
    Axis,
    Fit,
    Format,
    ImageStack,
    LabelMapSet,
    Provenance,
    Reading,
    Slice,
    read_real,
    require_reader,
)
from seggd_rt.imaging.dicom import DicomReader, DicomWriter
from seggd_rt.imaging.dicom import mask as dicom_mask
from seggd_rt.imaging.dicom import study as dicom_study
from seggd_rt.imaging.dicom.writer import LeftOutWarning
from seggd_rt.imaging.nifti import MissingAffineWarning, ShearedAffineWarning
from seggd_rt.imaging.watermark import mark
from seggd_rt.runs import Inputs, OneMask, Plan, compare, plan_run, run
from seggd_rt.runs.records import ManifestFile
from tests.bundles import TINY
from tests.commands import files_below
from tests.engines.analytic import AnalyticNetwork
from tests.imaging.dicom.dicoms import (
    AXIAL,
    FRAME,
    PATIENT,
    PATIENT_ID,
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

WRITER, READER = DicomWriter(), DicomReader()
MANIFEST = msgspec.structs.replace(Bundle.open(TINY).manifest, modality="CT", intensity_range=(-500.0, 500.0))
CLASSES = MANIFEST.classes
NAMES = [each.name for each in CLASSES[1:]]
READING = Reading(classes=CLASSES)
SOURCE_WORDS = (PATIENT, PATIENT_ID, "19700102", "Who^Doctor", "A7", "Follow-up")
DCIODVFY = shutil.which("dciodvfy")


def labels() -> NDArray[np.uint8]:
    """(5, 24, 32): all classes, in slices that all have some, but for one."""
    volume = np.zeros((5, 24, 32), np.uint8)
    for index in (0, 1, 3, 4):
        volume[index, 3 + index : 9, 4:20], volume[index, 12:, 20:] = 1, 2
    volume[4, 5:8, 25:] = 3
    return volume


def images(count: int) -> NDArray[np.float32]:
    """(count, 24, 32) in [0, 1], with 0 and 1."""
    pixels = np.random.default_rng(3).uniform(0, 1, (count, 24, 32)).astype(np.float32)
    pixels[:, 0, 0], pixels[:, 0, 1] = 0, 1
    return pixels


def made(index: int, **change: Any) -> Provenance:
    whole = {
        "seed": 70 + index,
        "classes": tuple(NAMES),
        "mask_sha256": "a" * 64,
        "sampler": "ddim",
        "steps": 3,
        "eta": 0.0,
        "spacing": "leading",
        "guidance": 0.0,
        "against": None,
        "at": None,
        "engine": "onnxruntime",
        "precision": "fp32",
        "bundle": "b" * 64,
        "version": "0.1.0",
    }
    return Provenance(**{**whole, **change})


def stack_of(source: Any, manifest: Manifest = MANIFEST, **options: Any) -> ImageStack:
    return ImageStack(len(source), 24, 32, 1, manifest, source, **options)


def write(path: Path, source: Any, manifest: Manifest = MANIFEST, **options: Any) -> Path:
    """Write random images of a label map file, and return where."""
    stack = stack_of(source, manifest, **options)
    WRITER.check(stack)
    with WRITER.create(path, stack) as file:
        for index, image in enumerate(images(len(source))):
            file.append(image, made(index))
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Any:
    """A segmentation in oblique slices, of pixels that are no squares."""
    path = segmentation(tmp_path / "mask.dcm", labels(), NAMES, turned([0.1, -0.2, 0.3]), meanings=["A", "B", "C"])
    return READER.open(path, READING)


def volume_of(file: Any) -> NDArray[Any]:
    return np.stack([file.read(index) for index in range(len(file))])


def check_objects(*files: Path) -> None:
    """Have dciodvfy look at files."""
    if DCIODVFY is None:
        pytest.skip("dciodvfy is not installed (Debian's dicom3tools)")
    for path in files:
        said = subprocess.run([DCIODVFY, path], capture_output=True, text=True, check=False).stderr
        errors = [line for line in said.splitlines() if line.startswith("Error") and not UNKNOWN.search(line)]
        warned = [line for line in said.splitlines() if "Warning" in line and not EXPECTED.search(line)]
        assert (errors, warned) == ([], []), said
        assert re.search(r"^(CTImage|MRImage|SCImage|Segmentation)$", said, re.MULTILINE), said


UNKNOWN = re.compile(r"not a recognized standard attribute - \(0x0008,0x001c\)")
"""Synthetic Data, which is in DICOM since 2023, and in no dictionary of a checker of 2022."""
EXPECTED = re.compile(
    r"\(0x0008,0x001c\)"
    r"|\(0x5347,0x1001\).*Unrecognized tag"  # the record, in a private block
    r"|needed to build DICOMDIR - Study (Date|Time|ID)"  # they are empty, as of no study
    r"|attribute <Laterality>"  # empty, as what an image shows is not known
    r"|Non-identity Modality LUT .* MR IOD"  # of an MR bundle whose range is no whole numbers
    r"|defined term <US> for value 1 of attribute <Rescale Type>"  # unspecified: a CT bundle without a range
    r"|this is a Standard Extended SOP Class"  # for these, and for a place of a Secondary Capture or a scale of an MR:
    r"|not present in standard DICOM IOD - \(0x(0018,0x(0050|0088)|0020,0x(0032|0037|0052|1040|1041)|0028,0x105[234])\)"
)


@pytest.mark.parametrize("modality", ["CT", "MR", "US", None])
@pytest.mark.parametrize("window", [(-500.0, 500.0), (0.0, 1000.0), (0.0, 1.0), None], ids=str)
def test_the_checker_finds_no_error(
    tmp_path: Path, mask: Any, modality: str | None, window: tuple[float, float] | None
) -> None:
    manifest = msgspec.structs.replace(MANIFEST, modality=modality, intensity_range=window)
    folder = write(tmp_path / "out", mask, manifest)
    check_objects(folder / "images" / "0001.dcm", folder / "segmentation" / "segmentation.dcm")


def test_the_checker_finds_no_error_in_what_is_kept(tmp_path: Path, mask: Any) -> None:
    folder = write(tmp_path / "out", mask, keep_patient=True, mark=True)
    check_objects(folder / "images" / "0001.dcm", folder / "segmentation" / "segmentation.dcm")


def test_a_volume_is_a_folder_of_slices_and_their_segmentation(tmp_path: Path, mask: Any) -> None:
    folder = write(tmp_path / "out", mask)
    names = ["images", *(f"images/000{k}.dcm" for k in range(1, 6)), "segmentation", "segmentation/segmentation.dcm"]
    assert sorted(files_below(folder)) == names
    check_objects(*folder.rglob("*.dcm"))


def test_other_readers_find_images_alone_and_the_segmentation_alone(tmp_path: Path, mask: Any) -> None:
    """Of all files in one folder, they took the segmentation for the images."""
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    folder = write(tmp_path / "out", mask)
    for name, kinds in (("images", {"CT"}), ("segmentation", {"SEG"})):
        (series_uid,) = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder / name))
        paths = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder / name), series_uid)
        assert {pydicom.dcmread(path).Modality for path in paths} == kinds
    monai = pytest.importorskip("monai.data", reason="MONAI is not installed")
    reader = monai.PydicomReader()
    image, _ = reader.get_data(reader.read(folder / "images"))
    assert image.shape == (32, 24, 5)
    assert sorted(image.flat) == sorted(np.rint(-500 + 1000 * images(5).astype(np.float64)).flat)


def test_what_is_written_is_read_as_one_volume(tmp_path: Path, mask: Any) -> None:
    """From the folder around both, and from that of images; label maps are to be given by themselves."""
    (tmp_path / "out").mkdir()
    folder = write(tmp_path / "out" / "case_1", mask)
    for path in (folder, folder / "images"):
        assert require_reader(path) is not None
        assert WRITER.made(path) == tuple(made(index) for index in range(5))
        np.testing.assert_array_equal(volume_of(READER.open_real(path)), volume_of(READER.open_real(folder / "images")))
    message = r"images and a segmentation: give the segmentation as label map \(segmentation/segmentation\.dcm\)"
    with pytest.raises(DataError, match=message):
        LabelMapSet.open(folder.parent, READING)
    for path in (folder / "segmentation", folder / "segmentation" / "segmentation.dcm"):
        (file,) = LabelMapSet.open(path, READING).files
        np.testing.assert_array_equal(volume_of(file), labels())


TAGS = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "SyntheticData": "YES",
    "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
    "Modality": "CT",
    "SpecificCharacterSet": "ISO_IR 192",
    "SeriesDescription": "Synthetic CT by seggd-rt",
    "BurnedInAnnotation": "NO",
    "PatientName": "SYNTHETIC^SEGGD-RT",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyDate": "",
    "StudyTime": "",
    "StudyID": "",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "InstanceNumber": 2,
    "FrameOfReferenceUID": FRAME,
    "PixelSpacing": [1.5, 0.8],
    "SliceThickness": 2.5,
    "SpacingBetweenSlices": 2.5,
    "Rows": 24,
    "Columns": 32,
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "RescaleSlope": 1,
    "RescaleIntercept": 0,
    "RescaleType": "HU",
    "WindowCenter": 0,
    "WindowWidth": 1000,
    "Manufacturer": "seggd-rt",
    "SoftwareVersions": "0.1.0",
    "DeviceSerialNumber": "b" * 64,
}


def test_tags(tmp_path: Path, mask: Any) -> None:
    folder = write(tmp_path / "out", mask)
    data = pydicom.dcmread(folder / "images" / "0002.dcm")
    assert {keyword: data[keyword].value for keyword in TAGS} == TAGS
    assert data.PatientID.startswith("SYNTHETIC-")
    (equipment,) = data.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Synthesizing Equipment"
    assert (equipment.Manufacturer, equipment.SoftwareVersions) == ("seggd-rt", "0.1.0")
    assert f"Bundle {'b' * 64}, seed 71, onnxruntime in fp32" in equipment.ContributionDescription
    other = pydicom.dcmread(folder / "segmentation" / "segmentation.dcm")
    assert other.SyntheticData == "YES"
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "FrameOfReferenceUID"):
        assert other[keyword].value == data[keyword].value
    assert other.SeriesInstanceUID != data.SeriesInstanceUID
    assert [item.Manufacturer for item in other.ContributingEquipmentSequence] == ["seggd-rt"]


@pytest.mark.parametrize(
    ("modality", "expected"),
    [
        ("MR", ("1.2.840.10008.5.1.4.1.1.4", "MR", ["DERIVED", "SECONDARY", "OTHER"])),
        ("us", ("1.2.840.10008.5.1.4.1.1.7", "US", ["DERIVED", "SECONDARY"])),
        ("X-ray!", ("1.2.840.10008.5.1.4.1.1.7", "OT", ["DERIVED", "SECONDARY"])),
        (None, ("1.2.840.10008.5.1.4.1.1.7", "OT", ["DERIVED", "SECONDARY"])),
    ],
)
def test_what_object_a_modality_becomes(tmp_path: Path, mask: Any, modality: str | None, expected: Any) -> None:
    folder = write(tmp_path / "out", mask, msgspec.structs.replace(MANIFEST, modality=modality))
    data = pydicom.dcmread(folder / "images" / "0001.dcm")
    assert (data.SOPClassUID, data.Modality, list(data.ImageType)) == expected


@pytest.mark.parametrize(
    ("window", "signed", "step"),
    [((-500, 500), True, 1.0), ((0, 60000), False, 1.0), ((-1, 1), False, 2 / 65535), ((0, 1e6), False, 1e6 / 65535)],
)
def test_values_are_the_modalitys(
    tmp_path: Path, mask: Any, window: tuple[float, float], signed: bool, step: float
) -> None:
    folder = write(tmp_path / "out", mask, msgspec.structs.replace(MANIFEST, intensity_range=window))
    low, high = window
    found = volume_of(READER.open_real(folder))
    assert (found.min(), found.max()) == pytest.approx(window, abs=step / 2)
    expected = low + images(5).astype(np.float64) * (high - low)
    np.testing.assert_allclose(found, expected, atol=step * 0.51)
    data = pydicom.dcmread(folder / "images" / "0001.dcm")
    assert data.PixelRepresentation == signed
    assert (data.WindowCenter, data.WindowWidth) == pytest.approx(((low + high) / 2, high - low))


def test_without_a_range_all_bits_are_used(tmp_path: Path, mask: Any) -> None:
    folder = write(tmp_path / "out", mask, msgspec.structs.replace(MANIFEST, intensity_range=None))
    found = volume_of(READER.open_real(folder))
    np.testing.assert_allclose(found / 65535, images(5), atol=1e-5)


@pytest.mark.parametrize("modality", ["CT", "MR", None])
def test_images_of_a_bundle_without_a_range_are_read_as_real_images(
    tmp_path: Path, mask: Any, modality: str | None
) -> None:
    """By their record: other files of such values are of a range that is not known."""
    unranged = msgspec.structs.replace(MANIFEST, intensity_range=None, modality=modality)
    folder = write(tmp_path / "out", mask, unranged)
    for manifest in (unranged, MANIFEST):
        for index, image in enumerate(images(5)):
            found = read_real(folder, manifest, Reading(index=index))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, image, atol=1e-5)
    for path in (folder / "images").iterdir():
        data = pydicom.dcmread(path)
        data.private_block(0x5347, "SEGGD-RT")
        del data[0x5347, 0x1001]
        data.save_as(path)
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        read_real(folder, unranged, Reading(index=0))


def test_images_in_units_are_read_through_the_range(tmp_path: Path, mask: Any) -> None:
    """Also where the range is that of 16 bits."""
    folder = write(tmp_path / "out", mask, msgspec.structs.replace(MANIFEST, intensity_range=(0, 65535)))
    expected = (images(5)[2] * 65535 + 500).clip(0, 1000) / 1000
    np.testing.assert_allclose(read_real(folder, MANIFEST, Reading(index=2)), expected, atol=1e-3)


AFFINES = {
    "axial": AXIAL,
    "oblique": turned([0.3, -0.4, 0.5]),
    "flipped": AXIAL @ np.diag([-1.0, 1, 1, 1]),
    "upside down": AXIAL @ np.diag([1.0, 1, -1, 1]),
    "turned by 180 degrees": turned([0.0, 0, np.pi]),
    "transposed": AXIAL[:, [1, 0, 2, 3]],
    "oblique and transposed": turned([0.3, -0.4, 0.5])[:, [1, 0, 2, 3]] @ np.diag([1.0, -1, 1, 1]),
}


def labels_stored(affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return labels whose slices are shown as 24 rows of 32."""
    transposed = np.argmax(np.abs(affine[:2, 0])) == 1
    return np.ascontiguousarray(labels().swapaxes(1, 2)) if transposed else labels()


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_simpleitk_finds_the_same(tmp_path: Path, affine: NDArray[np.float64]) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    source = READER.open(segmentation(tmp_path / "mask.dcm", labels_stored(affine), NAMES, affine), READING)
    folder = write(tmp_path / "out", source)
    reader = sitk.ImageSeriesReader()
    series_uid = pydicom.dcmread(folder / "images" / "0001.dcm").SeriesInstanceUID
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / "images"), series_uid))
    image = reader.Execute()
    found = sitk.GetArrayFromImage(image)
    expected = np.rint(-500 + 1000 * images(5).astype(np.float64))
    for corner in itertools.product(*((0, length - 1) for length in image.GetSize())):
        place = [*image.TransformIndexToPhysicalPoint(corner), 1]
        here = np.rint(np.linalg.solve(source.geometry.affine, place))
        np.testing.assert_allclose(source.geometry.affine @ here, place, atol=1e-3)
        column, row, index = here[:3].astype(int)
        assert found[corner[::-1]] == expected[index, row, column]
    assert sorted(found.flat) == sorted(expected.flat)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_highdicom_finds_the_same(tmp_path: Path, affine: NDArray[np.float64]) -> None:
    source = READER.open(segmentation(tmp_path / "mask.dcm", labels_stored(affine), NAMES, affine), READING)
    folder = write(tmp_path / "out", source)
    found = highdicom.seg.segread(folder / "segmentation" / "segmentation.dcm")
    volume = found.get_volume(combine_segments=True)
    assert same_places((volume.array, volume.affine[:, [2, 1, 0, 3]]), source)
    assert [found.get_segment_description(k).segment_label for k in (1, 2, 3)] == NAMES
    uids = {pydicom.dcmread(path).SOPInstanceUID for path in folder.glob("images/*.dcm")}
    assert {uid for _, _, uid in found.get_source_image_uids()} <= uids


@pytest.mark.parametrize("keep_patient", [False, True])
def test_segmentation_in_images_out_segmentation_out(tmp_path: Path, mask: Any, keep_patient: bool) -> None:
    """Codes whose meanings nobody knows, so that they may name a patient, are kept as the patient is."""
    folder = write(tmp_path / "out", mask, keep_patient=keep_patient)
    again = READER.open(folder / "segmentation" / "segmentation.dcm", READING)
    np.testing.assert_array_equal(volume_of(again), labels())
    np.testing.assert_allclose(again.geometry.affine, mask.geometry.affine, atol=1e-6)
    stated = [("1000", "SCT", "A"), ("2000", "SCT", "B"), ("3000", "SCT", "C")]
    assert types_in(folder) == (stated if keep_patient else [TISSUE] * 3)


TISSUE = ("85756007", "SCT", "Tissue")


def types_in(folder: Path) -> list[tuple[str, str, str]]:
    """Return the codes of the types of a volume's segments."""
    found = pydicom.dcmread(folder / "segmentation" / "segmentation.dcm").SegmentSequence
    codes = [item.SegmentedPropertyTypeCodeSequence[0] for item in found]
    return [(code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) for code in codes]


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        (("10200004", "SCT", "Liver"), ("10200004", "SCT", "Liver")),
        (("10200004", "SCT", "liver of Jane Doe"), ("10200004", "SCT", "Liver")),
        (("T-62000", "SRT", "LIVER"), ("T-62000", "SRT", "LIVER")),
        (("9462", "FMA", "Myocardium"), ("9462", "FMA", "Myocardium")),
        (("9462", "FMA", "myocardium of Jane Doe"), TISSUE),
        (TISSUE, TISSUE),
        (("85756007", "SCT", NAMES[0]), TISSUE),
    ],
)
def test_a_code_has_its_own_meaning_however_often_it_is_drawn_from(
    stated: tuple[str, str, str], written: tuple[str, str, str], tmp_path: Path
) -> None:
    """It is never the name of the class, which is the label."""
    path = segmentation(tmp_path / "mask.dcm", labels(), NAMES)
    changed = pydicom.dcmread(path)
    code = changed.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = stated
    changed.save_as(path)
    for name in ("first", "second"):
        folder = write(tmp_path / name, READER.open(path, READING))
        path = folder / "segmentation" / "segmentation.dcm"
        assert types_in(folder)[0] == written
        assert [item.SegmentLabel for item in pydicom.dcmread(path).SegmentSequence] == NAMES


def test_codes_of_nobody_knows_what_are_not_kept(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "mask.dcm", labels(), NAMES)
    changed = pydicom.dcmread(path)
    first, second, third = changed.SegmentSequence
    first.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator = "99DOE"
    second.SegmentedPropertyTypeCodeSequence[0].CodeValue = "DOE-JANE"
    third.SegmentedPropertyCategoryCodeSequence[0].CodeValue = "4711"
    changed.save_as(path)
    folder = write(tmp_path / "out", READER.open(path, READING))
    found = pydicom.dcmread(folder / "segmentation" / "segmentation.dcm").SegmentSequence
    assert [item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for item in found] == ["Tissue"] * 3
    assert b"DOE" not in (folder / "segmentation" / "segmentation.dcm").read_bytes()


def test_what_a_real_image_is_in_is_not_said_to_show_nobody(tmp_path: Path, mask: Any) -> None:
    real = msgspec.structs.replace(made(0), real_sha256="0" * 64, at=0.6)
    for name, each, about in (("drawn", made(0), "of no patient"), ("mixed", real, "in part of a real one")):
        for marked in (False, True):
            path = tmp_path / f"{name}{marked}.dcm"
            with WRITER.create(path, stack_of(Slice(mask, 1), mark=marked)) as file:
                file.append(images(1)[0], each)
            data = pydicom.dcmread(path)
            assert data.StudyDescription == f"Synthetic images, {about}"
            assert data.get("BurnedInAnnotation") == ("YES" if marked else "NO" if name == "drawn" else None)


def test_the_folder_of_somebody_else_is_not_replaced(tmp_path: Path, mask: Any) -> None:
    theirs = series(tmp_path / "out", labels())
    with pytest.raises(OutputError, match="another folder has its name"):
        write(tmp_path / "out", mask)
    assert all(path.exists() for path in theirs)
    assert {path.name for path in tmp_path.iterdir()} == {"mask.dcm", "out"}
    write(tmp_path / "ours", mask)
    before = files_below(tmp_path / "ours")
    for path in (tmp_path / "ours").rglob("*.dcm"):
        path.rename(tmp_path / "ours" / path.name)  # as an earlier version left them
    for name in ("images", "segmentation"):
        (tmp_path / "ours" / name).rmdir()
    write(tmp_path / "ours", mask)
    write(tmp_path / "ours", mask)
    assert files_below(tmp_path / "ours") == before
    shutil.copytree(tmp_path / "ours" / "images", tmp_path / "ours" / "kept")
    with pytest.raises(OutputError, match="another folder has its name"):
        write(tmp_path / "ours", mask)


def test_a_mask_that_ends_in_empty_slices(tmp_path: Path) -> None:
    volume = np.concatenate([labels()[2:3], labels()[:2], labels()[2:3]])
    source = READER.open(series(tmp_path / "mask", volume)[0].parent, READING)
    folder = write(tmp_path / "out", source)
    np.testing.assert_array_equal(volume_of(READER.open(folder / "segmentation" / "segmentation.dcm", READING)), volume)
    for name in ("empty", "out2"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    nothing = READER.open(series(tmp_path / "empty", np.zeros_like(volume))[0].parent, READING)
    folder = write(tmp_path / "out2", nothing)
    assert not volume_of(READER.open(folder / "segmentation" / "segmentation.dcm", READING)).any()


def test_the_segmentation_holds_the_classes_kept(tmp_path: Path, mask: Any) -> None:
    kept = [("cavity",), ("cavity", "right ventricle"), ("cavity",), ("right ventricle",), ("cavity",)]
    with WRITER.create(tmp_path / "out", stack_of(mask)) as file:
        for index, (image, classes) in enumerate(zip(images(5), kept, strict=True)):
            file.append(image, made(index, classes=classes))
    expected = [
        np.where(np.isin(label_map, [NAMES.index(name) + 1 for name in classes]), label_map, 0)
        for label_map, classes in zip(labels(), kept, strict=True)
    ]
    file = READER.open(tmp_path / "out" / "segmentation" / "segmentation.dcm", READING)
    np.testing.assert_array_equal(volume_of(file), expected)
    assert sorted(file.segments) == [1, 3]


def test_names_of_classes_that_are_not_ascii(tmp_path: Path) -> None:
    names = ["Höhle", "心筋", "right\\left " + "x" * 80]
    classes = tuple(msgspec.structs.replace(c, name=n) for c, n in zip(CLASSES, ["-", *names], strict=True))
    manifest = msgspec.structs.replace(MANIFEST, classes=classes)
    source = READER.open(series(tmp_path / "mask", labels())[0].parent, Reading(classes=classes))
    folder = tmp_path / "out"
    with WRITER.create(folder, stack_of(source, manifest)) as file:
        for index, image in enumerate(images(5)):
            file.append(image, made(index, classes=tuple(names)))
    check_objects(*folder.rglob("*.dcm"))
    assert WRITER.made(folder)[0].classes == tuple(names)
    written = pydicom.dcmread(folder / "segmentation" / "segmentation.dcm")
    found = [item.SegmentLabel for item in written.SegmentSequence]
    assert found == [*names[:2], names[2].replace("\\", "/")[:64]]


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("axis", [Axis.AXIAL, Axis.CORONAL, Axis.SAGITTAL, Axis.SECOND])
def test_nifti_to_dicom_to_nifti(tmp_path: Path, affine: NDArray[np.float64], axis: Axis) -> None:
    nib = pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    voxels = labels().transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1, -1, 1, 1]) @ affine), tmp_path / "mask.nii.gz")
    source = require_reader(tmp_path / "mask.nii.gz").open(tmp_path / "mask.nii.gz", Reading(axis=axis))
    folder = write(tmp_path / "out", source)
    back = READER.open(folder / "segmentation" / "segmentation.dcm", READING)
    assert same_places(source, back)
    assert same_places(READER.open_real(folder), source, labels_too=False)
    WRITERS[Format.NIFTI].check(stack_of(back))
    with WRITERS[Format.NIFTI].create(tmp_path / "out.nii.gz", stack_of(back)) as file:
        for index, label_map in enumerate(volume_of(back)):
            whole = np.zeros((24, 32), np.float32)
            height, width = min(24, label_map.shape[0]), min(32, label_map.shape[1])
            whole[:height, :width] = label_map[:height, :width] / 3
            file.append(whole, made(index))
    image = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(np.abs(np.linalg.det(image.affine)), 0.8 * 1.5 * 2.5, rtol=1e-5)
    again = require_reader(tmp_path / "out.nii.gz").open_real(tmp_path / "out.nii.gz", Reading())
    assert same_places(again, source, labels_too=False)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert [each.seed for each in WRITERS[Format.NIFTI].made(tmp_path / "out.nii.gz")] == list(
        range(70, 70 + len(back))
    )


def same_places(one: Any, other: Any, *, labels_too: bool = True) -> bool:
    """Say whether two files, or arrays with affines, have the same pixels at the same places, in whatever order."""

    def points(file: Any) -> NDArray[np.float64]:
        volume, affine = file if isinstance(file, tuple) else (volume_of(file), file.geometry.affine)
        index = np.indices(volume.shape).reshape(3, -1)[::-1]
        places = (affine @ [*index, np.ones(volume.size)])[:3].T
        values = volume.reshape(-1, 1) if labels_too else np.zeros((volume.size, 1))
        rows = np.hstack([places, values])
        return rows[np.lexsort(np.rint(rows[:, 2::-1] * 20).T)]

    first, second = points(one), points(other)
    return first.shape == second.shape and np.abs(first - second).max() < 1e-3


def test_one_slice_is_one_file(tmp_path: Path) -> None:
    source = READER.open(save(slice_object(labels()[0], AXIAL, 2), tmp_path / "mask.dcm"), READING)
    path = write(tmp_path / "one.dcm", source)
    assert sorted(files_below(tmp_path)) == ["mask.dcm", "one.dcm"]
    check_objects(path)
    assert WRITER.made(path) == (made(0),)
    geometry = READER.open_real(path).geometry
    assert geometry is not None
    np.testing.assert_allclose(geometry.affine, source.geometry.affine, atol=1e-6)


def test_images_go_back_to_the_masks_pixels(tmp_path: Path) -> None:
    large = np.zeros((2, 40, 50), np.uint8)
    large[:, 10:20, 10:20] = 1
    source = READER.open(series(tmp_path / "mask", large)[0].parent, READING)
    folder = write(tmp_path / "out", source, fit=Fit.CROP_PAD)
    found = volume_of(READER.open_real(folder))
    assert found.shape == large.shape
    np.testing.assert_allclose(found[:, 8:32, 9:41], np.rint(-500 + 1000 * images(2)), atol=1)
    assert (found[:, :8] == -500).all()


# However they are stored


@pytest.mark.parametrize("kind", ["segmentation", "series"])
@pytest.mark.parametrize("way", WAYS_TO_STORE, ids=str)
def test_images_are_stored_as_their_mask_is(tmp_path: Path, way: Way, kind: str) -> None:
    """Pixels, and to the bit what says where they lie, though cosines have as many digits as there may be."""
    stored, affine = stored_as(way, labels(), turned([0.1, -0.2, 0.3]))
    paths = series(tmp_path / "series", stored, affine)
    path = paths[0].parent
    if kind == "segmentation":
        path = segmentation(tmp_path / "mask.dcm", stored, NAMES, affine, sparse=False)
    source = READER.open(path, READING)
    folder = write(tmp_path / "out", source)
    expected = {}
    whole = np.rint(-500 + 1000 * images(5).astype(np.float64)).astype(np.int16)
    for pixels, each in zip(stored_as(way, whole, affine)[0], paths, strict=True):
        stated = pydicom.dcmread(each)
        expected[tuple(stated.ImagePositionPatient)] = pixels
    for each in folder.glob("images/*.dcm"):
        data = pydicom.dcmread(each)
        for keyword in ("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns"):
            assert data[keyword].value == stated[keyword].value
        np.testing.assert_array_equal(data.pixel_array, expected.pop(tuple(data.ImagePositionPatient)))
    assert expected == {}
    mask = pydicom.dcmread(folder / "segmentation" / "segmentation.dcm")
    (shared,) = mask.SharedFunctionalGroupsSequence
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == stated.ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == stated.PixelSpacing
    again = READER.open(folder / "segmentation" / "segmentation.dcm", READING)
    np.testing.assert_array_equal(volume_of(again), volume_of(source))
    np.testing.assert_allclose(again.geometry.affine, source.geometry.affine, atol=1e-6)


def test_how_a_mask_is_stored_changes_no_image(tmp_path: Path, generator: seggd_rt.Generator, quiet: None) -> None:
    """In NIfTI and in DICOM, which is drawn again and found to be the same."""
    pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    first: list[NDArray[Any]] = []
    for way in WAYS_TO_STORE:
        place = tmp_path / "".join("ny"[each] for each in way)
        place.mkdir()
        stored, affine = stored_as(way, labels(), turned([0.1, -0.2, 0.3]))
        mask = segmentation(place / "mask.dcm", stored, NAMES, affine)
        list(run(plan(mask, place / "out.nii.gz"), generator))
        records = list(run(plan(mask, place / "out", mark=True), generator))
        folder = place / "out" / records[0].file
        assert compare(folder, generator, Inputs(mask, Reading())).max_error == 0
        volume = volume_of(require_reader(place / "out.nii.gz").open_real(place / "out.nii.gz", Reading()))
        found = [*volume, *(record.mask_sha256 for record in records)]
        first = first or found
        for one, other in zip(found, first, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_mark_is_read_in_the_pixels_as_they_are_stored(tmp_path: Path) -> None:
    """As viewers show them."""
    white = [np.ones((24, 32), np.float32)] * 5
    for way in WAYS_TO_STORE:
        stored, affine = stored_as(way, labels(), AXIAL)
        source = READER.open(series(tmp_path / f"{way}", stored, affine)[0].parent, READING)
        with WRITER.create(tmp_path / f"out {way}", stack_of(source, mark=True)) as file:
            for image in white:
                file.append(image)
        pixels = pydicom.dcmread(tmp_path / f"out {way}" / "images" / "0001.dcm").pixel_array
        np.testing.assert_array_equal(pixels == 500, mark(np.ones(pixels.shape, np.float32)) == 1)


# Whose they are


def test_nothing_of_the_patient_is_written(tmp_path: Path, mask: Any) -> None:
    folder = write(tmp_path / "out", mask)
    one = tmp_path / "one" / "one.dcm"
    one.parent.mkdir()
    write(one, READER.open(save(slice_object(labels()[0], AXIAL, 2), tmp_path / "slice.dcm"), READING))
    source = mask.path.read_bytes()
    for word in SOURCE_WORDS:
        assert word.encode() in source
        for path in (*folder.rglob("*.dcm"), one):
            assert word.encode() not in path.read_bytes(), (path, word)
    assert pydicom.dcmread(folder / "images" / "0001.dcm").StudyInstanceUID != "1.2.3"


def test_the_patient_is_kept_where_that_is_said(tmp_path: Path, mask: Any) -> None:
    folder = write(tmp_path / "out", mask, keep_patient=True)
    source = pydicom.dcmread(mask.path)
    for path in folder.rglob("*.dcm"):
        data = pydicom.dcmread(path)
        found = {keyword: str(data[keyword].value) for keyword in dicom_study.KEPT if keyword in data}
        assert found.items() >= {k: str(source[k].value) for k in found if k in source and source[k].value}.items()
        assert (data.PatientName, data.PatientID, data.StudyInstanceUID) == (PATIENT, PATIENT_ID, "1.2.3")
        assert data.SyntheticData == "YES"
        assert data.SeriesInstanceUID != source.SeriesInstanceUID
    # Of a study, its images have all; a segmentation of the source may have lost some.
    first = READER.open(series(tmp_path / "mask", labels())[0].parent, READING)
    data = pydicom.dcmread(write(tmp_path / "out2", first, keep_patient=True) / "images" / "0001.dcm")
    assert [data[k].value for k in ("StudyDescription", "ReferringPhysicianName")] == ["Follow-up", "Who^Doctor"]


def keep_from(folder: Path, **stated: Any) -> pydicom.Dataset:
    """Write images of a series that states these attributes, keeping its patient, and return the first."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        paths = series(folder / "mask", labels(), **stated)
        written = write(folder / "out", READER.open(paths[0].parent, READING), keep_patient=True)
    check_texts(written)
    return pydicom.dcmread(written / "images" / "0001.dcm")


def check_texts(folder: Path) -> None:
    """Check that images and segmentation state the same patient and study."""
    first, *others = (pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm")))
    for other in others:
        assert [other.get(keyword) for keyword in dicom_study.KEPT] == [first.get(k) for k in dicom_study.KEPT]


def test_invalid_elements_about_a_patient_are_left_out_and_named(tmp_path: Path) -> None:
    wrong = {
        "PatientSex": "X",
        "PatientBirthDate": "19991340",
        "StudyTime": "126000",
        "PatientAge": "old",
        "StudyID": "more than sixteen characters",
        "AccessionNumber": ["A", "B"],
    }
    with pytest.warns(LeftOutWarning) as warned:
        data = keep_from(tmp_path, **wrong)
    assert [data.get(keyword, "") for keyword in wrong] == [""] * 6
    assert data.PatientID == PATIENT_ID
    (message,) = [str(each.message) for each in warned]
    assert sorted(message.rpartition(": ")[2].split(", ")) == sorted(wrong)
    check_objects(tmp_path / "out" / "segmentation" / "segmentation.dcm")


@pytest.mark.parametrize(
    "name",
    [
        "نیک\u200cپور^مریم",  # with a zero-width non-joiner, as Persian has
        "\u05db\u05d4\u05df^\u200f\u05d3\u05d5\u05d3",  # with a right-to-left mark
        "Müller\u00adLüdenscheidt^Eva",  # with a soft hyphen
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "=山田^太郎",
        "Doe",  # without a warning that shows it
        "x" * 62 + "^x",
        "",
    ],
)
def test_a_patients_name_and_id_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    patient_id = name.replace("=", "")
    data = keep_from(tmp_path, PatientName=name, PatientID=patient_id)
    assert (str(data.PatientName), data.PatientID, data.StudyInstanceUID) == (name, patient_id, "1.2.3")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "x" * 65),
        ("PatientName", "a=b=c=d"),
        ("PatientName", "Doe\x07^Jane"),
        ("PatientName", "Doe\\Jane"),
        ("PatientID", "A\\B"),
        ("PatientID", "1" * 65),
        ("StudyInstanceUID", "1.02.3"),
        ("StudyInstanceUID", "study 1"),
        ("StudyInstanceUID", ""),
        ("StudyInstanceUID", None),
    ],
)
def test_an_identity_that_cannot_be_kept_is_an_error(tmp_path: Path, keyword: str, value: str | None) -> None:
    """And is never replaced by that of another patient or study."""
    with pytest.raises(DataError, match=rf"mask.* {keyword}.*: .* leave --keep-patient out") as raised:
        keep_from(tmp_path, **{keyword: value})
    assert not value or value not in str(raised.value), "a patient's name is shown nowhere"
    assert not (tmp_path / "out").exists()


def test_a_name_in_bytes_of_another_character_set_is_an_error(tmp_path: Path) -> None:
    path = save(slice_object(labels()[0], AXIAL, 0, PatientName="Mu__ller^Eva"), tmp_path / "mask.dcm")
    path.write_bytes(path.read_bytes().replace(b"Mu__ller", b"Mu\xfc\xfcller"))
    with pytest.raises(DataError, match="PatientName"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        WRITER.check(stack_of(READER.open(path, READING), keep_patient=True))


def test_the_mark(tmp_path: Path, mask: Any) -> None:
    plain, marked = write(tmp_path / "plain", mask), write(tmp_path / "marked", mask, mark=True)
    one, other = (volume_of(READER.open_real(folder)) for folder in (plain, marked))
    rows, _ = np.nonzero((one != other).any(axis=0))
    assert rows.min() > 12
    assert (other[:, rows.min() :, 1:14].max(axis=(1, 2)) > 0).all()
    assert pydicom.dcmread(marked / "images" / "0001.dcm").BurnedInAnnotation == "YES"
    np.testing.assert_array_equal(mark(np.zeros((256, 256), np.float32))[:200], 0)
    assert mark(np.zeros((256, 256), np.float32)).max() == 1
    assert mark(np.zeros((3, 2), np.float32)).shape == (3, 2)


# How they were made


def test_how_images_were_made_is_read_back(tmp_path: Path, mask: Any) -> None:
    folder = write(tmp_path / "out", mask)
    for number, path in enumerate(sorted(folder.glob("images/*"))):
        path.rename(path.with_name(f"{'edcba'[number]}.dcm"))
    assert WRITER.made(folder) == tuple(made(index) for index in range(5))
    assert WRITER.made(folder / "images" / "e.dcm") == (made(0),)


def test_files_without_a_record(tmp_path: Path) -> None:
    path = save(slice_object(labels()[0], AXIAL, 0), tmp_path / "a.dcm")
    with pytest.raises(DataError, match="carries no record of its making"):
        WRITER.made(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image of DICOM"):
        WRITER.made(tmp_path / "empty")


def test_the_same_bytes_when_written_again(tmp_path: Path, mask: Any) -> None:
    first, second = (files_below(write(tmp_path / name, mask)) for name in ("a", "b"))
    assert first == second
    for keyword, count in (("SOPInstanceUID", 6), ("SeriesInstanceUID", 2), ("StudyInstanceUID", 1)):
        assert len({pydicom.dcmread(path)[keyword].value for path in (tmp_path / "a").rglob("*.dcm")}) == count


def test_uids_tell_volumes_apart(tmp_path: Path, mask: Any) -> None:
    moved = READER.open(segmentation(tmp_path / "m.dcm", labels(), NAMES, AXIAL), READING)
    folders = [
        write(tmp_path / "a", mask),
        write(tmp_path / "b", moved),
        write(tmp_path / "c", mask, mark=True),
        write(tmp_path / "d", mask, keep_patient=True),
        write(tmp_path / "e", mask, msgspec.structs.replace(MANIFEST, modality="MR")),
    ]
    found = [pydicom.dcmread(path).SOPInstanceUID for folder in folders for path in folder.rglob("*.dcm")]
    assert len(set(found)) == len(found) == 30
    assert all(re.fullmatch(r"2\.25\.[1-9]\d{10,38}", uid) for uid in found)


# What is refused


def test_what_dicom_cannot_hold(tmp_path: Path, mask: Any) -> None:
    with pytest.raises(OptionError, match="3 channels"):
        WRITER.check(ImageStack(5, 24, 32, 3, MANIFEST, mask))
    with pytest.raises(OptionError, match="is a picture"):
        WRITER.check(ImageStack(5, 24, 32, 1, MANIFEST, None))
    nowhere = slice_object(labels()[0], AXIAL, 0, ImagePositionPatient=None)
    with pytest.raises(OptionError, match="does not state where its slices lie"):
        WRITER.check(stack_of(READER.open(save(nowhere, tmp_path / "a.dcm"), READING)))


def test_sheared_volumes(tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    sheared = np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(labels(), sheared), tmp_path / "a.nii")
    source = require_reader(tmp_path / "a.nii").open(tmp_path / "a.nii", Reading())
    with pytest.raises(OptionError, match="not perpendicular"):
        WRITER.check(stack_of(source))
    nib.save(nib.Nifti1Image(labels(), AXIAL), tmp_path / "b.nii")
    source = require_reader(tmp_path / "b.nii").open(tmp_path / "b.nii", Reading())
    with pytest.raises(OptionError, match="names no patient to keep"):
        WRITER.check(stack_of(source, keep_patient=True))


def test_a_failure_leaves_nothing(tmp_path: Path, mask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_below(tmp_path)
    with pytest.raises(KeyboardInterrupt), WRITER.create(tmp_path / "out", stack_of(mask)) as file:
        file.append(images(1)[0], made(0))
        raise KeyboardInterrupt
    assert files_below(tmp_path) == before
    with (
        pytest.raises(ValueError, match="1 images were written of 5"),
        WRITER.create(tmp_path / "out", stack_of(mask)) as file,
    ):
        file.append(images(1)[0], made(0))
    assert files_below(tmp_path) == before

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(dicom_mask, "segmentation", fail)  # when all slices are written
    with pytest.raises(RuntimeError):
        write(tmp_path / "out", mask)
    assert files_below(tmp_path) == before


# Runs


@pytest.fixture
def generator() -> Iterator[seggd_rt.Generator]:
    with seggd_rt.Generator(Bundle.open(TINY), AnalyticNetwork(NetworkShape(1, 3, 24, 32), std=0.2)) as opened:
        yield opened


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plan(mask: Path, output: Path | str, **options: Any) -> Plan:
    return plan_run(Bundle.open(TINY), mask, output, steps=2, **options)


def test_a_run_writes_a_folder_a_volume_and_goes_on(
    tmp_path: Path, mask: Any, generator: seggd_rt.Generator, quiet: None
) -> None:
    out = tmp_path / "out"
    records = list(run(plan(mask.path, out, count=2), generator))
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert len(folders) == 2
    assert sorted({record.file for record in records}) == folders
    assert [record.file_index for record in records] == [*range(5)] * 2
    assert WRITER.made(out / records[0].file) == tuple(record.provenance for record in records[:5])
    before = files_below(out)
    assert list(run(plan(mask.path, out, count=2), generator)) == []
    # As a killed run leaves it: one volume half written, and no line of it.
    manifest = ManifestFile(out)
    manifest.forget([folders[0]])
    (out / folders[0]).rename(out / f".{folders[0]}.part")
    (out / f".{folders[0]}.part" / "segmentation" / "segmentation.dcm").unlink()
    assert len(list(run(plan(mask.path, out, count=2), generator))) == 5
    after = files_below(out)
    assert {k: v for k, v in after.items() if k != "manifest.jsonl"} == {
        k: v for k, v in before.items() if k != "manifest.jsonl"
    }
    with pytest.raises(OptionError, match="was made with keep patient False, and this run has keep patient True"):
        list(run(plan(mask.path, out, count=2, keep_patient=True), generator))
    assert len(list(run(plan(mask.path, out, count=2, keep_patient=True), generator, force=True))) == 10
    assert pydicom.dcmread(out / folders[0] / "images" / "0001.dcm").PatientID == PATIENT_ID


def test_a_run_of_one_slice_into_a_file(tmp_path: Path, generator: seggd_rt.Generator, quiet: None) -> None:
    path = save(slice_object(labels()[0], AXIAL, 2), tmp_path / "mask.dcm")
    (record,) = run(plan(path, tmp_path / "one.dcm", seed=5), generator)
    assert (record.file, record.file_index) == ("one.dcm", 0)
    assert WRITER.made(tmp_path / "one.dcm")[0].seed == 5


@pytest.mark.parametrize("window", [(-500.0, 500.0), None], ids=str)
def test_images_are_drawn_again_and_compared(
    tmp_path: Path, mask: Any, generator: seggd_rt.Generator, quiet: None, window: Any
) -> None:
    manifest = msgspec.structs.replace(Bundle.open(TINY).manifest, intensity_range=window)
    bundle = dataclasses.replace(Bundle.open(TINY), manifest=manifest)
    network = AnalyticNetwork(NetworkShape(1, 3, 24, 32), std=0.2)
    with seggd_rt.Generator(bundle, network) as other:
        for marked in (False, True):
            planned = plan_run(bundle, mask.path, tmp_path / f"{marked}", steps=2, mark=marked)
            records = list(run(planned, other))
            assert {record.mark for record in records} == ({"SYNTHETIC"} if marked else {None})
            folder = tmp_path / f"{marked}" / records[0].file
            found = compare(folder, other, Inputs(mask.path, Reading()))
            assert (found.images, found.max_error) == (5, 0)
        changed = pydicom.dcmread(folder / "images" / "0003.dcm")
        changed.PixelData = changed.PixelData[::-1]
        changed.save_as(folder / "images" / "0003.dcm")
        assert not compare(folder, other, Inputs(mask.path, Reading())).alike


def test_one_slice_of_a_volume_keeps_its_place(tmp_path: Path, mask: Any, quiet: None) -> None:
    one = OneMask.read(mask.path, MANIFEST, Reading(index=3))
    one.write(one.files(tmp_path / "one.dcm", ["a"]), list(images(1)), [made(0)])
    geometry = READER.open_real(tmp_path / "one.dcm").geometry
    assert geometry is not None
    expected = mask.geometry.affine.copy()
    expected[:3, 3] += 3 * expected[:3, 2]
    np.testing.assert_allclose(geometry.affine, expected, atol=1e-6)
    with pytest.raises(OptionError, match="DICOM holds an image of each slice: 1, not 3"):
        one.files(tmp_path / "more.dcm", ["a", "b", "c"])


def test_runs_that_are_refused(tmp_path: Path, mask: Any, quiet: None) -> None:
    with pytest.raises(OptionError, match="holds one slice, and this run draws 5"):
        plan(mask.path, tmp_path / "one.dcm")
    for options in ({"keep_patient": True}, {"mark": True}):
        with pytest.raises(OptionError, match="in DICOM alone"):
            plan(mask.path, tmp_path / "out", images_as=Format.PNG, **options)
    np.save(tmp_path / "mask.npy", labels()[0])
    with pytest.raises(OptionError, match="is a picture"):
        plan(tmp_path / "mask.npy", tmp_path / "out", images_as=Format.DICOM)


def test_a_segmentation_gives_other_formats_too(
    tmp_path: Path, mask: Any, generator: seggd_rt.Generator, quiet: None
) -> None:
    pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    list(run(plan(mask.path, tmp_path / "out.nii.gz"), generator))
    volume = require_reader(tmp_path / "out.nii.gz").open_real(tmp_path / "out.nii.gz", Reading())
    assert same_places(volume, mask, labels_too=False)
    list(run(plan(mask.path, tmp_path / "pictures", images_as=Format.PNG), generator))
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 5


def test_a_slice_without_a_place_gives_nifti_without_one(tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    nowhere = slice_object(labels()[0], AXIAL, 0, ImagePositionPatient=None)
    source = READER.open(save(nowhere, tmp_path / "a.dcm"), READING)
    with WRITERS[Format.NIFTI].create(tmp_path / "a.nii", stack_of(source)) as file:
        file.append(images(1)[0], made(0))
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    np.testing.assert_allclose(header.get_zooms(), (1.5, 0.8, 2.5))
    with pytest.warns(MissingAffineWarning):
        again = require_reader(tmp_path / "a.nii").open_real(tmp_path / "a.nii", Reading())
    np.testing.assert_array_equal(again.read(0).shape, source.read(0).shape)  # rows and columns are where they were


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_simpleitk_finds_nifti_where_the_dicom_mask_is(tmp_path: Path, affine: NDArray[np.float64]) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    source = READER.open(series(tmp_path / "mask", labels_stored(affine), affine)[0].parent, READING)
    with WRITERS[Format.NIFTI].create(tmp_path / "a.nii", stack_of(source)) as file:
        for image in images(5):
            file.append(image)
    image = sitk.ReadImage(tmp_path / "a.nii")
    found, expected = sitk.GetArrayFromImage(image), -500 + 1000 * images(5)
    for corner in itertools.product(*((0, length - 1) for length in image.GetSize())):
        place = [*image.TransformIndexToPhysicalPoint(corner), 1]
        column, row, index = np.rint(np.linalg.solve(source.geometry.affine, place))[:3].astype(int)
        np.testing.assert_allclose(source.geometry.affine @ [column, row, index, 1], place, atol=1e-4)
        assert found[corner[::-1]] == pytest.approx(expected[index, row, column], abs=1e-3)


def test_a_tilted_gantry_is_no_rotation_in_nifti(tmp_path: Path) -> None:
    """A qform would place it elsewhere, so there is none: what reads only that says so, and is not wrong."""
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    nib = pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    tilted = AXIAL.copy()
    tilted[1, 2] = 1.0  # mm backwards, of 2.5 up
    source = READER.open(series(tmp_path / "mask", labels(), tilted)[0].parent, READING)
    with (
        pytest.warns(ShearedAffineWarning, match=r"mask has sheared slices"),
        WRITERS[Format.NIFTI].create(tmp_path / "a.nii", stack_of(source)) as file,
    ):
        for image in images(5):
            file.append(image)
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ header.get_sform(), tilted, atol=1e-5)
    np.testing.assert_allclose(header.get_zooms(), np.linalg.norm(tilted[:3, :3], axis=0), atol=1e-5)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(tmp_path / "a.nii")
    again = require_reader(tmp_path / "a.nii").open_real(tmp_path / "a.nii", Reading())
    assert same_places(again, source, labels_too=False)
