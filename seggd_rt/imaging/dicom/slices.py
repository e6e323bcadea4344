"""Slices of DICOM, each with a place of its own, as one volume: in which order, and where it lies."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError
from seggd_rt.imaging.geometry import AS_STORED, PLANES, Axis, Cut, Geometry, Plane, Stored, nearest_axes
from seggd_rt.wording import counted

_SAME_MM = 1e-3
"""Slices nearer to each other than this are at one place."""
_UNEVEN = 0.02
"""How far off its place a slice may be, as a share of the distance between two."""
_SMALLEST_MM, _LARGEST_MM = 1e-6, 1e6
"""Of what pixels, and slices, can be apart, so that nothing computed of it is infinite."""
_FARTHEST_MM = 1e9
_MOST_EMPTY = 100
"""How many empty slices a volume may have for each slice that is in its file: more are a spacing that is wrong."""
_UNIT = 1e-3
"""How far cosines may be from being those of one orientation, and of perpendicular axes."""


class EmptySlicesWarning(UserWarning):
    """A segmentation's file leaves slices out, or does not say whether it does."""


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
        (4, 4) float64 from (column, row, slice, 1), as they are stored: see `Geometry.affine`.
    planes
        The planes, in the order of `places`; none where no place is stated.
    """

    places: tuple[int, ...]
    count: int
    affine: NDArray[np.float64]
    planes: tuple[Plane, ...]

    def shown(
        self, path: Path, size: tuple[int, int], axis: Axis | None, frame_of_reference: str | None
    ) -> tuple[tuple[int, ...], Geometry]:
        """Turn slices as they are looked at: see `Axis`. Those of the first axis stay as they are.

        Parameters
        ----------
        path
            What they are of, for errors.
        size
            (rows, columns) of a slice as it is stored.
        axis
            Along which slices are asked for; None for the plane that they are nearest to.
        frame_of_reference
            See `Geometry`.

        Returns
        -------
        places
            Of every plane, the index of its slice in the order that they are shown in.
        geometry
            Where slices lie as they are shown.

        Raises
        ------
        DataError
            They are of another plane than is asked for.
        """
        check_axis(path, axis, self.affine)
        cut = AS_STORED if axis is Axis.FIRST else Cut.of_plane(plane_axis(self.affine), self.affine)
        stated = dict(zip(self.places, self.planes, strict=True))
        # A slice that is left out lies between the others, and is turned as they are.
        between = (replace(self.planes[0], position=Plane.of(self.affine, k).position) for k in range(self.count))
        places, planes = self.places, tuple(stated.get(index, each) for index, each in enumerate(between))
        if cut.backwards[0]:
            places, planes = tuple(self.count - 1 - place for place in places), planes[::-1]
        affine = self.affine @ cut.to_array((size[1], size[0], self.count))
        return places, Geometry(affine, frame_of_reference, stored=Stored(cut, planes))


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
        Planes differ in orientation or spacing, do not lie behind each other at one distance, or far more slices are
        missing than there are.

    Warns
    -----
    EmptySlicesWarning
        Slices are missing, or may be.
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
    if sparse and counts[-1]:
        _warn_of_empty(path, counts, float(levels[-1] - levels[0]) / int(counts[-1]), step_mm, thickness_mm)
    places = np.empty(len(planes), int)
    places[order] = counts[at]
    return Volume(tuple(places.tolist()), int(counts[-1]) + 1, affine, tuple(planes))


def check_distances(path: Path, *distances_mm: float) -> None:
    """Raise DataError unless pixels, and slices, can be so far apart."""
    if not all(_SMALLEST_MM <= distance <= _LARGEST_MM for distance in distances_mm):
        listed = ", ".join(f"{distance:g}" for distance in distances_mm)
        raise DataError(f"{path} states that pixels or slices are {listed} mm apart, which cannot be: export it again")


def plane_axis(affine: NDArray[np.float64]) -> Axis:
    """Return which anatomical plane slices are nearest to."""
    return PLANES[nearest_axes(affine)[2][0]]


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
            if steps.sum() + 1 > (1 + _MOST_EMPTY) * len(levels):
                raise DataError(
                    f"{path} has {counted(len(levels), 'slice')}, and would have {steps.sum() + 1:.0f} that are "
                    f"{step:.4g} mm apart, of which at most {_MOST_EMPTY} may be missing for each that is there: "
                    "correct SpacingBetweenSlices, or export it with its empty slices"
                )
            return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    raise _uneven(path, gaps)


def _warn_of_empty(
    path: Path, counts: NDArray[np.int64], distance_mm: float, step_mm: float | None, thickness_mm: float
) -> None:
    """Warn of slices that are filled in, and of a distance between slices that the file does not state."""
    allowed = max(_UNEVEN * distance_mm, _SAME_MM)
    taken = f"{distance_mm:.4g} mm is taken, the smallest distance between its frames"
    said = []
    if step_mm is None and abs(distance_mm - thickness_mm) > allowed:
        said.append(f"does not state how far apart slices are (SpacingBetweenSlices): {taken}")
    elif step_mm is not None and abs(distance_mm - step_mm) > allowed:
        said.append(f"has frames that are not {step_mm:.4g} mm apart, as SpacingBetweenSlices states: {taken}")
    if len(counts) <= counts[-1]:
        said.append(f"has {len(counts)} of {counts[-1] + 1} slices: those between are read as empty")
    for each in said:
        warnings.warn(f"{path} {each}", EmptySlicesWarning, stacklevel=5)


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
