"""Label maps as a bundle takes them: read, checked and fitted, and what is unusual said once."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Manifest
from seggd_rt.diffusion import (
    AspectRatioWarning,
    OneHotWarning,
    aspect_change,
    check_label_map,
    looks_one_hot,
    one_hot_note,
)
from seggd_rt.errors import LabelMapError
from seggd_rt.imaging import Fit, LabelMapFile, LabelMapSet, Window
from seggd_rt.inference import EmptyMaskWarning
from seggd_rt.wording import counted, either, some_of


class ResizedMaskWarning(UserWarning):
    """Label maps of another size than the bundle's are resized by nearest neighbour."""


class CutMaskWarning(UserWarning):
    """Label maps have labels outside the pixels that the network generates."""


def check_label_maps(
    masks: LabelMapSet, manifest: Manifest, classes: tuple[str, ...] | None, fit: Fit = Fit.RESIZE
) -> None:
    """Read every label map, and say once what is unusual in how many."""
    size = (manifest.image.height, manifest.image.width)
    kept = [c.id for c in manifest.classes[1:] if classes is None or c.name in classes]
    sizes: Counter[tuple[int, int]] = Counter()
    empty: list[str] = []
    cut: list[str] = []
    labeled = outside = 0
    for file in masks.files:
        for index in range(len(file)):
            label_map = checked(file, index, manifest)
            sizes[label_map.shape[0], label_map.shape[1]] += 1
            here = np.isin(label_map, kept)
            window = Window.of(fit, (label_map.shape[0], label_map.shape[1]), size, file.geometry)
            count, inside = int(np.count_nonzero(here)), int(np.count_nonzero(window.cut(here)))
            labeled, outside = labeled + count, outside + count - inside
            if inside < count:
                cut.append(_place(file, index))
            if not np.isin(fitted(file, label_map, manifest, fit), kept).any():
                empty.append(_place(file, index))
        if file.stacked and file.geometry is None and len(file) <= len(manifest.classes):
            stack = np.stack([checked(file, index, manifest) for index in range(len(file))])
            if looks_one_hot(stack, len(manifest.classes)):
                warnings.warn(f"{file.path}: {one_hot_note(len(file))}", OneHotWarning, stacklevel=3)
    del sizes[size]
    if sizes and fit is Fit.RESIZE:
        listed = [f"{height}x{width}: {number}" for (height, width), number in sizes.most_common()]
        which, verb = _of_all(sizes.total(), len(masks)), either(sizes.total(), "is", "are")
        warnings.warn(
            f"{which} {verb} not {size[0]}x{size[1]}, which this bundle draws, and {verb} resized to it by nearest "
            f"neighbour ({some_of(listed)})",
            ResizedMaskWarning,
            stacklevel=3,
        )
        changes = {old: note for old in sizes if (note := aspect_change(old, size)) is not None}
        if changes:
            number = sum(sizes[old] for old in changes)
            commonest = max(changes, key=lambda old: sizes[old])
            warnings.warn(
                f"{_of_all(number, len(masks))} {either(number, 'is', 'are')} distorted: {changes[commonest]}, or "
                "have them fitted by letterbox",
                AspectRatioWarning,
                stacklevel=3,
            )
    if cut:
        which, verb = _of_all(len(cut), len(masks)), either(len(cut), "has", "have")
        warnings.warn(
            f"{which} {verb} labels outside the {size[0]}x{size[1]} pixels that this bundle generates ({outside} of "
            f"{labeled} labeled pixels, {100 * outside / labeled:.2g} %), where images are black: use --fit resize, or "
            f"crop the masks: {some_of(cut)}",
            CutMaskWarning,
            stacklevel=3,
        )
    if empty:
        unseen = "" if manifest.mask.trained_with_empty_mask else ", which this network was not trained with"
        which, verb = _of_all(len(empty), len(masks)), either(len(empty), "has", "have")
        warnings.warn(f"{which} {verb} no foreground{unseen}: {some_of(empty)}", EmptyMaskWarning, stacklevel=3)


def checked(file: LabelMapFile, index: int, manifest: Manifest) -> NDArray[np.uint8]:
    """Return one label map of a file, (H, W) uint8 in the file's size.

    Raises
    ------
    DataError
        It cannot be read.
    LabelMapError
        It has the wrong type or labels.
    """
    try:
        return check_label_map(file.read(index), manifest.classes)
    except LabelMapError as error:
        raise LabelMapError(f"{_place(file, index)}: {error}") from error


def fitted(file: LabelMapFile, label_map: NDArray[np.uint8], manifest: Manifest, fit: Fit) -> NDArray[np.uint8]:
    """Return a label map of a file in the bundle's size."""
    size = (manifest.image.height, manifest.image.width)
    return Window.of(fit, (label_map.shape[0], label_map.shape[1]), size, file.geometry).take(label_map, size)


def _place(file: LabelMapFile, index: int) -> str:
    return f"{file.path}[{index}]" if file.stacked else str(file.path)


def _of_all(number: int, total: int) -> str:
    return f"{number} of {counted(total, 'mask')}" if total > 1 else "the mask"
