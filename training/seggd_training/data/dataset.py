"""Images with label maps from disk, checked, as arrays in memory.

Two layouts are read:

    ROOT/images/{train,val,test}/NAME       the SegGuidedDiff reference's folders: see `pairs.py`
    ROOT/masks/all/{train,val,test}/NAME

    FILE.npz    image (N, H, W[, C]) uint8, uint16, or float in [0, 1]; label (N, H, W) integers; split (N,)
                0 train, 1 val, 2 test; class_names; optional patient (N,)

With an intensity range images may be of any numbers: see `intensity.py`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seggd_rt.diffusion import (
    AspectRatioWarning,
    LabelClass,
    aspect_change,
    check_classes,
    check_label_map,
    name_classes,
    resize_nearest,
)
from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.imaging import PLAIN, Reading
from seggd_rt.wording import counted, either
from seggd_training.data.intensity import Levels, Window, check_use, natural_white, stack_levels, to_levels
from seggd_training.data.npz import read_npz
from seggd_training.data.pairs import read_pairs


class Split(StrEnum):
    """A part of a data set."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


_SPLIT_IDS = {Split.TRAIN: 0, Split.VAL: 1, Split.TEST: 2}


@dataclass(frozen=True)
class Dataset:
    """Images with label maps of one size.

    Attributes
    ----------
    images
        (N, H, W, C) uint8 or, where the files have more than 8 bits, uint16; the type's largest is white.
    label_maps
        (N, H, W) uint8, ids of `classes`.
    classes
        Background first.
    names
        N names: the files', or `NPZ[index]`.
    patients
        (N,) of any type that compares, or None where the data does not say.
    split
        Which part of the data it is.
    """

    images: Levels
    label_maps: NDArray[np.uint8]
    classes: tuple[LabelClass, ...]
    names: tuple[str, ...]
    patients: NDArray[np.generic] | None = None
    split: Split = Split.TRAIN

    def __len__(self) -> int:
        """Return N."""
        return len(self.images)


def load_dataset(
    path: Path,
    *,
    split: Split,
    image_size: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    intensity_range: Window | None = None,
    reading: Reading = PLAIN,
) -> Dataset:
    """Load one split of a folder or an `.npz`.

    Parameters
    ----------
    path
        A folder of the reference's layout, or an `.npz` file.
    split
        Which part.
    image_size
        (H, W) to resize to: images by area or antialiased bilinear, masks by nearest neighbour. None keeps the
        size, which all images must then share.
    classes
        Names of all labels from 0, background first. Folders need them; an `.npz` brings its own.
    intensity_range
        The values of the files that are black and white; the type's own range if None.
    reading
        How a folder's volumes are cut, and what their segments are.

    Raises
    ------
    DataError
        A file is missing, unreadable, of another size than its partner, or of a type that is not read.
    LabelMapError
        A mask holds a label outside the classes, or is not of integers.
    OptionError
        `classes` or `image_size` cannot be; or `reading` says how volumes are cut, and the data is an `.npz`.

    Warns
    -----
    AspectRatioWarning, DarkImagesWarning
        Once each.
    """
    split = Split(split)
    if image_size is not None and min(image_size) < 1:
        raise OptionError(f"image size is {image_size[0]}x{image_size[1]}; both must be positive")
    if path.is_dir():
        return _load_folder(path, split, image_size, classes, intensity_range, reading)
    if not path.exists():
        raise DataError(f"{path} does not exist: give a folder with images/ and masks/all/, or an .npz file")
    if path.suffix.lower() != ".npz":
        raise DataError(f"{path} is neither a folder with images/ and masks/all/ nor an .npz file")
    volumes = {"--axis": reading.axis, "--threshold": reading.threshold}
    given = [option for option, value in volumes.items() if value is not None]
    if given:
        raise OptionError(f"{path} is an .npz and has no volumes to cut: leave {' and '.join(given)} out")
    return _load_npz(path, split, image_size, classes, intensity_range)


