"""`seggd-rt verify` on volumes: one edited slice, and one file that states something else, are found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bundles import TINY
from tests.commands import run_command

STEPS = ("--steps", "2", "--engine", "onnxruntime", "--batch", "4")
SLICES, EDITED = 12, 5


@pytest.fixture
def slices(golden_mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.roll(golden_mask, index, axis=0) for index in range(SLICES)])


@pytest.fixture
def nifti(tmp_path: Path, slices: NDArray[np.uint8]) -> tuple[Path, Path]:
    """A mask and the volume drawn from it."""
    nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    mask, out = tmp_path / "mask.nii.gz", tmp_path / "out.nii.gz"
    nib.save(nib.Nifti1Image(slices.transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0])), mask)
    drawn = run_command("generate", TINY, "-m", mask, "-o", out, *STEPS)
    assert drawn.code == 0, drawn.err
    return mask, out


@pytest.fixture
def dicom(tmp_path: Path, slices: NDArray[np.uint8]) -> Callable[..., tuple[Path, Path]]:
    """Draws a folder from a series of label maps of a patient."""
    for module in ("pydicom", "highdicom"):
        pytest.importorskip(module, reason="DICOM needs the extra dicom")
    from tests.imaging.dicom.dicoms import series

    series(tmp_path / "case", slices.astype(np.int16))

    def draw(*options: str) -> tuple[Path, Path]:
        drawn = run_command("generate", TINY, "-m", tmp_path / "case", "-o", tmp_path / "out", *options, *STEPS)
        assert drawn.code == 0, drawn.err
        return tmp_path / "case", tmp_path / "out" / "case_0"

    return draw


def verify(out: Path, mask: Path, *options: str) -> Any:
    return run_command("verify", out, TINY, "-m", mask, *options)


def psnr_db(difference: NDArray[np.floating[Any]], span: float) -> float:
    return float(10 * np.log10(span**2 / np.mean(difference.astype(float) ** 2)))


@pytest.mark.parametrize("options", [(), ("--batch", "3"), ("--engine", "onnxruntime", "--threads", "1")])
def test_one_edited_slice_of_a_nifti_volume_is_found(nifti: tuple[Path, Path], options: tuple[str, ...]) -> None:
    """Also where the pooled PSNR is that of equal images, and whatever draws it again."""
    import nibabel as nib

    mask, out = nifti
    assert verify(out, mask, *options).code == 0
    volume: Any = nib.load(out)
    pixels = np.asarray(volume.dataobj).copy()
    before = pixels.copy()
    pixels[10, 10, EDITED] = 1 - pixels[10, 10, EDITED].round()
    assert psnr_db(pixels - before, 1) > 40
    nib.save(type(volume)(pixels, None, volume.header), out)
    found = verify(out, mask, *options)
    assert found.code == 1, found.err
    assert "does not match its record: the regenerated image differs by up to " in found.err
    assert f"in slice {EDITED}, and" in found.err


def test_one_edited_slice_of_a_dicom_folder_is_found(dicom: Callable[..., tuple[Path, Path]]) -> None:
    import pydicom

    mask, out = dicom()
    assert "12 images, equal in every pixel" in verify(out, mask).err
    path = out / "images" / f"{EDITED + 1:04}.dcm"
    data = pydicom.dcmread(path)
    pixels = data.pixel_array.copy()
    pixels[10:12, 10:12] = np.where(pixels[10:12, 10:12] < 32768, 60000, 5000)
    data.PixelData = pixels.tobytes()
    data.save_as(path)
    for options in ((), ("--batch", "1")):
        found = verify(out, mask, *options)
        assert found.code == 1, found.err
        assert f"in slice {EDITED}, and" in found.err


def name_another(data: Any) -> None:
    data.PatientName = "Roe^Richard"


def add_another_id(data: Any) -> None:
    data.OtherPatientNames = "Roe^Richard"


def link_another_study(data: Any) -> None:
    data.StudyInstanceUID = "1.2.840.1"


def move(data: Any) -> None:
    data.ImagePositionPatient = [data.ImagePositionPatient[0], data.ImagePositionPatient[1] + 3, 0]


def turn(data: Any) -> None:
    data.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def widen(data: Any) -> None:
    data.PixelSpacing = [data.PixelSpacing[0] * 2, data.PixelSpacing[1]]


def call_it_real(data: Any) -> None:
    data.SyntheticData = "NO"


def move_a_frame(data: Any) -> None:
    data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 7]


def leave_synthetic_out(data: Any) -> None:
    del data.SyntheticData


def put(**values: Any) -> Callable[[Any], None]:
    """Return an edit that sets elements, or removes them where the value is None."""

    def edit(data: Any) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)

    return edit


def add_a_private_block(data: Any) -> None:
    data.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "Roe^Richard")


def test_a_file_of_one_image_with_a_record_of_two_is_refused(dicom: Callable[..., tuple[Path, Path]]) -> None:
    import pydicom

    mask, out = dicom()
    data = pydicom.dcmread(out / "images" / "0003.dcm")
    element = data.private_block(0x5347, "SEGGD-RT")[1]
    document = json.loads(element.value)
    document["images"] *= 2
    element.value = json.dumps(document)
    data.save_as(out / "images" / "0003.dcm")
    (out / "images" / "0004.dcm").unlink()
    found = verify(out, mask)
    assert (found.code, "holds one image and states how 2 were made" in found.err) == (2, True), found.err


def add_to_the_own_block(data: Any) -> None:
    data.private_block(0x5347, "SEGGD-RT").add_new(2, "LO", "Roe^Richard")


def add_after_the_pixels(data: Any) -> None:
    data.private_block(0x7FE1, "ACME", create=True).add_new(1, "LO", "Roe^Richard")


def empty_the_segments(data: Any) -> None:
    data.PixelData = bytes(len(data.PixelData))


def swap_labels(data: Any) -> None:
    first, second = data.SegmentSequence[:2]
    first.SegmentLabel, second.SegmentLabel = second.SegmentLabel, first.SegmentLabel


def change_a_code(data: Any) -> None:
    data.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"


def add_a_lookup_table(data: Any) -> None:
    import pydicom

    table = pydicom.Dataset()
    table.add_new(0x00283002, "US", [4, 0, 16])
    table.add_new(0x00283006, "US", [0, 1, 2, 3])
    data.VOILUTSequence = [table]


@pytest.mark.parametrize(
    ("edit", "name", "attribute"),
    [
        (name_another, "0003.dcm", "PatientName"),
        (name_another, "segmentation.dcm", "PatientName"),
        (add_another_id, "0003.dcm", "OtherPatientNames"),
        (link_another_study, "0003.dcm", "StudyInstanceUID"),
        (move, "0003.dcm", "ImagePositionPatient"),
        (turn, "0003.dcm", "ImageOrientationPatient"),
        (widen, "0003.dcm", "PixelSpacing"),
        (call_it_real, "0003.dcm", "SyntheticData"),
        (leave_synthetic_out, "0003.dcm", "SyntheticData"),
        (leave_synthetic_out, "segmentation.dcm", "SyntheticData"),
        (move_a_frame, "segmentation.dcm", "ImagePositionPatient"),
        (empty_the_segments, "segmentation.dcm", "PixelData"),
        (swap_labels, "segmentation.dcm", "SegmentLabel"),
        (change_a_code, "segmentation.dcm", "CodeValue"),
        (add_a_private_block, "0003.dcm", "(0011,1001)"),
        (add_a_private_block, "segmentation.dcm", "(0011,1001)"),
        (add_to_the_own_block, "0003.dcm", "(5347,1002)"),
        (add_a_lookup_table, "0003.dcm", "LUTDescriptor"),
        (add_after_the_pixels, "0003.dcm", "(7FE1,1001)"),
        (put(WindowCenter="500"), "0003.dcm", "WindowCenter"),
        (put(WindowWidth=None), "0003.dcm", "WindowWidth"),
        (put(Modality="NM"), "0003.dcm", "Modality"),
        (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), "0003.dcm", "SOPClassUID"),
        (put(PixelAspectRatio=[1, 2]), "0003.dcm", "PixelAspectRatio"),
        (put(PatientOrientation=["A", "F"]), "0003.dcm", "PatientOrientation"),
        (put(ImageType=["ORIGINAL", "PRIMARY"]), "0003.dcm", "ImageType"),
        (put(ContributingEquipmentSequence=None), "0003.dcm", "ContributionDescription"),
        (put(BurnedInAnnotation="YES"), "0003.dcm", "BurnedInAnnotation"),
        (put(ImageComments="Roe^Richard"), "0003.dcm", "ImageComments"),
        (put(PatientID=f"SYNTHETIC-{'a' * 24}"), "0003.dcm", "PatientID"),
        (put(StudyInstanceUID="2.25.5"), "0003.dcm", "StudyInstanceUID"),
    ],
)
def test_one_file_that_states_something_else_is_named(
    edit: Callable[[Any], None], name: str, attribute: str, dicom: Callable[..., tuple[Path, Path]]
) -> None:
    import pydicom

    mask, out = dicom()
    (path,) = out.rglob(name)
    data = pydicom.dcmread(path)
    edit(data)
    data.save_as(path)
    found = verify(out, mask)
    assert found.code == 1, found.err
    said = rf"does not match its record: {re.escape(name)} (has another|has|lacks) {re.escape(attribute)}[ ,]"
    assert re.search(said, found.err), found.err
    assert "Roe" not in found.err, "a patient's name is shown nowhere"


def test_images_match_with_their_own_segmentation_as_label_map(nifti: tuple[Path, Path], tmp_path: Path) -> None:
    """Also the images that are drawn from that segmentation, with the first label map."""
    pytest.importorskip("highdicom", reason="DICOM needs the extra dicom")
    mask, _ = nifti
    for source, name in ((mask, "first"), (tmp_path / "first" / "mask_0" / "segmentation", "second")):
        drawn = run_command("generate", TINY, "-m", source, "-o", tmp_path / name, "--format", "dicom", *STEPS)
        assert drawn.code == 0, drawn.err
    for out in (tmp_path / "first" / "mask_0", tmp_path / "second" / "segmentation_0"):
        for again in (mask, tmp_path / "first" / "mask_0" / "segmentation", out / "segmentation"):
            found = verify(out, again)
            assert (found.code, "12 images, equal in every pixel" in found.err) == (0, True), found.err


def test_what_comes_from_the_header_of_another_label_map_is_one_line(
    nifti: tuple[Path, Path], dicom: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    import pydicom

    own, out = dicom()
    assert verify(out, own).code == 0
    (path,) = out.rglob("segmentation.dcm")
    data = pydicom.dcmread(path)
    code = data.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    code.CodeValue, code.CodeMeaning = "10200004", "Liver"
    data.save_as(path)
    mask = tmp_path / "other"
    shutil.copytree(own, mask)
    for each in mask.iterdir():
        header = pydicom.dcmread(each)
        header.FrameOfReferenceUID = "1.2.3"
        header.save_as(each)
    found = verify(out, mask)
    lines = [line for line in found.err.splitlines() if "does not match" in line]
    assert (found.code, len(lines)) == (1, 1), found.err
    said = "0001.dcm (and 12 other files) has another FrameOfReferenceUID, CodeMeaning, CodeValue than the"
    assert said in lines[0]
    assert lines[0].endswith(f"give the file that it was drawn from; if that is {mask}, the image was changed")


def test_a_file_that_is_gone_is_missed(dicom: Callable[..., tuple[Path, Path]]) -> None:
    mask, out = dicom()
    (out / "segmentation" / "segmentation.dcm").unlink()
    found = verify(out, mask)
    assert (found.code, "it has 12 files, but its record gives 13" in found.err) == (1, True), found.err


def test_a_folder_of_images_says_which_image_to_give(dicom: Callable[..., tuple[Path, Path]]) -> None:
    mask, out = dicom()
    found = verify(out.parent, mask)
    assert (found.code, f"give an image in it, such as {out}" in found.err) == (2, True), found.err
    shutil.rmtree(out / "segmentation")
    found = verify(out, mask)
    assert (found.code, f"give an image in it, such as {out / 'images'}" in found.err) == (2, True), found.err
    assert verify(out / "images", mask).code == 0
    found = verify(out.parent, mask)
    assert (found.code, f"give an image in it, such as {out / 'images'}" in found.err) == (2, True), found.err
    shutil.rmtree(out / "images")
    found = verify(out, mask)
    assert (found.code, "there is no image in it" in found.err) == (2, True), found.err


def test_a_patient_that_was_kept_is_the_masks(dicom: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    import pydicom

    mask, out = dicom("--keep-patient")
    assert pydicom.dcmread(out / "images" / "0003.dcm").PatientName == "Doe^Jane"
    assert verify(out, mask).code == 0
    anonymous = tmp_path / "anonymous"
    shutil.copytree(out, anonymous)
    for path in anonymous.rglob("*.dcm"):
        data = pydicom.dcmread(path)
        name_another(data)
        data.save_as(path)
    found = verify(anonymous, mask)
    assert (found.code, "0001.dcm has another PatientName" in found.err) == (1, True), found.err


def test_an_archive_may_store_dicom_in_another_encoding(dicom: Callable[..., tuple[Path, Path]]) -> None:
    """Implicit VRs, run lengths, group lengths, padding, empty elements, decimals of another form."""
    import pydicom

    mask, out = dicom()
    for number, path in enumerate(sorted(out.rglob("*.dcm"))):
        data = pydicom.dcmread(path)
        data.add_new(0x00080000, "UL", 100)
        data.add_new(0xFFFCFFFC, "OB", bytes(16))
        data.StationName = ""
        if "WindowWidth" in data:
            data.WindowWidth = f"{float(data.WindowWidth):.6f}"
        if number % 2 == 0 or "SegmentSequence" in data:
            implicit = pydicom.uid.ImplicitVRLittleEndian
            data.file_meta.TransferSyntaxUID = implicit
            pydicom.dcmwrite(path, data, implicit_vr=True, little_endian=True)
        else:
            data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
            data.save_as(path)
    found = verify(out, mask)
    assert (found.code, "12 images, equal in every pixel" in found.err) == (0, True), found.err


def test_voxels_of_micrometers_are_held_against_their_own_size(tmp_path: Path, slices: NDArray[np.uint8]) -> None:
    nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    mask, out = tmp_path / "mask.nii.gz", tmp_path / "out.nii.gz"
    for unit, voxel in (("mm", 5e-5), ("meter", 5e-5)):
        image = nib.Nifti1Image(slices.transpose(2, 1, 0), np.diag([-voxel, -voxel, voxel, 1.0]))
        image.header.set_xyzt_units(unit)
        nib.save(image, mask)
        drawn = run_command("generate", TINY, "-m", mask, "-o", out, "--force", *STEPS)
        assert drawn.code == 0, drawn.err
        assert verify(out, mask).code == 0
        volume: Any = nib.load(out)
        header = volume.header.copy()
        header["srow_x"] = header["srow_x"] * 1.1
        nib.save(type(volume)(np.asarray(volume.dataobj), None, header), out)
        found = verify(out, mask)
        assert (found.code, "out.nii.gz has another sform than" in found.err) == (1, True), found.err


def add_an_extension(header: Any) -> None:
    import nibabel as nib

    header.extensions.append(nib.nifti1.Nifti1Extension(6, b"Roe^Richard"))


def name_in(field: str, value: Any) -> Callable[[Any], None]:
    def edit(header: Any) -> None:
        header[field] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (name_in("descrip", b"Roe^Richard"), "descrip"),
        (name_in("aux_file", b"Roe^Richard"), "aux_file"),
        (name_in("db_name", b"Roe^Richard"), "db_name"),
        (name_in("intent_name", b"Roe^Richard"), "intent_name"),
        (name_in("intent_code", 1002), "intent_code"),
        (name_in("cal_max", 7), "cal_max"),
        (add_an_extension, "extension 1"),
    ],
)
def test_a_nifti_header_that_says_more_is_named(
    edit: Callable[[Any], None], name: str, nifti: tuple[Path, Path]
) -> None:
    import nibabel as nib

    mask, out = nifti
    volume: Any = nib.load(out)
    header = volume.header.copy()
    edit(header)
    nib.save(type(volume)(np.asarray(volume.dataobj), None, header), out)
    found = verify(out, mask)
    assert (found.code, re.search(f"out.nii.gz has (another )?{name}[ ,]", found.err) is not None) == (1, True)
    assert "Roe" not in found.err


@pytest.mark.parametrize("field", ["srow_x", "qoffset_x", "sform_code", "qform_code"])
def test_a_nifti_volume_that_was_moved_is_named(nifti: tuple[Path, Path], field: str) -> None:
    import nibabel as nib

    mask, out = nifti
    volume: Any = nib.load(out)
    header = volume.header.copy()
    header[field] = header[field] + np.array([0, 0, 0, 3]) if field == "srow_x" else header[field] + 1
    nib.save(type(volume)(np.asarray(volume.dataobj), None, header), out)
    found = verify(out, mask)
    form = "qform" if field.startswith("q") else "sform"
    assert (found.code, f"out.nii.gz has another {form} than" in found.err) == (1, True), found.err


def reverse(out: Path) -> None:
    """Turn a DICOM volume upside down: places and numbers, each file keeping its pixels and its record."""
    import pydicom

    paths = sorted((out / "images").iterdir())
    files = [pydicom.dcmread(path) for path in paths]
    places = [(data.ImagePositionPatient, data.InstanceNumber, data.SliceLocation) for data in files]
    for path, data, place in zip(paths, files, reversed(places), strict=True):
        data.ImagePositionPatient, data.InstanceNumber, data.SliceLocation = place
        data.save_as(path)


def remove_a_slice(out: Path) -> None:
    (out / "images" / "0004.dcm").unlink()


def add_a_slice(out: Path) -> None:
    shutil.copy(out / "images" / "0004.dcm", out / "images" / "0099.dcm")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (reverse, "its slices are not in its label map's order, from slice 0 on"),
        (remove_a_slice, "slices are missing: 11, not 12, from slice 3 on"),
        (add_a_slice, "slices are added: 13, not 12, from slice 4 on"),
    ],
)
def test_slices_of_a_dicom_folder_that_were_moved(
    edit: Callable[[Path], None], message: str, dicom: Callable[..., tuple[Path, Path]]
) -> None:
    mask, out = dicom()
    edit(out)
    found = verify(out, mask)
    assert (found.code, f"{out} does not match its record: {message}" in found.err) == (1, True), found.err


def edit_volume(path: Path, edit: Callable[[Any, list[dict[str, Any]]], None]) -> None:
    """Change a NIfTI volume's slices, (x, y, slice), and their entries in its record together."""
    import nibabel as nib

    volume: Any = nib.load(path)
    pixels, header = np.asarray(volume.dataobj).copy(), volume.header.copy()
    mark, _, text = header.extensions[0].get_content().partition(b" ")
    document = json.loads(text.rstrip(b"\0"))
    edit(pixels, document["images"])
    header.extensions.clear()
    header.extensions.append(nib.nifti1.Nifti1Extension(6, mark + b" " + json.dumps(document).encode()))
    nib.save(type(volume)(pixels, None, header), path)


