"""The objects of DICOM that images become: CT, MR or Secondary Capture images, and their label maps' segmentation.

Nothing in them depends on when they are made, so a run that is started again gives the same bytes: UIDs come from what
is written, dates are empty where they may be (type 2, the study's), and `NO_DATE` where one must be (type 1, the
segmentation's content).
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import seggd_rt
from seggd_rt.imaging.dicom_file import damage, read_header, text
from seggd_rt.imaging.dicom_seg import DicomSegmentation
from seggd_rt.labels import LabelClass
from seggd_rt.manifest import Manifest
from seggd_rt.optional import require
from seggd_rt.provenance import NOTE, Provenance, dump

if TYPE_CHECKING:
    from pydicom import Dataset

NO_DATE, NO_TIME = "19000101", "000000"
GROUP, CREATOR, RECORD = 0x5347, "SEGGD-RT", 0x01
"""The private block of each image, and its element with the record of its making, JSON."""
KEPT = {
    "PatientName": "PN", "PatientID": "LO", "IssuerOfPatientID": "LO", "PatientBirthDate": "DA", "PatientSex": "CS",
    "PatientAge": "AS", "PatientSize": "DS", "PatientWeight": "DS", "StudyInstanceUID": "UI", "StudyDate": "DA",
    "StudyTime": "TM", "StudyID": "SH", "AccessionNumber": "SH", "ReferringPhysicianName": "PN",
    "StudyDescription": "LO",
}  # fmt: skip
"""What `keep_patient` copies of the source where it is of its type's form, and of which type it is."""
_FORMS = {
    "CS": "[MFO]", "AS": r"\d{3}[DWMY]", "DS": r"\d{1,8}(\.\d{1,6})?", "UI": r"[\d.]{1,64}", "SH": ".{1,16}",
    "LO": ".{1,64}", "PN": ".{1,194}",
}  # fmt: skip
_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_EXPLICIT = "1.2.840.10008.1.2.1"
_SPACE = uuid.UUID("5f0f9c0a-6d0e-4b43-9d64-3f6d1d6f1a5b")
_NAME = "seggd-rt"
_TEXT = 64
_LEVELS = 255
"""Fewer whole numbers than this between black and white would coarsen an image."""
_WORD = 65535
_DIGITS = 9
"""After the point, of millimetres and cosines: less is the noise of computing them."""


@dataclass(frozen=True)
class Scale:
    """How [0, 1] becomes stored values, and those the modality's.

    Attributes
    ----------
    black, white
        The modality's values of 0 and 1.
    slope, intercept
        From a stored value to the modality's.
    signed
        Whether stored values are.
    unit
        Of the modality's values: HU, or US for none.
    """

    black: float
    white: float
    slope: float
    intercept: float
    signed: bool
    unit: str

    @classmethod
    def of(cls, manifest: Manifest) -> Scale:
        """Return a bundle's: whole numbers of its intensity range where 16 bits hold them, else all of 16 bits."""
        if manifest.intensity_range is None:
            return cls(0, _WORD, 1, 0, False, "US")
        black, white = manifest.intensity_range
        unit = "HU" if modality(manifest) == "CT" else "US"
        signed = black < 0
        if white - black >= _LEVELS and black >= -(1 << 15) and white <= ((1 << 15) - 1 if signed else _WORD):
            return cls(black, white, 1, 0, signed, unit)
        return cls(black, white, (white - black) / _WORD, black, False, unit)

    def store(self, image: NDArray[np.float32]) -> NDArray[np.integer]:
        """Return stored values, int16 or uint16, of an image, float32 in [0, 1]."""
        values = self.black + image.astype(np.float64) * (self.white - self.black)
        dtype = np.dtype(np.int16 if self.signed else np.uint16)
        limits = np.iinfo(dtype)
        stored: NDArray[np.integer] = np.rint((values - self.intercept) / self.slope).clip(limits.min, limits.max)
        return stored.astype(dtype.newbyteorder("<"))


