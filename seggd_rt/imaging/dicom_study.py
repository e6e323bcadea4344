"""What objects of DICOM that are written together share: their UIDs, whose they are, and what made them.

Nothing in them depends on when they are made, so a run that is started again gives the same bytes: UIDs come from what
is written, and dates of a study are empty, as type 2 allows.
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Iterator, Mapping, MutableSequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seggd_rt.imaging.contract import StatedFile
from seggd_rt.imaging.dicom_file import damage, read_header, text
from seggd_rt.imaging.geometry import Plane
from seggd_rt.manifest import Manifest
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
"""What `keep_patient` copies of the source where it is of its type's form, and of which type it is."""
_FORMS = {
    "CS": "[MFO]", "AS": r"\d{3}[DWMY]", "DS": r"\d{1,8}(\.\d{1,6})?", "SH": r"[^\\]{1,16}", "LO": r"[^\\]{1,64}",
    "PN": r"[^\\=]{1,64}(=[^\\=]{0,64}){0,2}", "UI": r"(?=.{1,64}$)(0|[1-9]\d*)(\.(0|[1-9]\d*))+",
    "DA": r"\d{8}", "TM": r"(\d\d){1,3}|\d{6}\.\d{1,6}",
}  # fmt: skip
_PATIENT = 0x0010
"""The group of DICOM's attributes of a patient."""
_ABOUT = ("SyntheticData", "FrameOfReferenceUID")
_PLACE = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "Rows", "Columns",
)  # fmt: skip
_GROUPS = (
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PlanePositionSequence",
    "PlaneOrientationSequence", "PixelMeasuresSequence",
)  # fmt: skip
_ANYTHING = re.compile("(?!)")
_FORM_OF = {
    "PatientID": re.compile(r"^SYNTHETIC-[0-9a-f]{24}$"),
    "StudyInstanceUID": re.compile(r"^2\.25\.\d{1,39}$"),
}
"""Forms of what is made up from the pixels, which engines round differently."""
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


def kept_patient(path: Path) -> dict[str, str]:
    """Return what a file says of its patient and study, by DICOM's keywords.

    Raises
    ------
    DataError
        It cannot be read.
    """
    header = read_header(path)
    with damage(path):
        stated = {keyword: header.get(keyword) for keyword in KEPT}
        found = {keyword: text(value) for keyword, value in stated.items() if not isinstance(value, MutableSequence)}
    return {keyword: value for keyword, value in found.items() if _has_form(value, KEPT[keyword])}


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
    stated = {"StudyInstanceUID": study.uid("study"), **study.patient} if study.patient else made_up
    for keyword, value in {**empty, **stated}.items():
        setattr(data, keyword, value)


def stated(path: Path, header: Dataset) -> StatedFile:
    """Return what an object states of being synthetic, its patient and study, and its place.

    The ID of a made-up patient and study depends on the pixels, so only "made up" is stated of it.

    Raises
    ------
    DataError
        The header is damaged.
    """
    with damage(path):
        elements = {element.keyword or str(element.tag): element for element in header if element.tag.group == _PATIENT}
        elements |= {keyword: header[keyword] for keyword in (*_ABOUT, *KEPT) if keyword in header}
        texts = {name: str(element.value) for name, element in elements.items()}
        numbers = {
            keyword: tuple(float(number) for value in _walk(header, keyword) for number in _listed(value))
            for keyword in _PLACE
        }
    texts = {name: _FORM_OF.get(name, _ANYTHING).sub("made up", text) for name, text in texts.items()}
    return StatedFile(path.name, texts, numbers)


def _walk(data: Dataset, keyword: str) -> Iterator[Any]:
    """Yield the values of an attribute, in a data set and in its functional groups."""
    if data.get(keyword) is not None:
        yield data[keyword].value
    for sequence in _GROUPS:
        for item in data.get(sequence) or ():
            yield from _walk(item, keyword)


def _listed(value: Any) -> MutableSequence[Any]:
    return value if isinstance(value, MutableSequence) else [value]


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


def _has_form(value: str, kind: str) -> bool:
    """Say whether a text is a value of a type, and of dates and times one that there is."""
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
