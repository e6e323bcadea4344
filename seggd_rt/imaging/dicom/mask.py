"""The segmentation of DICOM that images were drawn from."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Manifest
from seggd_rt.diffusion import LabelClass
from seggd_rt.imaging.dicom.file import damage, read_header
from seggd_rt.imaging.dicom.segmentation import DicomSegmentation
from seggd_rt.imaging.dicom.study import MAKER, Study, equipment, has_form
from seggd_rt.optional import require

if TYPE_CHECKING:
    from pydicom import Dataset

NO_DATE, NO_TIME = "19000101", "000000"
"""When its content was made: it must say so (type 1), and nothing here depends on when."""
_TEXT = 64
_Code = tuple[str, str, str]
Codes = dict[int, tuple[_Code, _Code]]
"""Category and type of classes, by id."""
_LOOKED_UP = 1024
"""Codes whose meanings are remembered."""
_CATEGORIES = {
    ("123037004", "SCT"): "Anatomical Structure",
    ("91723000", "SCT"): "Anatomical Structure",
    ("49755003", "SCT"): "Morphologically Abnormal Structure",
    ("85756007", "SCT"): "Tissue",
    ("T-D0050", "SRT"): "Tissue",
    ("T-D000A", "SRT"): "Anatomical Structure",
    ("M-01000", "SRT"): "Morphologically Altered Structure",
}
"""Code values and schemes of a segment's category, and what DICOM PS3.16 says they mean."""
_PUBLIC = {"SCT": r"\d+", "FMA": r"\d+", "DCM": r"\d+", "SRT": r"[A-Z]\d?-[0-9A-F]+"}
"""Schemes of codes, and the form of their codes: what else is in a file's code may be anybody's."""
_NEVER = r"(?!)"
_TISSUE: _Code = ("85756007", "SCT", "Tissue")
"""Of a class whose code is not known: its label says what it is."""


def segmentation(
    study: Study, images: Sequence[Dataset], labels: NDArray[np.integer], classes: Sequence[LabelClass], known: Codes
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
    known
        Codes of the source's segments: see `codes`.
    """
    highdicom = require("highdicom", extra="dicom", feature="DICOM")
    described = []
    for number, each in enumerate(classes, start=1):
        category, kind = known.get(each.id, (_TISSUE, _TISSUE))
        segment = highdicom.seg.SegmentDescription(
            number, _long(each.name), _code(category), _code(kind), algorithm_type="MANUAL"
        )
        segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", MAKER
        described.append(segment)
    numbers = np.zeros(256, np.uint8)
    numbers[[each.id for each in classes]] = np.arange(1, len(classes) + 1)
    first = images[0]
    name, first.PatientName = first.PatientName, ""  # highdicom would warn, with the name, of one without a caret
    data: Dataset = highdicom.seg.Segmentation(
        source_images=list(images),
        pixel_array=numbers[labels],
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=study.uid("segmentations"),
        series_number=2,
        sop_instance_uid=study.uid("segmentation"),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=first.SoftwareVersions,
        device_serial_number=first.get("DeviceSerialNumber", "0"),
        content_label="MASK",
        content_description="What synthetic images were drawn from",
        series_description=f"Segmentation of synthetic images by {MAKER}",
        content_date=NO_DATE,
        content_time=NO_TIME,
        # With both ends there, readers know of all slices between.
        omit_empty_frames=bool(labels[0].any() and labels[-1].any()),
    )
    del data.InstanceCreationDate, data.InstanceCreationTime
    data.ContributingEquipmentSequence = [equipment(first, "It holds the label maps that synthetic images show.")]
    data.SyntheticData, data.PatientName, first.PatientName = "YES", name, name
    for item in (*data.DimensionOrganizationSequence, *data.DimensionIndexSequence):
        item.DimensionOrganizationUID = study.uid("dimensions")
    return data


def codes(source: object, manifest: Manifest, *, as_stated: bool) -> Codes:
    """Return category and type of each class that is one segment of the source, where it states them well.

    Unless they are to be `as_stated`, a code is left out if its meaning, which is free text, could name a patient: the
    category must be one that is known here. The type must be in DICOM's dictionary, or mean what the bundle calls one
    of its classes or segments.
    """
    if not isinstance(source, DicomSegmentation):
        return {}
    header = read_header(source.path)
    own = {} if manifest.dicom is None else manifest.dicom.segments
    names = {name.casefold() for name in (*(each.name for each in manifest.classes), *own)}
    stated = dict[int, tuple[_Code, _Code]]()
    with damage(source.path):
        for item in header.SegmentSequence:
            category, kind = (
                _stated_code(item.get(f"SegmentedProperty{name}CodeSequence")) for name in ("Category", "Type")
            )
            if not (as_stated or category is None or kind is None):
                meaning = _CATEGORIES.get(category[:2])
                category = None if meaning is None else (*category[:2], meaning)
                kind = _public(kind, names)
            if category is not None and kind is not None:
                stated[int(item.SegmentNumber)] = (category, kind)
    return {
        class_id: stated[numbers[0]]
        for class_id, numbers in source.segments.items()
        if len(numbers) == 1 and numbers[0] in stated
    }


def _public(code: _Code, names: Set[str]) -> _Code | None:
    """Return a type's code with its meaning if that cannot name a patient, else None.

    The meaning of a code that DICOM's dictionary has is one of the dictionary's. Of others it must be one of `names`.
    """
    value, scheme, meaning = code
    if re.fullmatch(_PUBLIC.get(scheme, _NEVER), value) is None:
        return None
    listed = _meanings(value, scheme)
    if meaning.casefold() in (set(map(str.casefold, listed)) if listed else names):
        return code
    return (value, scheme, listed[0]) if listed else None


@lru_cache(_LOOKED_UP)
def _meanings(value: str, scheme: str) -> tuple[str, ...]:
    """Return the meanings that DICOM's dictionary lists for a code of a public scheme."""
    category = _CATEGORIES.get((value, scheme))
    dictionary = require("pydicom.sr.codedict", extra="dicom", feature="DICOM").codes
    wanted = _code((value, scheme, ""))
    listed = getattr(dictionary, "SCT" if scheme == "SRT" else scheme).concepts.values()  # SRT is the older SCT
    found = [str(each.meaning) for each in listed if each == wanted]
    return tuple(found if category is None else [category, *found])


def _stated_code(items: Any) -> _Code | None:
    if not items:
        return None
    value, scheme, meaning = (
        str(items[0].get(name) or "").strip() for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    )
    is_valid = has_form(value, "SH") and has_form(scheme, "SH") and has_form(meaning, "LO")
    return (value, scheme, meaning) if is_valid else None


def _code(code: _Code) -> Any:
    return require("pydicom.sr.coding", extra="dicom", feature="DICOM").Code(*code)


def _long(name: str) -> str:
    """Return a name as a Long String, in which a backslash would part two."""
    return name.replace("\\", "/")[:_TEXT].strip()
