"""What objects of DICOM that are written together share: their UIDs, whose they are, and what made them.

Nothing in them depends on when they are made, so a run that is started again gives the same bytes: UIDs come from what
is written, and dates of a study are empty, as type 2 allows.
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from seggd_rt.bundle import Manifest
from seggd_rt.errors import DataError
from seggd_rt.imaging.dicom.file import damage, read_header
from seggd_rt.imaging.geometry import Plane
from seggd_rt.optional import require
from seggd_rt.version import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

MAKER = "seggd-rt"
KEPT = {
    "PatientName": "PN", "PatientID": "LO", "IssuerOfPatientID": "LO", "PatientBirthDate": "DA", "PatientSex": "CS",
    "PatientAge": "AS", "PatientSize": "DS", "PatientWeight": "DS", "StudyInstanceUID": "UI", "StudyDate": "DA",
    "StudyTime": "TM", "StudyID": "SH", "AccessionNumber": "SH", "ReferringPhysicianName": "PN",
    "StudyDescription": "LO",
}  # fmt: skip
"""What `keep_patient` copies of the source, and of which type it is."""
_OWNER = ("PatientName", "PatientID", "StudyInstanceUID")
"""What is copied as it is, or not at all: it says whose images are, and to which study they belong."""
_TEXT = r"[^\\\x00-\x1f\x7f-\x9f\ufffd]"
"""No control characters, no backslash, which parts values, and none that stands for bytes that were not decoded."""
_PART = _TEXT.replace("^", "^=")
_FORMS = {
    "CS": "[MFO]", "AS": "[0-9]{3}[DWMY]", "DS": r"[0-9]{1,8}(\.[0-9]{1,6})?", "SH": _TEXT + "{1,16}",
    "LO": _TEXT + "{1,64}", "PN": f"{_PART}{{0,64}}(={_PART}{{0,64}}){{0,2}}",
    "UI": r"(?=.{1,64}$)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+",
    "DA": "[0-9]{8}", "TM": r"([0-9]{2}){1,3}|[0-9]{6}\.[0-9]{1,6}",
}  # fmt: skip
_EXPLICIT = "1.2.840.10008.1.2.1"
_SPACE = uuid.UUID("5f0f9c0a-6d0e-4b43-9d64-3f6d1d6f1a5b")


@dataclass(frozen=True)
class Study:
    """What the objects of one volume share.

    Attributes
    ----------
    manifest
        Of the bundle.
    planes
        Where each slice lies.
    step_mm
        From a slice to the next, across them.
    frame_of_reference
        UID of the axes that it leads to.
    identity
        Digest of all that is written: what UIDs come from.
    patient
        What is kept of the source's patient and study; nothing where they are made up.
    marked
        Whether images say in a corner that they are synthetic.
    mixed
        Whether they were drawn from a real image, of which they may show parts.
    """

    manifest: Manifest
    planes: tuple[Plane, ...]
    step_mm: float
    frame_of_reference: str
    identity: str
    patient: Mapping[str, str] = field(default_factory=dict)
    marked: bool = False
    mixed: bool = False

    def uid(self, part: str) -> str:
        """Return the UID of a part: the same for the same volume."""
        return derive_uid(self.identity, part)


def derive_uid(*parts: str) -> str:
    """Return a UID, made of a UUID that these texts give."""
    return f"2.25.{uuid.uuid5(_SPACE, '/'.join(parts)).int}"


def kept_patient(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what a file states of its patient and study, and the names of elements that are left out.

    An element is left out where its value is not of its type's form. Both are by DICOM's keywords.

    Raises
    ------
    DataError
        The file cannot be read, or its patient's name, patient ID or Study Instance UID cannot be written as it is.
    """
    header = read_header(path)
    with damage(path):
        stated = {keyword: header.get(keyword) for keyword in KEPT}
        values = {keyword: value for keyword, value in stated.items() if value is not None and str(value)}
        wrong = tuple(
            keyword
            for keyword, value in values.items()
            if isinstance(value, MutableSequence) or not has_form(str(value), KEPT[keyword])
        )
        kept = {keyword: str(value) for keyword, value in values.items() if keyword not in wrong}
    if "StudyInstanceUID" not in values:
        raise DataError(f"{path} states no StudyInstanceUID: add it to the file, or leave --keep-patient out")
    for keyword in _OWNER:
        if keyword in wrong:
            raise DataError(
                f"{path} has a {keyword} that is not valid in DICOM and cannot be kept as it is: correct it in the "
                "file, or leave --keep-patient out"
            )
    return kept, wrong


def modality(manifest: Manifest) -> str:
    """Return a bundle's modality as DICOM's term; OT, other, where it has none."""
    stated = (manifest.modality or "").strip().upper()
    return stated if re.fullmatch("[A-Z0-9_ ]{1,16}", stated) else "OT"


def digest(*parts: bytes) -> str:
    """Return a SHA-256 over parts, each told from the next."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big"))
        whole.update(part)
    return whole.hexdigest()


def describe_study(data: Dataset, study: Study) -> None:
    """State an object's patient and study, in Unicode."""
    data.SpecificCharacterSet = "ISO_IR 192"
    made_up = {
        "PatientName": "SYNTHETIC^SEGGD-RT",
        "PatientID": f"SYNTHETIC-{study.identity[:24]}",
        "StudyInstanceUID": study.uid("study"),
        "StudyDescription": f"Synthetic images, {'in part of a real one' if study.mixed else 'of no patient'}",
    }
    empty = dict.fromkeys(
        ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
         "AccessionNumber", "ReferringPhysicianName"), ""
    )  # fmt: skip
    for keyword, value in {**empty, **(study.patient or made_up)}.items():
        setattr(data, keyword, value)


def equipment(made_by: Dataset, about: str) -> Dataset:
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


def encode(data: Dataset) -> bytes:
    """Return an object as a file."""
    pydicom = require("pydicom", extra="dicom", feature="DICOM")
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = _EXPLICIT
    meta.ImplementationClassUID = derive_uid("implementation")
    meta.ImplementationVersionName = f"SEGGD-RT {__version__}"[:16]
    data.file_meta = meta
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def has_form(value: str, kind: str) -> bool:
    """Return whether a text is a valid value of a type of DICOM; a date or time must exist."""
    if re.fullmatch(_FORMS[kind], value) is None:
        return False
    try:
        if kind == "DA":
            datetime.strptime(value, "%Y%m%d")
        elif kind == "TM":
            datetime.strptime(value.partition(".")[0].ljust(6, "0"), "%H%M%S")
    except ValueError:
        return False
    return True
