"""Grey levels of images as whole numbers of 8 or 16 bits, the type's largest being white.

Images of 8 bits stay what they are. All others are kept in 16 bits, so that nothing is lost of an image of 10, 12 or 16
bits, nor more than rounding of one in floats. A window LO, HI says which values of the files are black and white.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError

Levels = NDArray[np.unsignedinteger[Any]]
"""uint8 or uint16."""
Window = tuple[float, float]

_DARK = 0.25
"""An image set whose brightest pixel is under this part of the range was most likely stored in another range."""


class DarkImagesWarning(UserWarning):
    """Images use a small part of the range that is taken for black to white."""


def to_levels(images: NDArray[Any], where: str, window: Window | None = None) -> Levels:
    """Map values to levels.

    Parameters
    ----------
    images
        Any shape: uint8, uint16 or floats in [0, 1]; with a window any whole numbers or finite floats.
    where
        Names the images in errors.
    window
        What becomes black and what white; values beyond are clipped. None takes the type's own range.

    Raises
    ------
    DataError
        The values are of another type or outside [0, 1].
    """
    kind = images.dtype.kind
    if window is None and kind == "u" and images.dtype.itemsize <= 2:
        return images.astype(images.dtype.newbyteorder("="), copy=False)
    if kind not in ("f" if window is None else "iuf"):
        allowed = "uint8, uint16, or float in [0, 1]"
        raise DataError(f"{where} holds {images.dtype}: images are {allowed}, or numbers with --intensity-range LO,HI")
    values = images.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{where} has float values that are not finite: replace them")
    if window is not None:
        low, high = window
        values = ((values - low) / (high - low)).clip(0, 1)
    elif values.min() < 0 or values.max() > 1:
        raise DataError(
            f"{where} has float values in [{values.min():g}, {values.max():g}]: they must lie in [0, 1], or "
            "--intensity-range LO,HI must say what is black and white"
        )
    return np.rint(values * 65535).astype(np.uint16)


def natural_white(images: NDArray[Any]) -> float:
    """Return the value that is white where no window is given."""
    return 1.0 if images.dtype.kind == "f" else float(np.iinfo(images.dtype).max)


def stack_levels(images: list[Levels]) -> Levels:
    """Stack images, in 16 bits where one of them is."""
    if all(image.dtype == np.uint8 for image in images):
        return np.stack(images)
    return np.stack(
        [image.astype(np.uint16) * np.uint16(257) if image.dtype == np.uint8 else image for image in images]
    )


def to_unit(levels: Levels) -> NDArray[np.float32]:
    """Return levels as float32 in [0, 1]."""
    return levels.astype(np.float32) / np.float32(np.iinfo(levels.dtype).max)


def to_8_bit(levels: Levels) -> NDArray[np.uint8]:
    """Return levels as uint8, to show them."""
    if levels.dtype == np.uint8:
        return levels.astype(np.uint8, copy=False)
    return np.rint(levels.astype(np.float32) / 257).astype(np.uint8)


def check_use(levels: Levels, where: str, black_to_white: Window) -> None:
    """Look at how much of the range all images of a split use; `where` names them.

    Raises
    ------
    DataError
        Every pixel is white.

    Warns
    -----
    DarkImagesWarning
        The brightest pixel is under a quarter of the range.
    """
    low, high = black_to_white
    if levels.min() == np.iinfo(levels.dtype).max:
        raise DataError(f"{where}: no pixel is under {high:g}, which is white: give another --intensity-range LO,HI")
    brightest = float(levels.max()) / float(np.iinfo(levels.dtype).max)
    if brightest < _DARK:
        value = low + brightest * (high - low)
        warnings.warn(
            f"{where}: the brightest pixel is {value:g} where {high:g} is white, so images are nearly black: say by "
            f"train's --intensity-range what is black and white, as in --intensity-range {low:g},{value:g}",
            DarkImagesWarning,
            stacklevel=3,
        )
