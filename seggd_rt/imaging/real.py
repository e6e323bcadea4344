"""Real images and regions in, from every format that is read, in a bundle's size.

Real images lie between the bundle's black and its white.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seggd_rt.bundle import Manifest
from seggd_rt.diffusion import aspect_change, check_label_map, check_region, find_classes
from seggd_rt.errors import DataError, OptionError
from seggd_rt.imaging.contract import PLAIN, LabelMapFile, Reading, RealFile
from seggd_rt.imaging.fit import Fit, Window
from seggd_rt.imaging.formats import require_input, require_reader
from seggd_rt.imaging.geometry import Geometry, Place

_WANTED = "an image, or a folder with a DICOM series"


class ResizedImageWarning(UserWarning):
    """A real image of another size than the bundle's was resized."""


class MisplacedImageWarning(UserWarning):
    """A real image does not lie where its label map does."""


def read_real(
    path: Path, manifest: Manifest, reading: Reading = PLAIN, beside: Place | None = None, index: int | None = None
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
        Where the label map lies that it is mixed with: of a volume in that frame of reference the slice there is meant,
        whatever its number. None where `reading` alone says.
    index
        The slice that is meant, wherever it lies; None where the rest says.

    Returns
    -------
    NDArray
        (H, W[, C]) float32 in [0, 1], without the channel axis where there is one channel.

    Raises
    ------
    DataError
        It cannot be read, has other channels, or values that are no numbers, or outside [0, 1]; or it lies elsewhere
        than the label map in one frame of reference.
    OptionError
        It holds several images and no index is given, or one that is not there, or has none beside the label map.

    Warns
    -----
    ResizedImageWarning, MisplacedImageWarning
    """
    return _open_reals(path, manifest, reading, beside).chosen(index)


def read_region(
    path: Path,
    manifest: Manifest,
    reading: Reading = PLAIN,
    beside: Place | None = None,
    classes: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Return a region in a bundle's size, (H, W) float32: 1 inside, 0 outside.

    Parameters
    ----------
    path
        A file of any format that label maps are read from, of values that `check_region` takes; all
        segments of a DICOM segmentation are inside. With `classes` a label map.
    manifest, reading, beside
        As for `read_real`; a region of another size is resized as label maps are, by nearest neighbor.
    classes
        Names of the classes whose pixels are inside.

    Raises
    ------
    DataError
        It cannot be read, holds other values, or lies elsewhere than the label map in one frame of reference.
    LabelMapError
        With `classes` it is no label map of the bundle's classes.
    OptionError
        See `read_real`; or a class is unknown.
    """
    return _open_regions(path, manifest, reading, beside, classes).chosen()


def find_real(
    path: Path, manifest: Manifest, reading: Reading, beside: Place | None, is_it: Callable[[NDArray[np.float32]], bool]
) -> NDArray[np.float32] | None:
    """Return that image of a file, as `read_real` returns it, which is the one; None without. Others may be damaged."""
    return _open_reals(path, manifest, reading, beside).find(is_it)


def find_region(
    path: Path,
    manifest: Manifest,
    reading: Reading,
    beside: Place | None,
    is_it: Callable[[NDArray[np.float32]], bool],
    classes: Sequence[str] | None = None,
) -> NDArray[np.float32] | None:
    """Return that region of a file, as `read_region` returns it, which is the one; None without."""
    return _open_regions(path, manifest, reading, beside, classes).find(is_it)


def choose(file: LabelMapFile | RealFile, reading: Reading, option: str = "--slice") -> int:
    """Return which of a file's slices is meant; `option` names, in errors, what says so.

    Raises
    ------
    OptionError
        There are several and none is named, or it is not there.
    """
    count, index = len(file), reading.index
    if index is None and count > 1:
        raise OptionError(f"{file.path} holds {count} slices: say which with {option}, from 0 to {count - 1}")
    if index is not None and not 0 <= index < count:
        raise OptionError(f"{file.path} has no slice {index}: it has 0 to {count - 1}")
    return index or 0


@dataclass(frozen=True)
class _Images:
    """The images, or regions, of a file, for a bundle."""

    file: RealFile | LabelMapFile
    manifest: Manifest
    reading: Reading
    beside: Place | None

    def chosen(self, index: int | None = None) -> NDArray[np.float32]:
        """Return the one that is meant: `index`, or the one beside the label map."""
        if index is not None:
            return self._image(self._read(choose(self.file, replace(self.reading, index=index))))
        index = self._index()
        pixels = self._read(index)
        self._check_place(index, (pixels.shape[0], pixels.shape[1]))
        return self._image(pixels)

    def find(self, is_it: Callable[[NDArray[np.float32]], bool]) -> NDArray[np.float32] | None:
        """Return the one that is looked for."""
        damage: DataError | None = None
        for index in range(len(self.file)):
            try:
                image = self._image(self._read(index))
            except DataError as error:
                damage = error
                continue
            if is_it(image):
                return image
        if damage is not None:
            raise damage
        return None

    def _index(self) -> int:
        file = self.file
        if self.beside is None:
            return choose(file, self.reading, "--from-slice")
        places = self._places()
        if places is None or not places[0].shares_space(places[1]):
            return 0 if len(file) == 1 else choose(file, self.reading, "--real-slice")
        found = places[0].index_of(places[1])
        if not 0 <= found < len(file):
            raise OptionError(
                f"{file.path} has no slice where the label map lies: give other files, or a --real-slice that may lie "
                "elsewhere"
            )
        return found

    def _places(self) -> tuple[Geometry, Geometry] | None:
        """Return where the file's slices lie, and the label map's, where places say something of each other."""
        mine, theirs = self.file.geometry, None if self.beside is None else self.beside.geometry
        if mine is None or theirs is None or not (mine.is_known and theirs.is_known):
            return None
        frames = {mine.frame_of_reference, theirs.frame_of_reference}
        # Of two frames of reference, as of two patients, places say nothing; NIfTI has none, and may be of the same.
        return (mine, theirs) if len(frames - {None}) < 2 else None

    def _check_place(self, index: int, size: tuple[int, int]) -> None:
        """Refuse a slice that is not where the label map is, in one frame of reference; without one, warn."""
        places = self._places()
        if places is None or self.beside is None:
            return
        apart = Place(places[0].of_slice(index), size).apart_mm(self.beside)
        if apart is None:
            return
        about = f"slice {index} of {self.file.path} and the label map are {apart:.3g} mm apart at a corner"
        if places[0].shares_space(places[1]):
            raise DataError(f"{about}, in one frame of reference: resample it, or give one --real-slice as it is")
        warnings.warn(f"{about}: they are laid over each other all the same", MisplacedImageWarning, stacklevel=4)

    def _read(self, index: int) -> NDArray[Any]:
        """Return the pixels of one, checked, in the file's size."""
        raise NotImplementedError

    def _image(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Return pixels that `_read` returned as the bundle takes them."""
        raise NotImplementedError

    def _window(self, pixels: NDArray[Any]) -> Window:
        """Return which of the file's pixels are taken, and warn where they are resized."""
        found, size = (pixels.shape[0], pixels.shape[1]), self._size
        if self.reading.fit is Fit.RESIZE and found != size:
            squeezed = ", which changes its aspect ratio: crop or pad it" if aspect_change(found, size) else ""
            warnings.warn(
                f"{self.file.path} is {found[0]}x{found[1]} and is resized to {size[0]}x{size[1]}{squeezed}",
                ResizedImageWarning,
                stacklevel=5,
            )
        # A picture has no spacing: that of the label map it is mixed with is meant.
        geometry = self.file.geometry or (None if self.beside is None else self.beside.geometry)
        return Window.of(self.reading.fit, found, size, geometry)

    @property
    def _size(self) -> tuple[int, int]:
        return self.manifest.image.height, self.manifest.image.width


@dataclass(frozen=True)
class _Reals(_Images):
    """The real images of a file."""

    file: RealFile

    def _read(self, index: int) -> NDArray[Any]:
        pixels = self.file.read(index)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise DataError(
                f"{self.file.path} has values that are no numbers (NaN or infinite): give them one, black's say"
            )
        return pixels

    def _image(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        pixels = _in_range(self.file, pixels, self.manifest)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        channels, drawn = 1 if pixels.ndim == 2 else pixels.shape[2], self.manifest.image.channels
        if channels != drawn:
            raise DataError(
                f"{self.file.path} has the wrong number of channels ({channels}, the bundle has {drawn}): convert it, "
                "or give one image of a stack"
            )
        return _resized(self._window(pixels).cut(pixels), self._size)


@dataclass(frozen=True)
class _Regions(_Images):
    """The regions of a file: its own values, or classes of its label maps, by id."""

    file: LabelMapFile
    ids: tuple[int, ...] | None

    def _read(self, index: int) -> NDArray[np.uint8]:
        values = self.file.read(index)
        try:
            if self.ids is None:
                return check_region(values).astype(np.uint8)
            return np.isin(check_label_map(values, self.manifest.classes), self.ids).astype(np.uint8)
        except DataError as error:
            raise type(error)(f"{self.file.path}: {error}") from error

    def _image(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._window(pixels).take(pixels, self._size).astype(np.float32)


def _open_reals(path: Path, manifest: Manifest, reading: Reading, beside: Place | None) -> _Reals:
    require_input(path, _WANTED)
    return _Reals(require_reader(path).open_real(path, reading), manifest, reading, beside)


def _open_regions(
    path: Path, manifest: Manifest, reading: Reading, beside: Place | None, classes: Sequence[str] | None
) -> _Regions:
    require_input(path, _WANTED)
    reader = require_reader(path)
    if classes is None:
        return _Regions(reader.open_region(path, reading), manifest, reading, beside, None)
    ids = tuple(c.id for c in find_classes(manifest.classes, classes))
    return _Regions(reader.open(path, reading.of_bundle(manifest)), manifest, reading, beside, ids)


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


def _resized(pixels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image, (H, W[, C]) in [0, 1], in another size, (height, width)."""
    if pixels.shape[:2] == size:
        return pixels
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    resized = [
        np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BOX))
        for plane in np.moveaxis(planes, -1, 0)
    ]
    whole: NDArray[np.float32] = resized[0] if pixels.ndim == 2 else np.stack(resized, axis=-1)
    return whole.clip(0, 1)