def swap_slices(pixels: Any, records: list[dict[str, Any]]) -> None:
    pixels[..., [2, 7]], records[2], records[7] = pixels[..., [7, 2]], records[7], records[2]


def duplicate_a_slice(pixels: Any, records: list[dict[str, Any]]) -> None:
    pixels[..., 2], records[2] = pixels[..., 7], records[7]


@pytest.mark.parametrize("edit", [swap_slices, duplicate_a_slice])
def test_slices_of_a_nifti_volume_that_were_moved_with_their_records(
    edit: Callable[[Any, list[dict[str, Any]]], None], nifti: tuple[Path, Path]
) -> None:
    mask, out = nifti
    edit_volume(out, edit)
    found = verify(out, mask)
    assert (found.code, "not in its label map's order, from slice 2 on" in found.err) == (1, True), found.err


def moved(slices: NDArray[Any]) -> NDArray[Any]:
    return slices[[0, 1, 7, 3, 4, 5, 6, 2, *range(8, SLICES)]]


def repeated(slices: NDArray[Any]) -> NDArray[Any]:
    return slices[[0, 1, 1, *range(3, SLICES)]]


def repeated_and_edited(slices: NDArray[Any]) -> NDArray[Any]:
    changed = repeated(slices).copy()
    changed[9, 5:10, 5:10] = 1 - changed[9, 5:10, 5:10].round()
    return changed


