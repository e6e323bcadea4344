"""Slices of DICOM, each with a place of its own, as one volume: in which order, and where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError
from seggd_rt.imaging.geometry import Axis

_SAME_MM = 1e-3
"""Slices nearer to each other than this are at one place."""
_UNEVEN = 0.02
"""How far off its place a slice may be, as a share of the distance between two."""
_SMALLEST_MM, _LARGEST_MM = 1e-6, 1e6
"""Of what pixels, and slices, can be apart, so that nothing computed of it is infinite."""
_FARTHEST_MM = 1e9
_UNIT = 1e-3
"""How far cosines may be from being those of one orientation, and of perpendicular axes."""


@dataclass(frozen=True)
class Plane:
    """Where one slice lies, in DICOM's terms.

    Attributes
    ----------
    position
        x, y, z of the first pixel's centre in mm, LPS: Image Position (Patient).
    orientation
        Directions in which columns and rows are counted, (6,): Image Orientation (Patient).
    spacing_mm
        Distance of two rows, and of two columns: Pixel Spacing.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]

    @property
    def normal(self) -> NDArray[np.float64]:
        """The direction in which slices are counted."""
        return np.cross(self.orientation[:3], self.orientation[3:])


@dataclass(frozen=True)
class Volume:
    """Slices that lie behind each other.

    Attributes
    ----------
    places
        Of every plane, the index of its slice in the order along the normal.
    count
        How many slices there are, those without a plane too.
    affine
        (4, 4) float64 from (column, row, slice, 1): see `Geometry.affine`.
    """

    places: tuple[int, ...]
    count: int
    affine: NDArray[np.float64]


def stack(
    path: Path, planes: Sequence[Plane], *, thickness_mm: float, step_mm: float | None = None, sparse: bool = False
) -> Volume:
    """Order planes along their normal.

    Parameters
    ----------
    path
        What they are of, for errors.
    planes
        At least one, in any order.
    thickness_mm
        Of a slice: how far the next would be where there is one alone.
    step_mm
        The stated distance of two slices, where slices may be missing; None if none is.
    sparse
        Whether slices between two may be missing, and several planes be of one slice.

    Raises
    ------
    DataError
        Planes differ in orientation or spacing, or do not lie behind each other at one distance.
    """
    first = planes[0]
    check_distances(path, *first.spacing_mm, thickness_mm)
    _check_alike(path, planes)
    positions = np.array([plane.position for plane in planes], np.float64)
    along = positions @ first.normal
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    new = steps > _SAME_MM
    if not sparse and not new.all():
        raise DataError(f"{path} has several slices at one place: put one series alone into a folder")
    at = np.concatenate([[0], np.cumsum(new)])  # of each plane in order, the number of its level
    gaps = steps[new]
    levels = along[order][np.concatenate([[True], new])]
    counts = _counts(path, levels, gaps, step_mm) if sparse else np.arange(len(levels))
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.orientation[:3], first.spacing_mm[1])
    affine[:3, 1] = np.multiply(first.orientation[3:], first.spacing_mm[0])
    start, end = positions[order[0]], positions[order[-1]]
    step = (end - start) / counts[-1] if counts[-1] else first.normal * thickness_mm
    affine[:3, 2], affine[:3, 3] = step, start
    off = np.linalg.norm(positions[order] - (start + counts[at][:, None] * step), axis=1)
    if off.max() > max(_UNEVEN * np.linalg.norm(step), _SAME_MM):
        raise _uneven(path, gaps)
    places = np.empty(len(planes), int)
    places[order] = counts[at]
    return Volume(tuple(places.tolist()), int(counts[-1]) + 1, affine)


def check_distances(path: Path, *distances_mm: float) -> None:
    """Raise DataError unless pixels, and slices, can be so far apart."""
    if not all(_SMALLEST_MM <= distance <= _LARGEST_MM for distance in distances_mm):
        listed = ", ".join(f"{distance:g}" for distance in distances_mm)
        raise DataError(f"{path} states that pixels or slices are {listed} mm apart, which cannot be: export it again")


def plane_axis(affine: NDArray[np.float64]) -> Axis:
    """Return which anatomical plane slices are nearest to."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return (Axis.SAGITTAL, Axis.CORONAL, Axis.AXIAL)[int(np.abs(normal).argmax())]


def check_axis(path: Path, asked: Axis | None, affine: NDArray[np.float64] | None) -> None:
    """Raise DataError where slices along another axis than the stored one are asked for."""
    if asked is None or asked is Axis.FIRST or (affine is not None and asked is plane_axis(affine)):
        return
    stored = "slices of no known plane" if affine is None else f"{plane_axis(affine)} slices"
    raise DataError(
        f"{path} holds {stored}, and DICOM is not cut along another axis, {asked}: leave --axis out, or save the "
        "volume as NIfTI"
    )


def _check_alike(path: Path, planes: Sequence[Plane]) -> None:
    first = planes[0]
    numbers = np.array([[*plane.position, *plane.orientation, *plane.spacing_mm] for plane in planes], np.float64)
    if not (np.abs(numbers) <= _FARTHEST_MM).all():  # NaN is not, either
        raise DataError(f"{path} states a position or an orientation that is none: export it again")
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=_UNIT):
        raise DataError(f"{path} states an orientation whose axes are not perpendicular: export it again")
    if not np.allclose(numbers[:, 3:9], first.orientation, rtol=0, atol=_UNIT):
        raise DataError(f"{path} has slices of several orientations: put those of one into a folder")
    if not np.allclose(numbers[:, 9:], first.spacing_mm, rtol=_UNIT, atol=0):
        raise DataError(f"{path} has slices of several pixel spacings: put those of one into a folder")


def _counts(
    path: Path, levels: NDArray[np.float64], gaps: NDArray[np.float64], step_mm: float | None
) -> NDArray[np.int64]:
    """Return the indices of slices at rising levels, of which some between may be missing."""
    if not len(gaps):
        return np.zeros(1, np.int64)
    for step in (step_mm, float(gaps.min())):
        if not step:
            continue
        steps = np.rint(gaps / step)
        even = float((levels[-1] - levels[0]) / max(steps.sum(), 1))
        allowed = max(_UNEVEN * even, _SAME_MM)
        if (steps >= 1).all() and abs(even - step) <= allowed and np.abs(gaps - steps * even).max() <= allowed:
            return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    raise _uneven(path, gaps)


def _uneven(path: Path, gaps: NDArray[np.float64]) -> DataError:
    usual, widest = float(np.median(gaps)), int(gaps.argmax())
    if gaps[widest] > 1.5 * usual:
        return DataError(
            f"{path} has slices missing: slices {widest} and {widest + 1} are {gaps[widest]:.4g} mm apart, others "
            f"{usual:.4g} mm: copy the whole series, or give one of its files"
        )
    return DataError(
        f"{path} has slices that do not lie behind each other at one distance ({gaps.min():.4g} to {gaps.max():.4g} "
        "mm): resample it, or give one of its files"
    )
