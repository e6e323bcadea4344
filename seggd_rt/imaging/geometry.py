"""Where slices lie in the patient, and along which axis a volume is cut into them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


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
