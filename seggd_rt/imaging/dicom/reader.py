"""DICOM in: label maps and real images of single-frame objects, one or a series; segmentations are `dicom_seg`'s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError, LabelMapError
from seggd_rt.imaging.contract import MAX_VOXELS, PLAIN, Format, LabelMapFile, Reading
from seggd_rt.imaging.dicom.file import (
    CREATOR,
    DIRECTORY,
    GROUP,
    IMAGES,
    RECORD,
    SEGMENTATION,
    SEGMENTATIONS,
    SUFFIX,
    WHITE,
    damage,
    open_pixels,
    read_frames,
    sop_class,
    text,
)
from seggd_rt.imaging.dicom.segmentation import open_segmentation
from seggd_rt.imaging.dicom.slices import check_axis, check_distances, stack
from seggd_rt.imaging.file_stamp import Stamp
from seggd_rt.imaging.geometry import Geometry, Plane
from seggd_rt.optional import require

if TYPE_CHECKING:
    from pydicom import Dataset

_OWNERS = ("PatientID", "PatientName", "StudyInstanceUID")
"""What says whose a slice is: the same in all of a series."""
_TAGS = (
    "SOPClassUID", "SeriesInstanceUID", "SeriesDescription", "FrameOfReferenceUID", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "NominalScannedPixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", *_OWNERS, f"{GROUP:04x}0010", f"{GROUP:04x}10{RECORD:02x}",
)  # fmt: skip
_INVERTED = "MONOCHROME1"
_CT = "1.2.840.10008.5.1.4.1.1.2"
_UNSPECIFIED = "US"
"""The rescale type of values without a unit."""
_LABELS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_OTHERS = frozenset({".png", ".npy", ".npz", ".gz", ".nii", ".json", ".jsonl", ".txt", ".csv", ".md", ".xml"})
"""Suffixes of files that no folder is searched in for DICOM: it may have very many of them."""
_LARGEST = 1 << 20
"""Of a label that is kept as it is: it is far outside the classes, and is named in the message that says so."""


@dataclass(frozen=True)
class _Slice:
    """A single-frame file, by its header."""

    path: Path
    stamp: Stamp
    header: Dataset
    size: tuple[int, int]

    @classmethod
    def open(cls, path: Path) -> _Slice:
        stamp = Stamp.of(path)
        header, (frames, rows, columns) = open_pixels(path, _TAGS)
        if frames > 1:
            raise DataError(f"{path} holds {frames} frames: save it as a series of single frames, or as a segmentation")
        return cls(path, stamp, header, (rows, columns))

    @property
    def series(self) -> str:
        return str(self.header.get("SeriesInstanceUID", ""))

    def spacing_mm(self) -> tuple[float, ...] | None:
        with damage(self.path):
            found = self.header.get("PixelSpacing") or self.header.get("NominalScannedPixelSpacing")
            return None if not found or len(found) != 2 else tuple(float(value) for value in found)

    def plane(self) -> Plane | None:
        """Return where it lies; None where it does not say."""
        spacing = self.spacing_mm()
        with damage(self.path):
            position, orientation = (
                self.header.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient")
            )
            if not position or not orientation or spacing is None:
                return None
            if (len(position), len(orientation)) != (3, 6):
                raise DataError(f"{self.path} states a position or an orientation that is none: export it again")
            return Plane(tuple(map(float, position)), tuple(map(float, orientation)), spacing)

    def thickness_mm(self) -> float:
        with damage(self.path):
            stated = self.header.get("SpacingBetweenSlices") or self.header.get("SliceThickness")
            return abs(float(stated or 0)) or 1.0

    def labels(self) -> NDArray[Any]:
        """Return its label map, (H, W) integers."""
        values = self._values(self._stored())
        if values.dtype.kind != "f":
            return values
        whole = np.rint(values)
        if not np.array_equal(values, whole):
            raise LabelMapError(f"{self.path} holds fractions; a label map has one class id a pixel: is it an image?")
        label_map: NDArray[np.int32] = whole.clip(-1, _LARGEST).astype(np.int32)
        return label_map

    def image(self) -> NDArray[np.float32]:
        """Return its image, (H, W) float32 in the modality's own units; without any, black lowest."""
        stored = self._stored()
        with damage(self.path):
            # Where values have a unit, such as HU, MONOCHROME1 says how a viewer displays them, not what they mean.
            if self.header.PhotometricInterpretation == _INVERTED and not self._has_unit():
                bits, signed = int(self.header.BitsStored), bool(self.header.PixelRepresentation)
                # The lowest becomes the highest of what is stored; of signed values that is -1 - value.
                stored = (-1 if signed else (1 << bits) - 1) - stored.astype(np.int64)
        values: NDArray[np.float32] = self._values(stored).astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError(f"{self.path} states a rescale slope or intercept that is none: export it again")
        return values

    def has_shares(self) -> bool:
        """Return whether seggd-rt wrote it for a bundle without an intensity range: from 0, black, to WHITE.

        Its record says that seggd-rt wrote it, and its window, which is the bundle's range, that there was none.
        """
        header = self.header
        with damage(self.path):
            try:
                header.private_block(GROUP, CREATOR)[RECORD]
            except KeyError:
                return False
            window = (header.get("WindowCenter"), header.get("WindowWidth"))
            scale = (header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0))
            kind = (header.PhotometricInterpretation, int(header.BitsStored), int(header.PixelRepresentation))
            is_plain = (window, scale, kind) == ((WHITE / 2, WHITE), (1, 0), ("MONOCHROME2", 16, 0))
            return is_plain and header.get("RescaleType", _UNSPECIFIED) == _UNSPECIFIED

    def shares(self) -> NDArray[Any]:
        """Return its image, (H, W) uint16, as it is stored: see `has_shares`."""
        return self._stored()

    def _has_unit(self) -> bool:
        """Return whether values have a unit, so that MONOCHROME1 says only how they are displayed.

        A rescale gives one, also with slope 1 and intercept 0, as in CT. X-ray images (DX) must state that rescale too,
        but with the type US, unspecified: they have no unit.
        """
        header = self.header
        if header.get("SOPClassUID") == _CT or header.get("ModalityLUTSequence"):
            return True
        scale = (header.get("RescaleSlope"), header.get("RescaleIntercept"))
        if all(value is None or float(value) == same for value, same in zip(scale, (1, 0), strict=True)):
            return scale != (None, None) and header.get("RescaleType") != _UNSPECIFIED
        return True

    def _stored(self) -> NDArray[Any]:
        self.stamp.check(self.path)
        (pixels,) = read_frames(self.path, [0])
        if pixels.shape != self.size:
            raise DataError(f"{self.path} is not as it was opened: start again")
        return pixels

    def _values(self, stored: NDArray[Any]) -> NDArray[Any]:
        processing = require("pydicom.pixels.processing", extra="dicom", feature="DICOM")
        with damage(self.path):
            values: NDArray[Any] = processing.apply_modality_lut(stored, self.header)
        return values


