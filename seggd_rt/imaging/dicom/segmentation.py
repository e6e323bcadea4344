"""DICOM segmentations in: segments become classes, frames the slices of one volume, absent ones empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.imaging.contract import MAX_VOXELS, Reading
from seggd_rt.imaging.dicom.file import damage, open_pixels, read_frames, text
from seggd_rt.imaging.dicom.segments import Segment, match_segments
from seggd_rt.imaging.dicom.slices import Volume, check_axis, stack
from seggd_rt.imaging.file_stamp import Stamp
from seggd_rt.imaging.geometry import Geometry, Plane

if TYPE_CHECKING:
    from pydicom import Dataset

_KEPT = 2
"""Segmentations kept in memory between two reads of their slices."""
_NONE = 0
"""The number that is no segment."""


@dataclass(frozen=True)
class _Contents:
    """What a segmentation's volume is made of.

    Attributes
    ----------
    frames
        Of every frame, the index of its slice in the order that they are shown in, and its segment's number.
    segments
        Numbers of segments, their labels, and the ids of the classes they are.
    numbered
        Whether pixels hold the numbers of segments, frames being of none.
    threshold
        Else the least stored value of a pixel that belongs to its frame's segment.
    largest
        The stored value that is the fraction 1; None where pixels hold no fractions.
    """

    path: Path
    stamp: Stamp
    shape: tuple[int, int, int]
    frames: tuple[tuple[int, int], ...]
    segments: tuple[tuple[int, str, int], ...]
    numbered: bool
    threshold: float
    largest: int | None


@dataclass(frozen=True)
class DicomSegmentation:
    """A segmentation as slices that are shown, (H, W) uint8 of class ids."""

    path: Path
    geometry: Geometry | None
    _contents: _Contents
    named: tuple[Segment, ...]
    physical: bool = True

    @property
    def stacked(self) -> bool:
        """Whether it has several slices."""
        return len(self) > 1

    def __len__(self) -> int:
        """Return how many slices it has, empty ones among them."""
        return self._contents.shape[0]

    @property
    def example(self) -> Path:
        """A file of it, whose patient and study are all's."""
        return self.path

    @property
    def segments(self) -> dict[int, list[int]]:
        """Numbers of the segments that are each class."""
        found = dict[int, list[int]]()
        for number, _, class_id in self._contents.segments:
            found.setdefault(class_id, []).append(number)
        return found

    def read(self, index: int) -> NDArray[Any]:
        """Return one slice: see `LabelMapFile.read`."""
        self._contents.stamp.check(self.path)
        label_map: NDArray[Any] = _load(self._contents)[index]
        stored = None if self.geometry is None else self.geometry.stored
        return (label_map if stored is None else stored.cut.show(label_map)).copy()


def open_segmentation(path: Path, reading: Reading, *, region: bool = False) -> DicomSegmentation:
    """Open a segmentation by its header, its segments as classes, or all as one region: see `Reader`."""
    stamp = Stamp.of(path)
    header, (count, rows, columns) = open_pixels(path)
    with damage(path):
        if "TotalPixelMatrixRows" in header:
            raise DataError(f"{path} is a segmentation of tiles, as of a microscope's slide, which is not read")
        kind = str(header.get("SegmentationType", ""))
        segments = [_segment(item) for item in header.SegmentSequence]
        _check_numbers(path, [segment.number for segment in segments])
        frames = list(header.get("PerFrameFunctionalGroupsSequence") or ())
        shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
        if len(frames) != count:
            raise DataError(f"{path} states {count} frames and describes {len(frames)}: export it again")
        numbers = [_NONE if kind == "LABELMAP" else _number(frame, shared) for frame in frames]
        largest = _largest(path, header) if kind == "FRACTIONAL" else None
        threshold = _threshold(path, kind, largest, reading.threshold)
        volume = _place(path, [(frame, shared) for frame in frames])
        frame_of_reference = text(header.get("FrameOfReferenceUID")) or None
    if volume.count * rows * columns > MAX_VOXELS:
        raise DataError(
            f"{path} spans {volume.count} slices of {rows}x{columns}: a volume may have {MAX_VOXELS} voxels"
        )
    places, geometry = volume.places, None
    if volume.planes:
        places, geometry = volume.shown(path, (rows, columns), reading.axis, frame_of_reference)
    else:
        check_axis(path, reading.axis, None)
    listed = [segment for segment in segments if segment.number != _NONE]  # some describe their background
    ids = {s.number: 1 for s in listed} if region else match_segments(listed, reading, str(path))
    contents = _Contents(
        path,
        stamp,
        (volume.count, rows, columns),
        tuple(zip(places, numbers, strict=True)),
        tuple((segment.number, segment.label, ids[segment.number]) for segment in listed),
        kind == "LABELMAP",
        threshold,
        largest,
    )
    _check_frames(contents)
    return DicomSegmentation(path, geometry, contents, tuple(listed))


def _segment(item: Dataset) -> Segment:
    code = (item.get("SegmentedPropertyTypeCodeSequence") or [{}])[0]
    return Segment(int(item.SegmentNumber), text(item.get("SegmentLabel")), text(code.get("CodeMeaning")))


def _group(frame: Dataset, shared: Dataset | None, name: str) -> Dataset | None:
    """Return an item of a functional group, which is of the frame or shared by all."""
    for groups in (frame, shared):
        found = None if groups is None else groups.get(name)
        if found:
            item: Dataset = found[0]
            return item
    return None


def _number(frame: Dataset, shared: Dataset | None) -> int:
    item = _group(frame, shared, "SegmentIdentificationSequence")
    return _NONE if item is None else int(item.ReferencedSegmentNumber)


