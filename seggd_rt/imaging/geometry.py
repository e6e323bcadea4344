"""Where slices lie in the patient, and along which axis a volume is cut into them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

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
        Whether the file states where slices lie; without, spacings alone are right.
    """

    affine: NDArray[np.float64]
    frame_of_reference: str | None = None
    is_known: bool = True

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Distance of two rows, and of two columns, as DICOM's Pixel Spacing."""
        column, row = (float(np.linalg.norm(self.affine[:3, axis])) for axis in (0, 1))
        return row, column

    def of_slice(self, index: int) -> Geometry:
        """Return the geometry of one slice."""
        moved = np.eye(4)
        moved[2, 3] = index
        return replace(self, affine=self.affine @ moved)

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