def without_the_last(slices: NDArray[Any]) -> NDArray[Any]:
    return slices[:-1]


def without_one(slices: NDArray[Any]) -> NDArray[Any]:
    return np.delete(slices, 4, axis=0)


def with_one_twice(slices: NDArray[Any]) -> NDArray[Any]:
    return np.insert(slices, 4, slices[6], axis=0)


@pytest.mark.parametrize("kind", ["NIfTI", "NPY"])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (moved, "%s were moved or repeated: % 2 holds % 7, % 7 holds % 2"),
        (repeated, "%s were moved or repeated: % 2 holds % 1"),
        (repeated_and_edited, "%s were moved or repeated: % 2 holds % 1; 1 other % changed (9)"),
        (without_the_last, "%s are missing: 11, not 12, from % 11 on"),
        (without_one, "%s are missing: 11, not 12, from % 4 on"),
        (with_one_twice, "%s are added: 13, not 12, from % 4 on"),
    ],
)
def test_pixels_that_were_moved_without_their_records(
    edit: Callable[[NDArray[Any]], NDArray[Any]],
    message: str,
    kind: str,
    slices: NDArray[np.uint8],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """The header stays, and is not reported as another one because the shape is."""
    if kind == "NIfTI":
        nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")

        mask, out = request.getfixturevalue("nifti")
        volume: Any = nib.load(out)
        pixels = edit(np.asarray(volume.dataobj).transpose(2, 1, 0)).transpose(2, 1, 0)
        nib.save(type(volume)(pixels, None, volume.header), out)
    else:
        mask, out = tmp_path / "mask.npy", tmp_path / "out.npy"
        np.save(mask, slices)
        assert run_command("generate", TINY, "-m", mask, "-o", out, *STEPS).code == 0
        np.save(out, edit(np.load(out)))
    found = verify(out, mask)
    said = f"{out} does not match its record: {message.replace('%', 'slice' if kind == 'NIfTI' else 'image')}"
    assert found.code == 1, found.err
    assert [line for line in found.err.splitlines() if "does not match" in line] == [said]


def test_pixels_that_were_moved_in_a_dicom_folder(dicom: Callable[..., tuple[Path, Path]]) -> None:
    import pydicom

    mask, out = dicom()
    paths = [out / "images" / name for name in ("0003.dcm", "0008.dcm")]
    files = [pydicom.dcmread(path) for path in paths]
    files[0].PixelData, files[1].PixelData = files[1].PixelData, files[0].PixelData
    for path, data in zip(paths, files, strict=True):
        data.save_as(path)
    found = verify(out, mask)
    said = "slices were moved or repeated: slice 2 holds slice 7, slice 7 holds slice 2"
    assert (found.code, said in found.err) == (1, True), found.err


def test_a_volume_of_another_shape_is_said_to_be_one(nifti: tuple[Path, Path]) -> None:
    import nibabel as nib

    mask, out = nifti
    volume: Any = nib.load(out)
    nib.save(type(volume)(np.asarray(volume.dataobj)[:-1], None, volume.header), out)
    found = verify(out, mask)
    said = "out.nii.gz holds float32 (12, 24, 31), and drawn again float32 (12, 24, 32): it was changed"
    assert (found.code, said in found.err) == (2, True), found.err


def test_a_slice_that_took_the_place_of_an_equal_mask_is_found(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    """With its record and thus its seed, which is then there twice."""
    nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    mask, out = tmp_path / "mask.nii.gz", tmp_path / "out.nii.gz"
    alike = np.stack([golden_mask] * 8)
    nib.save(nib.Nifti1Image(alike.transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0])), mask)
    assert run_command("generate", TINY, "-m", mask, "-o", out, *STEPS).code == 0
    edit_volume(out, duplicate_a_slice)
    found = verify(out, mask)
    assert (found.code, "some of its slices have the same seed" in found.err) == (1, True), found.err