def names_classes(path: Path) -> bool:
    """Say whether data brings the names of its classes with it, as an `.npz` with `class_names` does."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        return "class_names" in read_npz(path, ["class_names"])
    except DataError:
        return True  # which says what is wrong, as it is loaded


def has_split(path: Path, split: Split) -> bool:
    """Say whether a folder or an `.npz`, of which another split was loaded, has images of this one."""
    if path.is_dir():
        return (path / "images" / split).is_dir()
    return bool((read_npz(path, ["split"])["split"] == _SPLIT_IDS[split]).any())


def _load_folder(
    root: Path,
    split: Split,
    image_size: tuple[int, int] | None,
    names: Sequence[str] | None,
    window: Window | None,
    reading: Reading,
) -> Dataset:
    if names is None:
        raise OptionError(f"{root} is a folder, which does not name its classes: give --classes background,...")
    classes = _name_classes(names)
    images: list[Levels] = []
    label_maps: list[NDArray[np.uint8]] = []
    shown: list[str] = []
    patients: list[str] = []
    white, first = 0.0, ""
    sizes: Counter[tuple[int, int]] = Counter()
    for pair in read_pairs(root / "images" / split, root / "masks" / "all" / split, classes, reading):
        white = max(white, natural_white(pair.image))
        image, label_map = to_levels(pair.image, pair.where, window), pair.label_map
        sizes[label_map.shape[0], label_map.shape[1]] += 1
        if image.shape[:2] != label_map.shape:
            raise DataError(
                f"{pair.mask_path} is {_size(label_map.shape)}, its image {pair.where} is {_size(image.shape)}: "
                "both must have one size"
            )
        image, label_map = _resize(image, label_map, image_size)
        if images and image.shape != images[0].shape:
            raise DataError(_unlike(pair.where, image.shape, first, images[0].shape))
        first = first or pair.where
        images.append(image)
        label_maps.append(label_map)
        shown.append(pair.name)
        if pair.patient is not None:
            patients.append(pair.patient)
    where = f"{root}, {split}"
    _warn_of_aspect(sizes, image_size, where)
    levels = stack_levels(images)
    check_use(levels, where, window or (0, white))
    return Dataset(
        images=levels,
        label_maps=np.stack(label_maps),
        classes=classes,
        names=tuple(shown),
        patients=np.array(patients) if len(patients) == len(images) else None,
        split=split,
    )


def _unlike(path: str, shape: tuple[int, ...], other: str, expected: tuple[int, ...]) -> str:
    if shape[2] != expected[2]:
        return (
            f"{path} has {counted(shape[2], 'channel')} and {other} has {expected[2]}: "
            "convert all images to grey, or all to RGB"
        )
    return f"{path} is {_size(shape)}, {other} is {_size(expected)}: give --image-size, or images of one size"


def _warn_of_aspect(sizes: Counter[tuple[int, int]], new: tuple[int, int] | None, where: str) -> None:
    """Say once that resizing changes shapes, and in how many images."""
    changes = {} if new is None else {size: note for size in sizes if (note := aspect_change(size, new)) is not None}
    if changes:
        number = sum(sizes[size] for size in changes)
        commonest = max(changes, key=lambda size: sizes[size])
        verb = either(number, "is", "are")
        warnings.warn(
            f"{where}: {counted(number, 'image')} {verb} distorted: {changes[commonest]}",
            AspectRatioWarning,
            stacklevel=4,
        )


def _load_npz(
    path: Path,
    split: Split,
    image_size: tuple[int, int] | None,
    names: Sequence[str] | None,
    window: Window | None,
) -> Dataset:
    arrays = read_npz(path, ("image", "label", "split", "class_names", "patient"))
    required = {"image", "label", "split"} | ({"class_names"} if names is None else set())
    if missing := sorted(required - arrays.keys()):
        hint = ", or give --classes" if missing == ["class_names"] else ""
        raise DataError(f"{path} has no array '{missing[0]}': it needs image, label, split and class_names{hint}")
    if arrays["split"].dtype.kind not in "biuf":
        raise DataError(f"{path} has a split of type {arrays['split'].dtype}: give 0 (train), 1 (val) or 2 (test)")
    if names is None and arrays["class_names"].dtype.kind != "U":
        raise DataError(f"{path} has class_names of a wrong type ({arrays['class_names'].dtype}): store strings")
    if names is None and arrays["class_names"].ndim > 1:
        raise DataError(f"{path} has class_names of shape {arrays['class_names'].shape}: give a list of names")
    classes = _name_classes(names if names is not None else [str(n) for n in np.atleast_1d(arrays["class_names"])])
    images, label_maps, splits = arrays["image"], arrays["label"], arrays["split"]
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or label_maps.ndim != 3 or images.shape[:3] != label_maps.shape:
        raise DataError(
            f"{path} has image {arrays['image'].shape} and label {label_maps.shape}: "
            "they must be (N, H, W) or (N, H, W, C), and (N, H, W)"
        )
    if not images.size:
        raise DataError(f"{path} has an empty image array {arrays['image'].shape}: give at least one image")
    for key in ("split", "patient"):
        if key in arrays and arrays[key].shape != images.shape[:1]:
            raise DataError(
                f"{path} has {key} {arrays[key].shape}: it must have one entry an image, {images.shape[:1]}"
            )
    chosen = np.flatnonzero(splits == _SPLIT_IDS[split])
    if not chosen.size:
        raise DataError(f"{path} holds no image of split {_SPLIT_IDS[split]}, '{split}'")
    where = f"{path}, {split}"
    pixels = to_levels(images[chosen], str(path), window)
    check_use(pixels, where, window or (0, natural_white(images)))
    try:
        labels = check_label_map(label_maps[chosen], classes)
    except LabelMapError as error:
        raise LabelMapError(f"{path}: {error}") from error
    _warn_of_aspect(Counter({(images.shape[1], images.shape[2]): len(chosen)}), image_size, where)
    pairs = [_resize(image, label_map, image_size) for image, label_map in zip(pixels, labels, strict=True)]
    return Dataset(
        images=np.stack([image for image, _ in pairs]),
        label_maps=np.stack([label_map for _, label_map in pairs]),
        classes=classes,
        names=tuple(f"{path.name}[{i}]" for i in chosen),
        patients=arrays["patient"][chosen] if "patient" in arrays else None,
        split=split,
    )


def _name_classes(names: Sequence[str]) -> tuple[LabelClass, ...]:
    try:
        classes = name_classes([name.strip() for name in names])
        check_classes(classes)
    except ValueError as error:
        raise OptionError(f"classes cannot be {', '.join(names)}: {error}") from error
    return classes


def _resize(
    image: Levels, label_map: NDArray[np.uint8], size: tuple[int, int] | None
) -> tuple[Levels, NDArray[np.uint8]]:
    """Resize an (H, W, C) image and its (H, W) label map."""
    if size is None or size == label_map.shape:
        return image, label_map
    (height, width), (old_height, old_width) = size, label_map.shape
    whole = old_height % height == 0 and old_width % width == 0
    method = Image.Resampling.BOX if whole else Image.Resampling.BILINEAR  # both take in every pixel they shrink
    # Of 16 bits PIL resizes floats alone.
    source = image if image.dtype == np.uint8 else image.astype(np.float32)
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(source[..., c])).resize((width, height), method))
        for c in range(image.shape[2])
    ]
    resized: Levels = np.rint(np.stack(channels, axis=-1)).astype(image.dtype)
    return resized, resize_nearest(label_map, height, width)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
