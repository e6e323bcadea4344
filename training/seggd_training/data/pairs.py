"""Pairs of an image and its label map in two folders, under the same names.

Pictures are PNG (grey of 8 or 16 bit, RGB) or .npy; their masks PNG or .npy of integers. Volumes are of a format with a
geometry, NIfTI or DICOM: both lie on one grid, each slice of the mask is a pair, and each volume is a patient.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from seggd_rt.diffusion import LabelClass, check_label_map
from seggd_rt.errors import DataError, LabelMapError
from seggd_rt.files import open_regular
from seggd_rt.imaging import Format, NpyArray, Place, Reader, Reading, find_reader, stem

_SUFFIXES = {".png", ".npy"}
_IMAGE_MODES = frozenset({"L", "RGB", "I", "I;16"})
_MASK_MODES = frozenset({"1", "L", "P", "I", "I;16"})
"""PIL's names: a palette's indices are labels, but no intensities; 16-bit grey is either of the last two."""
_SAME = 0.1
"""Of a pixel or a slice: so far apart may image and mask lie."""


@dataclass(frozen=True)
class Pair:
    """An image with its label map.

    Attributes
    ----------
    image
        (H, W, C) of the file's own type.
    label_map
        (H, W) uint8.
    path, mask_path
        Their files.
    index
        The slice of a volume; None of a picture.
    """

    image: NDArray[np.generic]
    label_map: NDArray[np.uint8]
    path: Path
    mask_path: Path
    index: int | None = None

    @property
    def name(self) -> str:
        """The image's file, with the slice's number."""
        return self.path.name if self.index is None else f"{self.path.name}[{self.index}]"

    @property
    def where(self) -> str:
        """The same with its folder, for errors."""
        return str(self.path.parent / self.name)

    @property
    def patient(self) -> str | None:
        """A volume's name; None of a picture, which says nothing of whom it shows."""
        return None if self.index is None else stem(self.path)


def read_pairs(images: Path, masks: Path, classes: Sequence[LabelClass], reading: Reading) -> Iterator[Pair]:
    """Yield the pairs of two folders, sorted by name.

    Raises
    ------
    DataError
        A file is missing, unreadable, or of a type that is not read; a volume and its mask differ in their grids.
    LabelMapError
        A mask holds a label outside the classes, or is not of integers.
    """
    for image_path, mask_path in _find_pairs(images, masks):
        reader = _volume_reader(image_path)
        if reader is None:
            yield Pair(_read_image(image_path), _read_mask(mask_path, classes), image_path, mask_path)
        else:
            yield from _read_volumes(image_path, mask_path, classes, reading)


def _read_volumes(image_path: Path, mask_path: Path, classes: Sequence[LabelClass], reading: Reading) -> Iterator[Pair]:
    image_reader, mask_reader = find_reader(image_path), find_reader(mask_path)
    if image_reader is None or mask_reader is None:
        raise DataError(f"{image_path} is a volume, and its mask {mask_path} is none: give both as volumes")
    image = image_reader.open_real(image_path, reading)
    mask = mask_reader.open(mask_path, replace(reading, classes=tuple(classes)))
    if image.geometry is None or mask.geometry is None:
        raise DataError(f"{image_path} or its mask {mask_path} is a picture, and no volume: save both alike")
    # A segmentation of DICOM may have fewer slices than the images of its frame of reference.
    shares = image.geometry.shares_space(mask.geometry)
    first = image.geometry.index_of(mask.geometry) if shares else 0
    if not 0 <= first <= len(image) - len(mask) or (len(image) != len(mask) and not shares):
        raise DataError(
            f"{image_path} has {len(image)} slices, its mask {mask_path} {len(mask)}: they must be of one grid"
        )
    for place in range(len(mask)):
        try:
            label_map = check_label_map(mask.read(place), classes)
        except LabelMapError as error:
            raise LabelMapError(f"{mask_path}, slice {place}: {error}") from error
        index = first + place
        pixels = image.read(index)
        there = Place(image.geometry.of_slice(index), (pixels.shape[0], pixels.shape[1]))
        apart = there.apart_mm(Place(mask.geometry.of_slice(place), (label_map.shape[0], label_map.shape[1])), _SAME)
        if apart is not None:
            raise DataError(
                f"{image_path} and its mask {mask_path} lie {apart:.3g} mm apart: resample one to the other's grid"
            )
        yield Pair(pixels[..., None] if pixels.ndim == 2 else pixels, label_map, image_path, mask_path, index)


def _volume_reader(path: Path) -> Reader | None:
    reader = find_reader(path)
    return None if reader is None or reader.format in (Format.PNG, Format.NPY) else reader


def _find_pairs(image_dir: Path, mask_dir: Path) -> list[tuple[Path, Path]]:
    for folder in (image_dir, mask_dir):
        if not folder.is_dir():
            split = folder.name
            raise DataError(f"{folder} is not there: images lie in images/{split}/, masks in masks/all/{split}/")
    images, masks = _by_key(image_dir), _by_key(mask_dir)
    for path in (*images.values(), *masks.values()):
        if path.suffix.lower() not in _SUFFIXES and _volume_reader(path) is None:
            raise DataError(f"{path} is neither .png, .npy nor a volume: convert it or take it out")
    if not images:
        raise DataError(f"{image_dir} holds no image")
    if lone := sorted(images.keys() - masks.keys()):
        raise DataError(f"{images[lone[0]]} has no mask: {mask_dir / lone[0]} is missing ({len(lone)} such images)")
    if lone := sorted(masks.keys() - images.keys()):
        raise DataError(f"{masks[lone[0]]} has no image: {image_dir / lone[0]} is missing ({len(lone)} such masks)")
    return [(images[name], masks[name]) for name in sorted(images)]


def _by_key(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and (other := found.setdefault(_key(path), path)) is not path:
            raise DataError(
                f"{other} and {path} have one name: which belongs to what is not known, rename or remove one"
            )
    return found


def _key(path: Path) -> str:
    """Return what pairs a file: its name, of a volume without what says the format."""
    return path.name if _volume_reader(path) is None else stem(path)


def _read_image(path: Path) -> NDArray[np.generic]:
    """Read (H, W, C) of the file's own type."""
    array = _read_array(path, _IMAGE_MODES)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.size == 0:
        raise DataError(f"{path} has shape {array.shape}: an image is (H, W) or (H, W, C)")
    return array


def _read_mask(path: Path, classes: Sequence[LabelClass]) -> NDArray[np.uint8]:
    array = _read_array(path, _MASK_MODES)
    if array.ndim != 2:
        raise LabelMapError(f"{path} has shape {array.shape}: a mask is (H, W), one label a pixel")
    try:
        return check_label_map(array, classes)
    except LabelMapError as error:
        raise LabelMapError(f"{path}: {error}") from error


def _read_array(path: Path, modes: frozenset[str]) -> NDArray[np.generic]:
    try:
        if path.suffix.lower() == ".npy":
            return NpyArray.open(path).read()
        with open_regular(path) as file, Image.open(file) as image:
            if image.mode not in modes:
                raise DataError(f"{path} is a PNG of mode {image.mode}; it must be one of {', '.join(sorted(modes))}")
            pixels: NDArray[np.generic] = np.asarray(image)  # of a palette image, its indices
            return pixels.astype(np.uint16) if image.mode == "I" else pixels
    except DataError:
        raise
    # What Pillow raises for files of any format that are damaged.
    except (
        ValueError, OSError, EOFError, SyntaxError, LookupError, TypeError, OverflowError, MemoryError, struct.error,
        UnidentifiedImageError, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise DataError(f"{path} cannot be read: {error}") from error