def test_a_slice_of_another_volume_is_found(nifti: tuple[Path, Path], slices: NDArray[np.uint8]) -> None:
    """Though its own label map is in the folder of masks, too."""
    import nibabel as nib

    mask, out = nifti
    masks = mask.parent / "masks"
    masks.mkdir()
    shutil.copy(mask, masks / "a.nii.gz")
    other, drawn = masks / "b.nii.gz", mask.parent / "other.nii.gz"
    nib.save(nib.Nifti1Image(slices[:, ::-1].transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0])), other)
    assert run_command("generate", TINY, "-m", other, "-o", drawn, "--seed", "5", *STEPS).code == 0
    taken: dict[str, Any] = {}

    def take(pixels: Any, records: list[dict[str, Any]]) -> None:
        taken["pixels"], taken["record"] = pixels[..., 3].copy(), records[3]

    def put(pixels: Any, records: list[dict[str, Any]]) -> None:
        pixels[..., 3], records[3] = taken["pixels"], taken["record"]

    edit_volume(drawn, take)
    edit_volume(out, put)
    found = verify(out, masks)
    assert (found.code, "its slices are of several label maps" in found.err) == (1, True), found.err


@pytest.mark.parametrize(
    ("shared", "last", "code", "message"),
    [
        ({"precision": "bf16"}, {}, 1, "does not match its record: the regenerated image differs by up to"),
        ({"device": "another CPU"}, {}, 1, "not on the recorded machine settings (device)"),
        ({}, {"precision": "bf16"}, 2, "states several values of precision"),
        ({}, {"precision": "zzz"}, 2, "states the precision zzz, which is none"),
        ({"precision": "zzz"}, {}, 2, "states the precision zzz, which is none"),
        ({}, {"engine": "tensorrt"}, 2, "states several values of engine"),
        ({}, {"device": "another CPU"}, 2, "states several values of device"),
        ({}, {"batch": None}, 2, "states the batch of some of its images only"),
    ],
)
def test_no_record_of_a_machine_hides_an_edit(
    shared: dict[str, Any], last: dict[str, Any], code: int, message: str, nifti: tuple[Path, Path]
) -> None:
    """A bright disc in one slice, under a record that says another machine drew the volume, or one slice of it."""
    mask, out = nifti

    def put_disc(pixels: Any, records: list[dict[str, Any]]) -> None:
        x, y = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
        inside = (x - 8) ** 2 + (y - 10) ** 2 < 10
        pixels[inside, EDITED] += np.where(pixels[inside, EDITED] < 0.5, 0.2, -0.2)
        records[-1] |= last
        for each in records:
            each |= shared

    edit_volume(out, put_disc)
    found = verify(out, mask)
    assert (found.code, message in found.err) == (code, True), found.err


