"""Objects of DICOM to read: series of slices, and segmentations, where an affine says."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

CT, MR, CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"
PATIENT, PATIENT_ID = "Doe^Jane", "MRN-4711"
AXIAL = np.array([[0.8, 0, 0, -31.25], [0, 1.5, 0, -20.5], [0, 0, 2.5, 100.125], [0, 0, 0, 1]])
"""(column, row, slice, 1) to LPS in mm; rows and columns are of different spacing."""
FRAME = "1.2.826.0.1.3680043.8.498.1"


def turned(angles: Sequence[float], affine: NDArray[np.float64] = AXIAL) -> NDArray[np.float64]:
    """Turn an affine about x, y and z."""
    matrix = np.eye(4)
    for axis, angle in enumerate(angles):
        one = np.eye(4)
        i, j = [k for k in range(3) if k != axis]
        one[i, i] = one[j, j] = np.cos(angle)
        one[i, j], one[j, i] = -np.sin(angle), np.sin(angle)
        matrix = one @ matrix
    return matrix @ affine


class Way(NamedTuple):
    """How slices are stored that are shown: transposed, after their rows or columns were reversed."""

    transposed: bool
    rows: bool
    columns: bool


WAYS_TO_STORE = [Way(*each) for each in itertools.product((False, True), repeat=3)]


def stored_as(way: Way, volume: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return (slice, row, column) pixels, and (column, row, slice, 1) to mm, as they are stored."""
    to_shown = np.eye(4)
    rows, columns = volume.shape[1:]
    if way.rows:
        volume, to_shown[1, 1], to_shown[1, 3] = volume[:, ::-1], -1, rows - 1
    if way.columns:
        volume, to_shown[0, 0], to_shown[0, 3] = volume[:, :, ::-1], -1, columns - 1
    if way.transposed:
        volume, to_shown = volume.swapaxes(1, 2), to_shown[:, [1, 0, 2, 3]]
    return np.ascontiguousarray(volume), affine @ to_shown


def slice_object(
    pixels: NDArray[Any],
    affine: NDArray[np.float64],
    index: int,
    kind: str = CT,
    series: str = "1.2.3.4",
    **change: Any,
) -> Dataset:
    """Return a single-frame object; a change of None removes an attribute."""
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = kind, f"{series}.{index + 1}"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", series
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = PATIENT, PATIENT_ID, "19700102", "F"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20240102", "120000", "7", "A7"
    data.ReferringPhysicianName, data.StudyDescription = "Who^Doctor", "Follow-up"
    data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", 3, index + 1
    data.Manufacturer = "Test"
    if kind != CAPTURE:
        column, row = affine[:3, 0], affine[:3, 1]
        across, down = np.linalg.norm(column), np.linalg.norm(row)
        data.FrameOfReferenceUID = FRAME
        data.ImagePositionPatient = decimals(affine[:3, 3] + index * affine[:3, 2])
        data.ImageOrientationPatient = decimals([*(column / across), *(row / down)])
        data.PixelSpacing = decimals([down, across])
        data.SliceThickness = decimals([np.linalg.norm(affine[:3, 2])])[0]
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    if kind == CT:
        data.RescaleSlope, data.RescaleIntercept = 1, 0
    data.PixelData = pixels.tobytes()
    for keyword, value in change.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    return data


def save(data: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path, enforce_file_format=True)
    return path


def series(
    folder: Path, volume: NDArray[Any], affine: NDArray[np.float64] = AXIAL, *, prefix: str = "", **options: Any
) -> list[Path]:
    """Write a volume, (slice, row, column), as a series whose names and numbers are not in its order."""
    folder.mkdir(exist_ok=True)
    names = np.random.default_rng(0).permutation(len(volume))
    return [
        save(
            slice_object(pixels, affine, index, **{"InstanceNumber": int(name) + 1, **options}),
            folder / f"{prefix}{name:04}.dcm",
        )
        for index, (name, pixels) in enumerate(zip(names, volume, strict=True))
    ]


def segmentation(
    path: Path,
    labels: NDArray[np.integer],
    names: Sequence[str],
    affine: NDArray[np.float64] = AXIAL,
    *,
    kind: str = "BINARY",
    sparse: bool = True,
    meanings: Sequence[str] | None = None,
    pixels: NDArray[Any] | None = None,
) -> Path:
    """Write (slice, row, column) numbers of segments, 1 and up, or `pixels`, (..., segment), as a segmentation."""
    images = [slice_object(np.zeros(labels.shape[1:], np.int16), affine, index) for index in range(len(labels))]
    for image in images:
        image.SpacingBetweenSlices = image.SliceThickness
    described = [
        highdicom.seg.SegmentDescription(
            number,
            name,
            Code("123037004", "SCT", "Anatomical Structure"),
            Code(f"{number}000", "SCT", meaning),
            algorithm_type="MANUAL",
        )
        for number, (name, meaning) in enumerate(zip(names, meanings or names, strict=True), start=1)
    ]
    data = highdicom.seg.Segmentation(
        images,
        labels.astype(np.uint8) if pixels is None else pixels,
        kind,
        described,
        series_instance_uid=generate_uid(entropy_srcs=["series"]),
        series_number=5,
        sop_instance_uid=generate_uid(entropy_srcs=["object"]),
        instance_number=1,
        manufacturer="Test",
        manufacturer_model_name="Test",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=sparse,
    )
    data.save_as(path)
    return path


def decimals(numbers: Sequence[float] | NDArray[np.float64]) -> list[str]:
    return [format_number_as_ds(float(number) + 0.0) for number in numbers]