@dataclass(frozen=True)
class DicomSlices:
    """Single-frame objects as slices that are shown: label maps, (H, W) integers, or real images.

    Real images are (H, W) float32 in the modality's units; where `physical` is False, uint16: see `RealFile.physical`.
    """

    path: Path
    geometry: Geometry | None
    slices: tuple[_Slice, ...]
    _labels: bool
    physical: bool = True

    @property
    def stacked(self) -> bool:
        """Whether there are several slices."""
        return len(self) > 1

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.slices)

    @property
    def example(self) -> Path:
        """A file of it, whose patient and study are all's."""
        return self.slices[0].path

    def read(self, index: int) -> NDArray[Any]:
        """Return one slice: see `LabelMapFile.read` and `RealFile.read`."""
        one = self.slices[index]
        pixels = one.labels() if self._labels else one.image() if self.physical else one.shares()
        stored = None if self.geometry is None else self.geometry.stored
        return pixels if stored is None else np.ascontiguousarray(stored.cut.show(pixels))


class DicomReader:
    """Reads label maps and real images from DICOM: a file, or a folder with one series of single frames."""

    format = Format.DICOM
    suffixes: tuple[str, ...] = (SUFFIX,)

    def owns(self, folder: Path) -> bool:
        """Whether a folder has an image of DICOM in it: see `Reader.owns`."""
        return any(kind not in SEGMENTATIONS for _, kind in members(folder))

    def open(self, path: Path, reading: Reading = PLAIN) -> LabelMapFile:
        """Open a segmentation, a slice of class ids, or a series of them: see `Reader.open`."""
        if path.is_dir():
            path = path if path.name else path.resolve()  # images are named after it
            segmentations = [file for file, kind in members(path) if kind in SEGMENTATIONS]
            if segmentations:
                raise DataError(
                    f"{path} holds images and a segmentation: give the segmentation as label map "
                    f"({segmentations[0].relative_to(path)})"
                )
        elif _kind(path) in SEGMENTATIONS:
            return open_segmentation(path, reading)
        return _open_slices(path, reading, labels=True)

    def open_real(self, path: Path, reading: Reading = PLAIN) -> DicomSlices:
        """Open a real image, or a series of slices, beside which segmentations may lie: see `Reader.open_real`."""
        if not path.is_dir() and _kind(path) in SEGMENTATIONS:
            raise DataError(f"{path} is a segmentation, no image: give the images that it is of")
        return _open_slices(path, reading, labels=False)

    def open_region(self, path: Path, reading: Reading = PLAIN) -> LabelMapFile:
        """Open a segmentation, whose segments are inside, or slices: see `Reader.open_region`."""
        if not path.is_dir() and _kind(path) in SEGMENTATIONS:
            return open_segmentation(path, reading, region=True)
        return self.open(path, reading)