@pytest.mark.parametrize(("change", "code"), [(0.003, 0), (0.05, 1)])
def test_what_a_lower_precision_may_change_is_confirmed_up_to_a_gray_level(
    change: float, code: int, nifti: tuple[Path, Path]
) -> None:
    """Beyond that, up to what precision can explain, only the machine that drew it can tell."""
    mask, out = nifti

    def put_spot(pixels: Any, records: list[dict[str, Any]]) -> None:
        spot = pixels[10:12, 10:12, EDITED]
        spot += np.where(spot < 0.5, change, -change)
        for each in records:
            each["precision"] = "bf16"

    edit_volume(out, put_spot)
    found = verify(out, mask, "--engine", "onnxruntime", "--precision", "fp32")
    said = "the same: the worst differs" if code == 0 else "is not confirmed: the regenerated image differs"
    assert (found.code, said in found.err) == (code, True), found.err
    assert "not on the recorded machine settings (precision)" in found.err


def test_images_without_their_segmentation_are_verified(dicom: Callable[..., tuple[Path, Path]]) -> None:
    mask, out = dicom()
    found = verify(out / "images", mask)
    assert (found.code, "12 images, equal in every pixel" in found.err) == (0, True), found.err


def test_one_file_of_a_dicom_folder_is_verified(nifti: tuple[Path, Path]) -> None:
    """Also of one drawn from NIfTI, whose frame of reference comes from all of its slices."""
    pytest.importorskip("highdicom", reason="DICOM needs the extra dicom")
    mask, _ = nifti
    out = mask.parent / "dicom"
    drawn = run_command("generate", TINY, "-m", mask, "-o", out, "--format", "dicom", *STEPS)
    assert drawn.code == 0, drawn.err
    found = verify(next(out.rglob("0003.dcm")), mask)
    assert (found.code, "1 image, equal in every pixel" in found.err) == (0, True), found.err