def modality(manifest: Manifest) -> str:
    """Return a bundle's modality as DICOM's term; OT, other, where it has none."""
    stated = (manifest.modality or "").strip().upper()
    return stated if re.fullmatch("[A-Z0-9_ ]{1,16}", stated) else "OT"


@dataclass(frozen=True)
class Study:
    """What the objects of one volume share.

    Attributes
    ----------
    manifest
        Of the bundle.
    affine
        (4, 4) from (column, row, slice, 1): see `Geometry.affine`.
    frame_of_reference
        UID of the axes that it leads to.
    identity
        Digest of all that is written: what UIDs come from.
    patient
        What is kept of the source's patient and study; nothing where they are made up.
    marked
        Whether images say in a corner that they are synthetic.
    """

    manifest: Manifest
    affine: NDArray[np.float64]
    frame_of_reference: str
    identity: str
    patient: Mapping[str, str] = field(default_factory=dict)
    marked: bool = False

    def uid(self, part: str) -> str:
        """Return the UID of a part: the same for the same volume."""
        return derive_uid(self.identity, part)


def derive_uid(*parts: str) -> str:
    """Return a UID, made of a UUID that these texts give."""
    return f"2.25.{uuid.uuid5(_SPACE, '/'.join(parts)).int}"


def kept_patient(path: Path) -> dict[str, str]:
    """Return what a file says of its patient and study, by DICOM's keywords.

    Raises
    ------
    DataError
        It cannot be read.
    """
    header = read_header(path)
    with damage(path):
        found = {keyword: text(header.get(keyword)) for keyword in KEPT}
    return {keyword: value for keyword, value in found.items() if _has_form(value, KEPT[keyword])}


def image(study: Study, index: int, pixels: NDArray[np.integer], made: Provenance | None) -> Dataset:
    """Return the object of one slice.

    Parameters
    ----------
    study
        What it shares with others.
    index
        Of the slice.
    pixels
        (H, W) int16 or uint16 as `Scale.store` gives them.
    made
        How it was made.
    """
    pydicom = require("pydicom", extra="dicom", feature="DICOM")
    kind = modality(study.manifest)
    data = pydicom.Dataset()
    _describe_study(data, study)
    data.SOPClassUID = _CLASSES.get(kind, _SECONDARY_CAPTURE)
    data.SOPInstanceUID = study.uid(f"image/{index}")
    data.SyntheticData = "YES"
    data.Modality = kind
    data.SeriesInstanceUID = study.uid("images")
    data.SeriesNumber = 1
    data.SeriesDescription = f"Synthetic {kind if kind in _CLASSES else 'images'} by {_NAME}"
    data.InstanceNumber = index + 1
    data.ImageType = ["DERIVED", "SECONDARY", *{"CT": ["AXIAL"], "MR": ["OTHER"]}.get(kind, [])]
    data.DerivationDescription = NOTE
    data.Laterality = ""
    data.BurnedInAnnotation = "YES" if study.marked else "NO"
    _describe_kind(data, kind)
    _describe_place(data, study, index)
    _describe_pixels(data, study, pixels)
    data.Manufacturer = data.ManufacturerModelName = _NAME
    data.SoftwareVersions = seggd_rt.__version__ if made is None else made.version
    about = NOTE
    if made is not None:
        about += f" Bundle {made.bundle}, seed {made.seed}, {made.engine} in {made.precision}."
        data.DeviceSerialNumber = made.bundle
    data.ContributingEquipmentSequence = [_equipment(data, about)]
    if made is not None:
        block = data.private_block(GROUP, CREATOR, create=True)
        block.add_new(RECORD, "UT", dump([made]).decode())
    return data


