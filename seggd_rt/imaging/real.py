"""Real images in, from every format that is read, in a bundle's size and between its black and its white."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seggd_rt.errors import DataError, OptionError
from seggd_rt.imaging.contract import PLAIN, LabelMapFile, Reading, RealFile
from seggd_rt.imaging.fit import Fit, Window
from seggd_rt.imaging.formats import require_reader
from seggd_rt.imaging.geometry import Geometry
from seggd_rt.manifest import ImageSpec, Manifest

_ALMOST_BLACK = 1 / 64
"""A region that is nowhere brighter was most likely written as 0 and 1."""


class ResizedImageWarning(UserWarning):
    """A real image of another size than the bundle's was resized."""


def read_real(
    path: Path, manifest: Manifest, reading: Reading = PLAIN, beside: Geometry | None = None
) -> NDArray[np.float32]:
    """Return a real image in a bundle's size.

    Parameters
    ----------
    path
        A file of any format that label maps are read from. Floats in PNG and NPY are in [0, 1], integers shares of
        their type's largest; values of NIfTI and DICOM are seen through the bundle's intensity range.
    manifest
        Of the bundle.
    reading
        How a volume is cut into slices, which of them is meant, and how one of another size is fitted.
    beside
        Of the label map's slice: a volume in its frame of reference gives the slice at its place, whatever its number.

    Returns
    -------
    NDArray
        (H, W[, C]) float32 in [0, 1], without the channel axis where there is one channel.

    Raises
    ------
    DataError
        It cannot be read, has other channels, or values that are no numbers, or outside [0, 1].
    OptionError
        It holds several images and no index is given, or one that is not there, or has none beside the label map.
    """
    file = require_reader(path).open_real(path, reading)
    return _real(file, _chosen(file, reading, beside), manifest, reading)


def read_region(
    path: Path, manifest: Manifest, reading: Reading = PLAIN, beside: Geometry | None = None
) -> NDArray[np.float32]:
    """Return a region in a bundle's size, (H, W) float32 in [0, 1]: 1 inside, 0 outside, between them at a soft edge.

    Parameters
    ----------
    path
        Grey: booleans, bytes or floats in [0, 1]; of NIfTI and DICOM zero is outside, everything else inside, as all
        segments of a segmentation are.
    manifest, reading, beside
        As for `read_real`.

    Raises
    ------
    DataError
        It cannot be read, or its bytes are 0 and 1, which would be next to nothing of 255.
    OptionError
        See `read_real`.
    """
    file = require_reader(path).open_region(path, reading)
    return _region(file, _chosen(file, reading, beside), manifest, reading)


def each_real(path: Path, manifest: Manifest, reading: Reading = PLAIN) -> Iterator[NDArray[np.float32]]:
    """Yield every real image of a file as `read_real` returns one."""
    file = require_reader(path).open_real(path, reading)
    yield from (_real(file, index, manifest, reading) for index in range(len(file)))


def each_region(path: Path, manifest: Manifest, reading: Reading = PLAIN) -> Iterator[NDArray[np.float32]]:
    """Yield every region of a file as `read_region` returns one."""
    file = require_reader(path).open_region(path, reading)
    yield from (_region(file, index, manifest, reading) for index in range(len(file)))


def choose(file: LabelMapFile | RealFile, reading: Reading) -> int:
    """Return which of a file's slices is meant.

    Raises
    ------
    OptionError
        There are several and none is named, or it is not there.
    """
    count, index = len(file), reading.index
    if index is None and count > 1:
        raise OptionError(f"{file.path} holds {count} slices: say which with --slice, from 0 to {count - 1}")
    if index is not None and not 0 <= index < count:
        raise OptionError(f"{file.path} has no slice {index}: it has 0 to {count - 1}")
    return index or 0


def _real(file: RealFile, index: int, manifest: Manifest, reading: Reading) -> NDArray[np.float32]:
    return _fitted(file, _in_range(file, _read(file, index), manifest), manifest.image, reading.fit)


def _region(file: RealFile, index: int, manifest: Manifest, reading: Reading) -> NDArray[np.float32]:
    pixels = _read(file, index)
    pixels = (pixels != 0).astype(np.float32) if file.physical else _in_range(file, pixels, manifest)
    region = _fitted(file, pixels, msgspec.structs.replace(manifest.image, channels=1), reading.fit)
    if 0 < region.max() <= _ALMOST_BLACK:
        raise DataError(f"{file.path} has no value over {region.max():.3g} of white: write 255 where to draw")
    return region


def _read(file: RealFile, index: int) -> NDArray[Any]:
    pixels = file.read(index)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"{file.path} has values that are no numbers (NaN or infinite): give them one, black's say")
    return pixels


def _chosen(file: RealFile, reading: Reading, beside: Geometry | None) -> int:
    """Return which slice is meant: of a picture the only one, of a volume the one beside a label map."""
    if len(file) == 1:
        return 0
    found = None if file.geometry is None or beside is None else file.geometry.index_of(beside)
    if found is None:
        return choose(file, reading)
    if not 0 <= found < len(file):
        raise OptionError(f"{file.path} has no slice where the label map lies: give another real image, or one slice")
    return found


def _in_range(file: RealFile, pixels: NDArray[Any], manifest: Manifest) -> NDArray[np.float32]:
    """Return pixels of a file in [0, 1]."""
    if file.physical and manifest.intensity_range is not None:
        black, white = manifest.intensity_range
        scaled: NDArray[np.float32] = ((pixels.astype(np.float32) - black) / np.float32(white - black)).clip(0, 1)
        return scaled
    white = 1 if file.physical or pixels.dtype.kind in "fb" else np.iinfo(pixels.dtype).max
    shares = pixels.astype(np.float32) / np.float32(white)
    if not ((shares >= 0) & (shares <= 1)).all():
        hint = "this bundle states no intensity range to see them through" if file.physical else "scale it first"
        raise DataError(f"{file.path} has values outside [0, 1]: {hint}")
    return shares


def _fitted(file: RealFile, pixels: NDArray[np.float32], image: ImageSpec, fit: Fit) -> NDArray[np.float32]:
    """Return pixels of a file in the size that a bundle draws, and with as many channels."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels != image.channels:
        raise DataError(
            f"{file.path} has {channels} channels, and this bundle draws {image.channels}: convert it first"
        )
    size = (image.height, image.width)
    if pixels.shape[:2] == size:
        return pixels
    if fit is Fit.RESIZE:
        warnings.warn(
            f"{file.path} is {pixels.shape[0]}x{pixels.shape[1]} and is resized to {size[0]}x{size[1]}",
            ResizedImageWarning,
            stacklevel=4,
        )
    pixels = Window.of(fit, (pixels.shape[0], pixels.shape[1]), size, file.geometry).cut(pixels)
    if pixels.shape[:2] == size:
        return pixels
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    resized = [
        np.asarray(Image.fromarray(plane).resize((image.width, image.height), Image.Resampling.BOX))
        for plane in np.moveaxis(planes, -1, 0)
    ]
    whole: NDArray[np.float32] = resized[0] if pixels.ndim == 2 else np.stack(resized, axis=-1)
    return whole.clip(0, 1)