def test_of_equal_label_maps_that_lie_elsewhere_the_right_one_is_taken(
    nifti: tuple[Path, Path], slices: NDArray[np.uint8]
) -> None:
    import nibabel as nib

    mask, out = nifti
    masks = mask.parent / "masks"
    masks.mkdir()
    for name, step in (("a", 3.0), ("c", 5.0)):
        nib.save(nib.Nifti1Image(slices.transpose(2, 1, 0), np.diag([-1.0, -1.0, step, 1.0])), masks / f"{name}.nii.gz")
    assert verify(out, masks).code == 1
    shutil.copy(mask, masks / "b.nii.gz")
    assert verify(out, masks).code == 0


def test_of_equal_slices_the_right_one_is_taken(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    mask, out = tmp_path / "mask.nii.gz", tmp_path / "out.nii.gz"
    alike = np.stack([golden_mask] * 3)
    nib.save(nib.Nifti1Image(alike.transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0])), mask)
    np.save(tmp_path / "real.npy", np.zeros((24, 32), np.float32))
    options = ("--slice", "1", "--real", tmp_path / "real.npy", "-o", out)
    drawn = run_command("interpolate", TINY, "-m", mask, *options, "--steps", "2", "--engine", "onnxruntime")
    assert drawn.code == 0, drawn.err
    found = verify(out, mask, "--real", str(tmp_path / "real.npy"))
    assert (found.code, "1 image, equal in every pixel" in found.err) == (0, True), found.err