def segmentation(
    study: Study, images: Sequence[Dataset], labels: NDArray[np.integer], classes: Sequence[LabelClass], source: object
) -> Dataset:
    """Return the segmentation that images were drawn from.

    Parameters
    ----------
    study
        What it shares with them.
    images
        Their objects, in the order of slices.
    labels
        (N, H, W) class ids, those left out zero.
    classes
        The foreground classes that it has segments of.
    source
        The label map file it is of: where that is a segmentation, codes of its segments are kept.
    """
    highdicom = require("highdicom", extra="dicom", feature="DICOM")
    codes = _codes(source)
    described = []
    for number, each in enumerate(classes, start=1):
        category, kind = codes.get(each.id, (_TISSUE, _TISSUE))
        segment = highdicom.seg.SegmentDescription(
            number, _long(each.name), _code(category), _code(kind), algorithm_type="MANUAL"
        )
        segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", _NAME
        described.append(segment)
    numbers = np.zeros(256, np.uint8)
    numbers[[each.id for each in classes]] = np.arange(1, len(classes) + 1)
    first = images[0]
    data: Dataset = highdicom.seg.Segmentation(
        source_images=list(images),
        pixel_array=numbers[labels],
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=study.uid("segmentations"),
        series_number=2,
        sop_instance_uid=study.uid("segmentation"),
        instance_number=1,
        manufacturer=_NAME,
        manufacturer_model_name=_NAME,
        software_versions=first.SoftwareVersions,
        device_serial_number=first.get("DeviceSerialNumber", "0"),
        content_label="MASK",
        content_description="What synthetic images were drawn from",
        series_description=f"Segmentation of synthetic images by {_NAME}",
        content_date=NO_DATE,
        content_time=NO_TIME,
        # With both ends there, readers know of all slices between.
        omit_empty_frames=bool(labels[0].any() and labels[-1].any()),
    )
    del data.InstanceCreationDate, data.InstanceCreationTime
    data.ContributingEquipmentSequence = [_equipment(first, "It holds the label maps that synthetic images show.")]
    data.SyntheticData = "YES"
    for item in (*data.DimensionOrganizationSequence, *data.DimensionIndexSequence):
        item.DimensionOrganizationUID = study.uid("dimensions")
    return data


def encode(data: Dataset) -> bytes:
    """Return an object as a file."""
    pydicom = require("pydicom", extra="dicom", feature="DICOM")
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = _EXPLICIT
    meta.ImplementationClassUID = derive_uid("implementation")
    meta.ImplementationVersionName = f"SEGGD-RT {seggd_rt.__version__}"[:16]
    data.file_meta = meta
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def digest(*parts: bytes) -> str:
    """Return a SHA-256 over parts, each told from the next."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big"))
        whole.update(part)
    return whole.hexdigest()


def _has_form(value: str, kind: str) -> bool:
    if kind not in ("DA", "TM"):
        return re.fullmatch(_FORMS[kind], value) is not None
    try:
        datetime.strptime(value.partition(".")[0], "%Y%m%d" if kind == "DA" else "%H%M%S")
    except ValueError:
        return False
    return re.fullmatch(r"\d{8}" if kind == "DA" else r"\d{6}(\.\d{1,6})?", value) is not None


def _describe_study(data: Dataset, study: Study) -> None:
    data.SpecificCharacterSet = "ISO_IR 192"
    made_up = {
        "PatientName": "SYNTHETIC^SEGGD-RT",
        "PatientID": f"SYNTHETIC-{study.identity[:24]}",
        "StudyInstanceUID": study.uid("study"),
        "StudyDescription": "Synthetic images, of no patient",
    }
    empty = dict.fromkeys(
        ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
         "AccessionNumber", "ReferringPhysicianName"), ""
    )  # fmt: skip
    stated = {"StudyInstanceUID": study.uid("study"), **study.patient} if study.patient else made_up
    for keyword, value in {**empty, **stated}.items():
        setattr(data, keyword, value)


def _describe_kind(data: Dataset, kind: str) -> None:
    """Set what the object's class asks for and a drawn image has none of, as empty as it may be."""
    if kind not in _CLASSES:
        data.ConversionType = "SYN"
        return
    data.PatientPosition = ""
    if kind == "CT":
        data.KVP, data.AcquisitionNumber = None, None
    else:
        data.ScanningSequence, data.SequenceVariant = "RM", "NONE"  # research mode
        for keyword in ("ScanOptions", "MRAcquisitionType"):
            setattr(data, keyword, "")
        for keyword in ("EchoTime", "EchoTrainLength", "RepetitionTime"):
            setattr(data, keyword, None)


