"""`seggd-rt verify` on volumes: one edited slice, and one file that states something else, are found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import TINY
from commands import run_command
from numpy.typing import NDArray

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
    from dicoms import series

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
    assert "is not what it says: drawn again it differs by up to " in found.err
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
    assert f"{out} is not what it says: {name} has another {attribute} than the file drawn again" in found.err
    assert "Roe" not in found.err, "a patient's name is shown nowhere"


def test_a_file_that_is_gone_is_missed(dicom: Callable[..., tuple[Path, Path]]) -> None:
    mask, out = dicom()
    (out / "segmentation" / "segmentation.dcm").unlink()
    found = verify(out, mask)
    assert (found.code, "it has 12 files, and drawn again 13" in found.err) == (1, True), found.err


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