def _kind(path: Path) -> str:
    Stamp.of(path)
    kind = sop_class(path)
    if kind is None:
        raise DataError(f"{path} is not a DICOM file: export it again, or leave it out")
    return kind


def members(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield a folder's DICOM files with their SOP classes, in the order of their names.

    Of a volume that seggd-rt wrote these are the files in its folder of images, then those in its folder of the
    segmentation.
    """
    parts = [folder / IMAGES, folder / SEGMENTATION]
    try:
        folders = parts if all(part.is_dir() for part in parts) else [folder]
        entries = [entry for each in folders for entry in sorted(each.iterdir(), key=lambda entry: entry.name)]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror or error})") from error
    for entry in entries:
        # Files of DICOM may be called anything: what begins as one is one. Others' suffixes are left alone.
        if entry.name.startswith(".") or entry.suffix.lower() in _OTHERS:
            continue
        kind = sop_class(entry)
        if kind is not None and kind != DIRECTORY:
            yield entry, kind
        elif kind is None and entry.is_file() and entry.name.lower().endswith(SUFFIX):
            raise DataError(f"{entry} is not a DICOM file, or not a whole one: copy it again, or remove it")


def _open_slices(path: Path, reading: Reading, *, labels: bool) -> DicomSlices:
    files = [file for file, kind in members(path) if kind not in SEGMENTATIONS] if path.is_dir() else [path]
    slices = [_Slice.open(file) for file in files]
    _check_series(path, slices, labels=labels)
    physical = labels or not all(each.has_shares() for each in slices)
    planes = [each.plane() for each in slices]
    known = [plane for plane in planes if plane is not None]
    if len(known) == len(slices) > 0:
        volume = stack(path, known, thickness_mm=slices[0].thickness_mm())
        frame = text(slices[0].header.get("FrameOfReferenceUID"))
        places, geometry = volume.shown(path, slices[0].size, reading.axis, frame or None)
        slices = [slices[places.index(place)] for place in range(volume.count)]
        return DicomSlices(path, geometry, tuple(slices), labels, physical)
    if len(slices) == 1:
        spacing = slices[0].spacing_mm()
        unplaced = None if spacing is None else _unplaced(path, spacing, slices[0].thickness_mm())
        check_axis(path, reading.axis, None)
        return DicomSlices(path, unplaced, tuple(slices), labels, physical)
    lost = next(each.path.name for each, plane in zip(slices, planes, strict=True) if plane is None)
    raise DataError(f"{path} has slices without a position ({lost}), so their order is unknown: give one slice file")


def _check_series(path: Path, slices: Sequence[_Slice], *, labels: bool) -> None:
    first = slices[0]
    series: dict[str, list[_Slice]] = {}
    for each in slices:
        series.setdefault(each.series, []).append(each)
        with damage(each.path):
            kind = str(each.header.get("PhotometricInterpretation", ""))
        if kind not in (_LABELS if labels else _GREY):
            raise DataError(f"{each.path} is {text(kind) or 'of no stated kind'}, not grey: convert it first")
    if len(series) > 1:
        listed = "; ".join(
            f"{len(some)} of '{text(some[0].header.get('SeriesDescription')) or 'no description'}', as "
            f"{some[0].path.name}"
            for some in series.values()
        )
        raise DataError(f"{path} holds {len(series)} series ({listed}): put each into a folder of its own")
    if any(each.size != first.size for each in slices):
        raise DataError(f"{path} has slices of several sizes: put those of one into a folder")
    if len({str(each.header.get("FrameOfReferenceUID", "")) for each in slices}) > 1:
        raise DataError(f"{path} has slices in several frames of reference: put those of one into a folder")
    for keyword in _OWNERS:
        # No message shows a patient's name or ID.
        with damage(path):
            other = next((each for each in slices if each.header.get(keyword) != first.header.get(keyword)), None)
        if other is not None:
            raise DataError(
                f"{path} has slices of several patients or studies ({keyword} differs in {first.path.name} and "
                f"{other.path.name}): put those of one into a folder"
            )
    if len(slices) * first.size[0] * first.size[1] > MAX_VOXELS:
        raise DataError(f"{path} has {len(slices)} slices of {first.size[0]}x{first.size[1]}: a volume may have "
                        f"{MAX_VOXELS} voxels")  # fmt: skip


def _unplaced(path: Path, spacing_mm: tuple[float, ...], thickness_mm: float) -> Geometry:
    """Return the geometry of a slice that states its spacing, but no place."""
    check_distances(path, *spacing_mm, thickness_mm)
    return Geometry(np.diag([spacing_mm[1], spacing_mm[0], thickness_mm, 1.0]), is_known=False)
