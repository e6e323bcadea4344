"""Where slices lie in the patient, along which axis a volume is cut into them, and how they are turned to be shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.generic)
_DIGITS = 9
"""After the point, of millimetres and cosines that are computed: less is noise."""
_ROUNDING = 1e-6
"""Of a pixel or a slice."""


class Axis(StrEnum):
    """The axis a volume is cut along: by its anatomical plane, or by its number in the file's array.

    Slices of a plane are turned as they are looked at: axial ones with the patient's front at the top and left on the
    right, coronal and sagittal ones with the head at the top, sagittal ones with the front on the left. Slices of an
    axis by number are as they lie in the array: the first of the other axes down, the second to the right.
    """

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"
    FIRST = "0"
    SECOND = "1"
    THIRD = "2"


PLANES = (Axis.SAGITTAL, Axis.CORONAL, Axis.AXIAL)
"""The planes whose slices lie behind each other along the patient's x, y and z."""


@dataclass(frozen=True)
class Cut:
    """How an array is looked at as slices: for slice, row and column, its axis, and whether that runs backwards."""

    axes: tuple[int, int, int]
    backwards: tuple[bool, bool, bool]

    @classmethod
    def along(cls, number: int) -> Cut:
        """Cut along an axis by number; the others stay in order."""
        first, second = (axis for axis in range(3) if axis != number)
        return cls((number, first, second), (False, False, False))

    @classmethod
    def of_plane(cls, plane: Axis, affine: NDArray[np.float64]) -> Cut:
        """Cut into slices of the plane that is nearest to an anatomical one, turned as `Axis` says.

        `affine`, (4, 4), takes indices of the array to DICOM's axes of the patient, LPS.
        """
        file_axis, rises = [0, 0, 0], [False, False, False]
        for axis, (world, sign) in enumerate(nearest_axes(affine)):
            file_axis[world], rises[world] = axis, sign
        left, back = (file_axis[0], not rises[0]), (file_axis[1], not rises[1])
        head, feet = (file_axis[2], not rises[2]), (file_axis[2], rises[2])
        chosen = {Axis.AXIAL: (head, back, left), Axis.CORONAL: (back, feet, left), Axis.SAGITTAL: (left, feet, back)}
        (a, i), (b, j), (c, k) = chosen[plane]
        return cls((a, b, c), (i, j, k))

    def view(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array's view as (slice, row, column)."""
        turned = array.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if back else 1) for back in self.backwards)]

    def to_array(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the (4, 4) matrix from (column, row, slice, 1) to indices of an array of a shape."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for place, (axis, back) in enumerate(zip(self.axes, self.backwards, strict=True)):
            matrix[axis, 2 - place] = -1 if back else 1
            matrix[axis, 3] = shape[axis] - 1 if back else 0
        return matrix

    def array_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the array whose view has a shape, (slices, rows, columns)."""
        return tuple(shape[self.axes.index(axis)] for axis in range(3))

    def show(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a stored slice, (row, column), as it is shown; the array's axes are column, row, slice."""
        shown: NDArray[Any] = self.view(pixels.T[..., None])[0]
        return shown

    def store(self, pixels: NDArray[Pixel]) -> NDArray[Pixel]:
        """Return a slice that is shown, (row, column), as it is stored: the reverse of `show`."""
        array = np.empty(self.array_shape((1, *pixels.shape)), pixels.dtype)
        self.view(array)[0] = pixels
        return array[..., 0].T


AS_STORED = Cut((2, 1, 0), (False, False, False))
"""Slices of an array of (column, row, slice) as they are."""


def nearest_axes(affine: NDArray[np.float64]) -> list[tuple[int, bool]]:
    """Return the patient's axis that each axis of an array is nearest to, all different, and whether it rises along it.

    The nearest pair of axes is taken first. Shear, which (4, 4) `affine` may have, is left out of it.
    """
    left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    cosines = left @ right
    nearness, found = np.abs(cosines), [(0, False)] * 3
    for _ in range(3):
        world, axis = (int(index) for index in np.unravel_index(nearness.argmax(), nearness.shape))
        found[axis] = world, bool(cosines[world, axis] > 0)
        nearness[world, :] = nearness[:, axis] = -1
    return found


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

    @classmethod
    def of(cls, affine: NDArray[np.float64], index: int) -> Plane:
        """Return where the slice of an index lies; for `affine` see `Geometry.affine`."""
        column, row, step, start = affine[:3].T
        across, down = float(np.linalg.norm(column)), float(np.linalg.norm(row))
        numbers = start + index * step, [*(column / across), *(row / down)], [down, across]
        position, orientation, spacing = (tuple(round(float(each), _DIGITS) for each in some) for some in numbers)
        return cls(position, orientation, spacing)

    @property
    def normal(self) -> NDArray[np.float64]:
        """The direction in which slices are counted."""
        return np.cross(self.orientation[:3], self.orientation[3:])


@dataclass(frozen=True)
class Stored:
    """How a file of DICOM keeps slices, which are turned to be shown.

    Attributes
    ----------
    cut
        How its array, (column, row, slice), is looked at.
    planes
        Where each slice lies as it is stored, in the order in which they are shown.
    """

    cut: Cut
    planes: tuple[Plane, ...]


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of a stack of slices lie.

    Attributes
    ----------
    affine
        (4, 4) float64, takes (column, row, slice, 1) of a pixel's centre to (x, y, z, 1) in mm, in DICOM's axes of the
        patient, LPS: x grows to the left, y to the back, z to the head.
    frame_of_reference
        UID of DICOM's frame of reference that x, y and z are in; None where the file has none.
    is_known
        Whether the file states the position of its slices; if not, only the spacing is valid.
    stored
        How a DICOM file stores the slices; None for other formats, and if the stored orientation is kept.
    """

    affine: NDArray[np.float64]
    frame_of_reference: str | None = None
    is_known: bool = True
    stored: Stored | None = None

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Distance of two rows, and of two columns, as DICOM's Pixel Spacing."""
        column, row = (float(np.linalg.norm(self.affine[:3, axis])) for axis in (0, 1))
        return row, column

    def of_slice(self, index: int) -> Geometry:
        """Return the geometry of one slice."""
        moved = np.eye(4)
        moved[2, 3] = index
        stored = self.stored
        if stored is not None:
            stored = replace(stored, planes=stored.planes[index : index + 1])
        return replace(self, affine=self.affine @ moved, stored=stored)

    def planes(self, count: int) -> tuple[Plane, ...]:
        """Return where each of so many slices lies, as the file has it."""
        if self.stored is not None:
            return self.stored.planes
        return tuple(Plane.of(self.affine, index) for index in range(count))

    def shares_space(self, other: Geometry) -> bool:
        """Say whether both lie in one frame of reference, so that places can be compared."""
        return self.frame_of_reference is not None and self.frame_of_reference == other.frame_of_reference

    def index_of(self, other: Geometry) -> int:
        """Return which of these slices is nearest to where another's first begins; or would be."""
        return round(float(np.linalg.solve(self.affine, other.affine[:, 3])[2]))

    def corners(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return the outer corners of the first slice, of (rows, columns) pixels: (4, 3) in mm."""
        rows, columns = size
        ends = [(c, r, 0.0, 1.0) for r in (-0.5, rows - 0.5) for c in (-0.5, columns - 0.5)]
        points: NDArray[np.float64] = (np.array(ends) @ self.affine.T)[:, :3]
        return points


@dataclass(frozen=True)
class Place:
    """Where a slice lies: its geometry, None where that is not stated, and its (rows, columns) of pixels."""

    geometry: Geometry | None
    size: tuple[int, int]

    def apart_mm(self, other: Place, allowed: float = 0.5) -> float | None:
        """Return how far apart two slices lie at a corner; None where that is no more than a share of pixel or slice.

        Both must state their geometry.
        """
        if self.geometry is None or other.geometry is None:
            raise ValueError("a place is not stated")
        apart = self.geometry.corners(self.size) - other.geometry.corners(other.size)
        steps = self.geometry.affine[:3, :3], other.geometry.affine[:3, :3]
        normal = np.cross(steps[0][:, 0], steps[0][:, 1])
        along = np.abs(apart @ (normal / np.linalg.norm(normal)))
        across = np.sqrt(np.maximum((apart**2).sum(axis=1) - along**2, 0))
        pixel = max(np.linalg.norm(step[:, axis]) for step in steps for axis in (0, 1))
        allowed += _ROUNDING
        if along.max() <= allowed * np.linalg.norm(steps[0][:, 2]) and across.max() <= allowed * pixel:
            return None
        return float(np.linalg.norm(apart, axis=1).max())