def _check_numbers(path: Path, numbers: Sequence[int]) -> None:
    """Refuse two segments of one number: frames would be of the last one."""
    ((number, count),) = Counter(numbers).most_common(1) or [(0, 0)]
    if count > 1:
        raise DataError(f"{path} describes several segments with one number ({number}): export it again")


def _largest(path: Path, header: Dataset) -> int:
    """Return the stored value that is the fraction 1."""
    stated, bits = header.get("MaximumFractionalValue"), int(header.BitsAllocated)
    if not stated or not 0 < int(stated) < 1 << bits:
        raise DataError(
            f"{path} does not state which of its {bits}-bit values is the fraction 1 (MaximumFractionalValue "
            f"{'missing' if stated is None else text(stated) or 0}): export it again"
        )
    return int(stated)


def _threshold(path: Path, kind: str, largest: int | None, asked: float | None) -> float:
    """Return the least stored value of a pixel that belongs to its segment."""
    if kind in ("BINARY", "LABELMAP"):
        return 1
    if largest is None:
        raise DataError(f"{path} is a segmentation of the type '{text(kind)}': give BINARY, LABELMAP or FRACTIONAL")
    if asked is None:
        raise LabelMapError(
            f"{path} holds how likely pixels belong to a segment, or how much of them: say from which share on they do "
            "with --threshold, as in 0.5"
        )
    if not 0 < asked <= 1:
        raise OptionError(f"the threshold of fractions is {asked:g}; it must lie in (0, 1]")
    return asked * largest


def _place(path: Path, frames: list[tuple[Dataset, Dataset | None]]) -> Volume:
    """Return which slice each frame is of, and where slices lie."""
    planes, thickness, step = [], 1.0, None
    for frame, shared in frames:
        position, orientation, measures = (
            _group(frame, shared, f"{name}Sequence") for name in ("PlanePosition", "PlaneOrientation", "PixelMeasures")
        )
        if measures is not None:
            step = abs(float(measures.get("SpacingBetweenSlices") or 0)) or None
            thickness = step or abs(float(measures.get("SliceThickness") or 0)) or 1.0
        if position is None or orientation is None or measures is None:
            continue
        planes.append(
            Plane(
                tuple(map(float, position.ImagePositionPatient)),
                tuple(map(float, orientation.ImageOrientationPatient)),
                tuple(map(float, measures.PixelSpacing)),
            )
        )
    if len(planes) == len(frames):
        return stack(path, planes, thickness_mm=thickness, step_mm=step, sparse=True)
    if planes:
        raise DataError(f"{path} states where some frames lie, and of others not: export it again")
    return Volume((0,) * len(frames), 1, np.eye(4), ())  # a picture's


def _check_frames(contents: _Contents) -> None:
    """Refuse frames of no segment, and two of one segment at one place."""
    path, known = contents.path, {number for number, _, _ in contents.segments}
    for _, number in contents.frames:
        if number not in known and not contents.numbered:
            raise DataError(f"{path} has a frame of segment {number}, which it does not describe: export it again")
    if len(set(contents.frames)) != len(contents.frames):
        raise DataError(f"{path} has two frames of one segment at one place: its slices cannot be told apart")


@lru_cache(_KEPT)
def _load(contents: _Contents) -> NDArray[np.integer]:
    """Return a segmentation's volume of class ids, (slice, row, column)."""
    largest = max((class_id for _, _, class_id in contents.segments), default=0)
    volume: NDArray[np.integer] = np.zeros(contents.shape, np.min_scalar_type(largest))
    classes = {number: class_id for number, _, class_id in contents.segments}
    frames = read_frames(contents.path, range(len(contents.frames)))
    for (place, number), pixels in zip(contents.frames, frames, strict=True):
        if pixels.shape != contents.shape[1:]:
            raise DataError(f"{contents.path} is not as it was opened: start again")
        if contents.numbered:
            volume[place] = _classes_of(contents, pixels, classes)
        elif contents.largest is not None and pixels.max() > contents.largest:
            raise DataError(
                f"{contents.path} has fractions greater than 1 ({pixels.max()} of {contents.largest}): export it again"
            )
        elif classes[number]:
            _put(contents, volume[place], number, pixels >= contents.threshold)
    return volume


def _classes_of(contents: _Contents, pixels: NDArray[Any], classes: Mapping[int, int]) -> NDArray[np.integer]:
    """Return the classes of pixels that hold the numbers of segments."""
    table = np.full(int(pixels.max()) + 1, -1, np.int32)
    table[_NONE] = 0
    for number, class_id in classes.items():
        if number < len(table):
            table[number] = class_id
    found: NDArray[np.integer] = table[pixels]
    if found.min() < 0:
        unknown = int(pixels[found < 0].min())
        raise DataError(f"{contents.path} has pixels of segment {unknown}, which it does not describe: export it again")
    return found


def _put(contents: _Contents, label_map: NDArray[np.integer], number: int, inside: NDArray[np.bool_]) -> None:
    """Put a segment into a slice where nothing of another class is."""
    classes = {at: (label, class_id) for at, label, class_id in contents.segments}
    label, class_id = classes[number]
    taken = label_map[inside]
    others = taken[(taken != 0) & (taken != class_id)]
    if len(others):
        other = next(name for name, an_id in classes.values() if an_id == others[0])
        raise LabelMapError(
            f"{contents.path}: segments '{other}' and '{label}' overlap, and a pixel has one class: leave one out with "
            f'--map "{label}=background", or map both to one class'
        )
    label_map[inside] = class_id
