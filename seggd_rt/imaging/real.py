"""Real images in: PNG of 8 or 16 bits, grey or RGB, and .npy of float in [0, 1] or bytes."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from seggd_rt.errors import DataError
from seggd_rt.imaging.npy import NpyArray
from seggd_rt.manifest import MAX_PIXELS, ImageSpec

_WIDEST = {"1": 1, "L": 255, "I;16": 65535, "RGB": 255}
"""Modes of PNG that hold an image, and their largest values; "I;16" is 16 bits."""


_ALMOST_BLACK = 1 / 64
"""A region that is nowhere brighter was most likely written as 0 and 1."""


class ResizedImageWarning(UserWarning):
    """A real image of another size than the bundle's was resized."""


def read_real(path: Path, image: ImageSpec) -> NDArray[np.float32]:
    """Return a real image in a bundle's size.

    Parameters
    ----------
    path
        A .png, or an .npy of (H, W[, C]).
    image
        What the bundle draws.

    Returns
    -------
    NDArray
        (H, W[, C]) float32 in [0, 1], without the channel axis where there is one channel.

    Raises
    ------
    DataError
        It cannot be read, has other channels, or values outside [0, 1].
    """
    return _fitted(path, _read(path), image)


def read_region(path: Path, image: ImageSpec) -> NDArray[np.float32]:
    """Return a region in a bundle's size, (H, W) float32 in [0, 1]: 1 inside, 0 outside, between them at a soft edge.

    Parameters
    ----------
    path
        A grey .png, or an .npy of (H, W): booleans, bytes or floats in [0, 1].
    image
        What the bundle draws.

    Raises
    ------
    DataError
        It cannot be read, or its bytes are 0 and 1, which would be next to nothing of 255.
    """
    if path.suffix.lower() == ".npy" and (opened := NpyArray.open(path)).dtype == np.bool_:
        pixels = opened.read().astype(np.float32)
    else:
        pixels = _read(path)
    region = _fitted(path, pixels, msgspec.structs.replace(image, channels=1))
    if 0 < region.max() <= _ALMOST_BLACK:
        raise DataError(f"{path} has no value over {region.max():.3g} of white: write 255 where to draw")
    return region


def _read(path: Path) -> NDArray[np.float32]:
    return _read_npy(path) if path.suffix.lower() == ".npy" else _read_png(path)


def _fitted(path: Path, pixels: NDArray[np.float32], image: ImageSpec) -> NDArray[np.float32]:
    """Return pixels of a file in the size that a bundle draws, and with as many channels."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels != image.channels:
        raise DataError(f"{path} has {channels} channels, and this bundle draws {image.channels}: convert it first")
    size = (image.height, image.width)
    if pixels.shape[:2] == size:
        return pixels
    warnings.warn(
        f"{path} is {pixels.shape[0]}x{pixels.shape[1]} and is resized to {size[0]}x{size[1]}",
        ResizedImageWarning,
        stacklevel=3,
    )
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    resized = [
        np.asarray(Image.fromarray(plane).resize((image.width, image.height), Image.Resampling.BOX))
        for plane in np.moveaxis(planes, -1, 0)
    ]
    whole: NDArray[np.float32] = resized[0] if pixels.ndim == 2 else np.stack(resized, axis=-1)
    return whole.clip(0, 1)


def _read_npy(path: Path) -> NDArray[np.float32]:
    opened = NpyArray.open(path)
    if len(opened.shape) not in (2, 3) or not (opened.dtype == np.uint8 or opened.dtype.kind == "f"):
        raise DataError(
            f"{path} holds {opened.dtype} {opened.shape}; a real image is float in [0, 1] or uint8, (H, W[, C])"
        )
    array = opened.read()
    pixels = array.astype(np.float32) / np.float32(255 if array.dtype == np.uint8 else 1)
    if not ((pixels >= 0) & (pixels <= 1)).all():
        raise DataError(f"{path} has values outside [0, 1]: scale it first")
    return pixels


def _read_png(path: Path) -> NDArray[np.float32]:
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise DataError(f"{path} has more than {MAX_PIXELS} pixels")
            if opened.mode not in _WIDEST:
                raise DataError(f"{path} is a PNG of mode {opened.mode}: save it as grey or RGB")
            pixels: NDArray[np.float32] = np.asarray(opened).astype(np.float32) / np.float32(_WIDEST[opened.mode])
            return pixels
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not a PNG: a real image is a .png or an .npy") from error
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
