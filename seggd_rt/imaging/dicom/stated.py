"""What objects of DICOM state beside their pixels: their whole headers, in a form that two writings share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seggd_rt.imaging.contract import SAME_SHARE, StatedFile
from seggd_rt.imaging.dicom.file import (
    CREATOR,
    GROUP,
    RECORD,
    SEGMENTATIONS,
    damage,
    open_pixels,
    read_after_pixels,
    read_frames,
)

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

_CHARACTERS = "SpecificCharacterSet"
"""An archive may change it when it stores a file in another encoding; texts are compared decoded."""
_PIXELS = "PixelData"
"""Compared as decoded pixels. Pixel data inside a sequence, such as an icon, is a mismatch."""
_PADDING = "DataSetTrailingPadding"
_EXACT = "FrameOfReferenceUID"
"""It comes from the label map alone, and not from the pixels."""
_OF_CODES = re.compile(r"SegmentSequence\[\d+\]\.SegmentedProperty(Category|Type)CodeSequence\[")
"""Codes of segments, which come from a segmentation that is the label map."""
_OF_PATIENT = ("PatientID", "StudyInstanceUID")
_MADE_UP = re.compile(r"SYNTHETIC-[0-9a-f]{24}|2\.25\.\d{1,39}")
"""IDs that are made up from the pixels, which engines round differently."""
_PLACES = ("ImagePositionPatient", "SliceLocation")
_DISTANCES = ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")
_DIRECTIONS = ("ImageOrientationPatient",)


@dataclass
class _Names:
    """Numbers IDs that are made up in the order they are met: files that belong together still show that they do."""

    kept: bool
    _numbers: dict[str, int] = field(default_factory=dict)

    def neutral(self, keyword: str, text: str) -> str:
        if keyword == _EXACT or (self.kept and keyword in _OF_PATIENT) or not _MADE_UP.fullmatch(text):
            return text
        return f"made up {self._numbers.setdefault(text, len(self._numbers))}"


def stated(files: Sequence[tuple[Path, Dataset]], *, kept: bool) -> tuple[StatedFile, ...]:
    """Return what the objects of one volume, or one of them, state.

    An ID that is made up from the pixels is replaced by a number, the same wherever the files repeat it. Elements
    without a value are left out.

    Parameters
    ----------
    files
        Paths and headers, in the order of the volume.
    kept
        Whether the patient and the study are those of the label map, and not made up.

    Raises
    ------
    DataError
        A file is damaged.
    """
    names = _Names(kept)
    return tuple(_stated(path, header, names) for path, header in files)


def _stated(path: Path, header: Dataset, names: _Names) -> StatedFile:
    texts, numbers = dict[str, str](), dict[str, tuple[float, ...]]()
    with damage(path):
        for name, element in (*_walk(header, _own(header)), *_walk(read_after_pixels(path))):
            values = element.value if isinstance(element.value, MutableSequence) else [element.value]
            if all(isinstance(value, Real) for value in values):
                numbers[name] = tuple(float(value) for value in values)
            else:
                texts[name] = "\\".join(names.neutral(element.keyword, _text(value)) for value in values)
    if str(header.get("SOPClassUID", "")) in SEGMENTATIONS:
        texts["PixelData"] = _pixels(path)
    of_mask = frozenset(name for name in texts if name == _EXACT or _OF_CODES.match(name))
    return StatedFile(path.name, texts, numbers, _tolerances(numbers), of_mask)


def _own(header: Dataset) -> tuple[int, ...]:
    """Return the tags of the record of an image's making, which is read by itself."""
    try:
        block = header.private_block(GROUP, CREATOR)
    except KeyError:
        return ()
    return (int(block.get_tag(RECORD)), GROUP << 16 | block.block_start >> 8)


def _walk(data: Dataset, skipped: Sequence[int] = (), within: str = "") -> Iterator[tuple[str, DataElement]]:
    """Yield the elements that have a value, those of sequences too, by names of what they lie in."""
    for element in data:
        name = within + (element.keyword or str(element.tag))
        if element.tag in skipped or _is_free(element) or (element.keyword == _PIXELS and not within):
            continue
        if element.VR == "SQ":
            for index, item in enumerate(element.value):
                yield from _walk(item, (), f"{name}[{index}].")
        elif not element.is_empty and str(element.value):
            yield name, element


def _is_free(element: DataElement) -> bool:
    """Say whether an element is of the encoding alone: character set, a group's length, or padding of zeros."""
    if element.keyword == _PADDING:
        return not bytes(element.value or b"").strip(b"\0")
    is_length = bool(element.tag.element == 0 and element.VR == "UL")
    return is_length or element.keyword == _CHARACTERS


def _text(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value).strip()


def _pixels(path: Path) -> str:
    """Return a digest of a segmentation's pixels, however they are encoded."""
    whole = hashlib.sha256()
    _, (count, _, _) = open_pixels(path)
    for frame in read_frames(path, range(count)):
        whole.update(frame.astype("<u4").tobytes())
    return whole.hexdigest()


def _tolerances(numbers: dict[str, tuple[float, ...]]) -> dict[str, float]:
    """Return how far numbers of a place may differ, so that no pixel moves by more than a share of the smallest."""
    by_keyword = dict[str, list[float]]()
    for name, values in numbers.items():
        by_keyword.setdefault(name.rpartition(".")[2], []).extend(map(abs, values))
    voxel = min((value for name in _DISTANCES for value in by_keyword.get(name, ()) if value), default=0.0)
    pixels = max((value for name in ("Rows", "Columns") for value in by_keyword.get(name, ())), default=1.0) or 1.0
    allowed = {
        **dict.fromkeys(_PLACES, SAME_SHARE * voxel),
        **dict.fromkeys(_DISTANCES, SAME_SHARE * voxel / pixels),
        **dict.fromkeys(_DIRECTIONS, SAME_SHARE / pixels),
    }
    found = {name: allowed.get(name.rpartition(".")[2]) for name in numbers}
    return {name: tolerance for name, tolerance in found.items() if tolerance is not None}