def _describe_place(data: Dataset, study: Study, index: int) -> None:
    affine = study.affine
    column, row, step = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    across, down = float(np.linalg.norm(column)), float(np.linalg.norm(row))
    normal = np.cross(column / across, row / down)
    position = affine[:3, 3] + index * step
    step_mm = abs(float(step @ normal))
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = study.frame_of_reference, ""
    data.ImagePositionPatient = _decimals(position)
    data.ImageOrientationPatient = _decimals([*(column / across), *(row / down)])
    data.PixelSpacing = _decimals([down, across])
    data.SliceThickness, data.SpacingBetweenSlices, data.SliceLocation = _decimals(
        [step_mm, step_mm, position @ normal]
    )
    data.PatientOrientation = ""


def _describe_pixels(data: Dataset, study: Study, pixels: NDArray[np.integer]) -> None:
    scale = Scale.of(study.manifest)
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = int(scale.signed)
    data.LossyImageCompression = "00"
    if data.Modality == "CT" or (scale.slope, scale.intercept) != (1, 0):
        data.RescaleSlope, data.RescaleIntercept = map(_decimal, (scale.slope, scale.intercept))
        data.RescaleType = scale.unit
    data.WindowCenter = _decimal((scale.black + scale.white) / 2)
    data.WindowWidth = _decimal(scale.white - scale.black)
    data.VOILUTFunction = "LINEAR_EXACT"
    data.PixelData = pixels.tobytes()


def _equipment(made_by: Dataset, about: str) -> Dataset:
    """Return the item that says what drew an image: what the object states as its equipment."""
    highdicom = require("highdicom", extra="dicom", feature="DICOM")
    codes = require("pydicom.sr.codedict", extra="dicom", feature="DICOM").codes
    item: Dataset = highdicom.ContributingEquipment(
        made_by.Manufacturer,
        codes.DCM.SynthesizingEquipment,
        manufacturer_model_name=made_by.ManufacturerModelName,
        software_versions=made_by.SoftwareVersions,
        device_serial_number=made_by.get("DeviceSerialNumber"),
        contribution_description=about,
    )
    return item


_Code = tuple[str, str, str]
_TISSUE: _Code = ("85756007", "SCT", "Tissue")
"""Of a class whose code is not known: its label says what it is."""


def _codes(source: object) -> dict[int, tuple[_Code, _Code]]:
    """Return category and type of each class that is one segment of the source, where it states them well."""
    if not isinstance(source, DicomSegmentation):
        return {}
    header = read_header(source.path)
    stated = dict[int, tuple[_Code, _Code]]()
    with damage(source.path):
        for item in header.SegmentSequence:
            category, kind = (
                _stated_code(item.get(f"SegmentedProperty{name}CodeSequence")) for name in ("Category", "Type")
            )
            if category is not None and kind is not None:
                stated[int(item.SegmentNumber)] = (category, kind)
    return {
        class_id: stated[numbers[0]]
        for class_id, numbers in source.segments.items()
        if len(numbers) == 1 and numbers[0] in stated
    }


def _stated_code(items: Any) -> _Code | None:
    if not items:
        return None
    value, scheme, meaning = (
        text(items[0].get(name)) for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    )
    whole = 0 < len(value) <= 16 and 0 < len(scheme) <= 16 and 0 < len(meaning) <= _TEXT
    return (value, scheme, meaning) if whole else None


def _code(code: _Code) -> Any:
    return require("pydicom.sr.coding", extra="dicom", feature="DICOM").Code(*code)


def _long(name: str) -> str:
    """Return a name as a Long String, in which a backslash would part two."""
    return name.replace("\\", "/")[:_TEXT].strip()


def _decimals(numbers: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Return millimetres, or cosines, as Decimal Strings."""
    return [_decimal(round(float(number), _DIGITS) + 0.0) for number in numbers]  # -0 becomes 0


def _decimal(number: float) -> str:
    """Return a number as a Decimal String, as exact as 16 characters are."""
    valuerep = require("pydicom.valuerep", extra="dicom", feature="DICOM")
    text: str = valuerep.format_number_as_ds(float(number))
    return text