def test_of_equal_label_maps_of_two_patients_the_right_one_is_taken(
    dicom: Callable[..., tuple[Path, Path]], slices: NDArray[np.uint8], tmp_path: Path
) -> None:
    import pydicom

    _, out = dicom("--keep-patient")
    masks = tmp_path / "masks"
    for name in ("a", "b", "c"):
        shutil.copytree(tmp_path / "case", masks / name)
        if name != "b":
            for path in (masks / name).iterdir():
                data = pydicom.dcmread(path)
                data.PatientName = "Roe^Richard"
                data.save_as(path)
    found = verify(out, masks)
    assert (found.code, "equal in every pixel" in found.err) == (0, True), found.err


@pytest.mark.parametrize("turn", [(0, 0, 0), (np.pi / 2, 0, 0), (np.pi / 2, 0, np.pi / 2), (0.4, 0.3, 0.2)])
@pytest.mark.parametrize("options", [(), ("--axis", "0")])
def test_nifti_of_slices_of_any_plane_is_verified(
    turn: tuple[float, ...], options: tuple[str, ...], tmp_path: Path, slices: NDArray[np.uint8]
) -> None:
    for module in ("pydicom", "highdicom", "nibabel"):
        pytest.importorskip(module, reason="DICOM and NIfTI need the extras dicom and nifti")
    import nibabel as nib

    from tests.imaging.dicom.dicoms import series, turned

    mask, out = tmp_path / "case", tmp_path / "out.nii.gz"
    series(mask, slices[:3].astype(np.int16), turned(turn))
    drawn = run_command("generate", TINY, "-m", mask, "-o", out, *options, *STEPS)
    assert drawn.code == 0, drawn.err
    found = run_command("verify", out, TINY, "-m", mask, *options)
    assert (found.code, "3 images, equal in every pixel" in found.err) == (0, True), found.err
    volume: Any = nib.load(out)
    pixels = np.asarray(volume.dataobj).copy()
    pixels[10, 10, 1] = 1 - pixels[10, 10, 1].round()
    nib.save(type(volume)(pixels, None, volume.header), out)
    found = run_command("verify", out, TINY, "-m", mask, *options)
    assert (found.code, "in slice 1, and" in found.err) == (1, True), found.err


