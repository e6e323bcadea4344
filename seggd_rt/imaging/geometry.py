"""Where slices lie in the patient, and along which axis a volume is cut into them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

_ALONG = 1e-3
"""How much of a slice a step along another's rows or columns may be, for both to lie in one plane."""


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

    def index_of(self, other: Geometry) -> int | None:
        """Return which of these slices another's first one is, below 0 or over the last one outside them.

        None where it is not known: they are not of one frame of reference, or lie at an angle to each other.
        """
        if self.frame_of_reference is None or self.frame_of_reference != other.frame_of_reference:
            return None
        to_other = np.linalg.solve(self.affine, other.affine)
        if np.abs(to_other[2, :2]).max() > _ALONG:
            return None
        return round(float(to_other[2, 3]))
