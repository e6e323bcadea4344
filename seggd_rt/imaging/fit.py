"""Label maps of any size to the size a network draws, and its images back onto their pixels.

Every way of fitting is a window: a rectangle of the file's pixels, which may reach beyond them, that becomes the
network's picture. So going back is the same rectangle taken the other way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seggd_rt.bundle import MAX_PIXELS
from seggd_rt.diffusion import resize_nearest
from seggd_rt.errors import DataError
from seggd_rt.imaging.geometry import Geometry

Pixel = TypeVar("Pixel", bound=np.generic)
Size = tuple[int, int]
"""(height, width) in pixels."""


class Fit(StrEnum):
    """How a label map of another size is fitted."""

    RESIZE = "resize"
    """All of it is resized; its aspect ratio may change."""
    LETTERBOX = "letterbox"
    """Background is added above and below, or left and right, until resizing keeps millimetres alike."""
    CROP_PAD = "crop-pad"
    """Its middle is taken pixel for pixel, with background around it where it is too small."""


@dataclass(frozen=True)
class Window:
    """The rectangle of a file's pixels that a network draws.

    Attributes
    ----------
    size
        (height, width) of the file's slices.
    top, left, height, width
        The rectangle, in pixels of the file; outside of it is background.
    """

    size: Size
    top: int
    left: int
    height: int
    width: int

    @classmethod
    def of(cls, fit: Fit, size: Size, drawn: Size, geometry: Geometry | None = None) -> Window:
        """Return the window of a way to fit.

        Parameters
        ----------
        fit
            The way.
        size, drawn
            (height, width) of the file's slices, and of what the network draws.
        geometry
            Of the file: pixels need not be squares. They are taken for such where there is none.

        Raises
        ------
        DataError
            Its pixels are so far from squares that letterboxing would take more memory than any picture may.
        """
        height, width = size
        spacing_mm = (1.0, 1.0) if geometry is None else geometry.spacing_mm
        if fit is Fit.CROP_PAD:
            height, width = drawn
        elif fit is Fit.LETTERBOX:
            # Millimetres of a drawn pixel: the larger of what the two sides need.
            scale = max(height * spacing_mm[0] / drawn[0], width * spacing_mm[1] / drawn[1])
            height = max(height, round(scale * drawn[0] / spacing_mm[0]))
            width = max(width, round(scale * drawn[1] / spacing_mm[1]))
            if height * width > MAX_PIXELS:
                raise DataError(
                    f"a slice of {size[0]}x{size[1]} pixels, each of {spacing_mm[0]:g} x {spacing_mm[1]:g} mm, is too "
                    f"long to be letterboxed into {drawn[0]}x{drawn[1]}: mend its spacing, or fit it by resize"
                )
        return cls(size, (size[0] - height) // 2, (size[1] - width) // 2, height, width)

    def cut(self, pixels: NDArray[Pixel]) -> NDArray[Pixel]:
        """Return the window of a file's pixels, (H, W[, C]); zeros where there are none."""
        if (self.height, self.width) == self.size:
            return pixels
        window = np.zeros((self.height, self.width, *pixels.shape[2:]), pixels.dtype)
        file, inside = self._overlap()
        window[inside] = pixels[file]
        return window

    def take(self, label_map: NDArray[np.uint8], drawn: Size) -> NDArray[np.uint8]:
        """Return the part of a label map, (H, W) uint8, in the drawn size; background where there is none."""
        window = self.cut(label_map)
        return window if window.shape == drawn else resize_nearest(window, *drawn)

    def put(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an image, (H, W) float32 in [0, 1], on the file's pixels; 0 where it does not reach."""
        if image.shape != (self.height, self.width):
            resized = Image.fromarray(image).resize((self.width, self.height), Image.Resampling.BILINEAR)
            image = np.asarray(resized).clip(0, 1)
        if (self.height, self.width) == self.size:
            return image
        whole = np.zeros(self.size, np.float32)
        file, inside = self._overlap()
        whole[file] = image[inside]
        return whole

    def _overlap(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return where file and window overlap, in the file's pixels and in the window's."""
        rows, columns = (
            (max(0, start), min(whole, start + length), start)
            for start, length, whole in ((self.top, self.height, self.size[0]), (self.left, self.width, self.size[1]))
        )
        file = slice(rows[0], rows[1]), slice(columns[0], columns[1])
        inside = (
            slice(rows[0] - rows[2], rows[1] - rows[2]),
            slice(columns[0] - columns[2], columns[1] - columns[2]),
        )
        return file, inside