@pytest.mark.parametrize("axis", ["coronal", "sagittal", "0", "1", "2"])
def test_dicom_of_a_nifti_volume_cut_along_any_axis_is_verified(
    axis: str, tmp_path: Path, slices: NDArray[np.uint8]
) -> None:
    for module in ("pydicom", "highdicom", "nibabel"):
        pytest.importorskip(module, reason="DICOM and NIfTI need the extras dicom and nifti")
    import nibabel as nib

    mask = tmp_path / "mask.nii.gz"
    volume = slices[:3].transpose(2, 1, 0)[:3] if axis in ("sagittal", "0") else slices[:3].transpose(2, 1, 0)[:, :3]
    volume = slices[:3].transpose(2, 1, 0) if axis == "2" else volume
    nib.save(nib.Nifti1Image(volume, np.diag([-1.0, -1.0, 2.0, 1.0])), mask)
    options = ("--axis", axis)
    drawn = run_command("generate", TINY, "-m", mask, "-o", tmp_path / "out", "--format", "dicom", *options, *STEPS)
    assert drawn.code == 0, drawn.err
    for part in ("", "images", "images/0002.dcm"):
        found = run_command("verify", tmp_path / "out" / "mask_0" / part, TINY, "-m", mask, *options)
        assert (found.code, "equal in every pixel" in found.err) == (0, True), found.err


@pytest.mark.parametrize(
    "name", ["extra.dcm", "images2/0001.dcm", "images/more/IM1", "images/.0001.dcm", "images/a.png"]
)
def test_a_file_of_dicom_beside_those_of_the_volume_is_found(
    name: str, dicom: Callable[..., tuple[Path, Path]]
) -> None:
    mask, out = dicom()
    (out / "readme.txt").write_text("no DICOM")
    assert verify(out, mask).code == 0
    (out / name).parent.mkdir(exist_ok=True)
    shutil.copy(out / "images" / "0001.dcm", out / name)
    found = verify(out, mask)
    assert (found.code, "it has 14 files, but its record gives 13" in found.err) == (1, True), found.err


def pad(data: Any) -> None:
    data.add_new(0xFFFCFFFC, "OB", b"Roe^Richard ")


def name_in_a_length(data: Any) -> None:
    data.add_new(0x00110010, "LO", "Roe^Richard")  # pydicom writes no lengths of groups: the test renames it


def add_pixels_to_a_sequence(data: Any) -> None:
    data.ContributingEquipmentSequence[0].add_new(0x7FE00010, "OB", b"Roe^Richard ")


@pytest.mark.parametrize("change", [pad, name_in_a_length, add_pixels_to_a_sequence])
def test_what_encodings_may_change_holds_nothing_else(
    change: Callable[[Any], None], dicom: Callable[..., tuple[Path, Path]]
) -> None:
    import pydicom

    mask, out = dicom()
    path = out / "images" / "0003.dcm"
    data = pydicom.dcmread(path)
    data.add_new(0xFFFCFFFC, "OB", bytes(12))
    data.save_as(path)
    assert verify(out, mask).code == 0
    change(data)
    data.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"\x11\0\x10\0LO", b"\x11\0\0\0LO"))
    found = verify(out, mask)
    assert (found.code, "0003.dcm has " in found.err) == (1, True), found.err
