"""Label maps: check, resize, and encode them as a network's mask channels, with classes left out.

A label map is (H, W) integers, one class id a pixel; id 0 is the background. Encoding is a table, (labels, mask
channels) float32: a pixel of label k becomes row k. Leaving a class out ("ablation", arXiv 2402.05210, section 2.2)
zeroes its row, so its pixels become background: just what random mask ablation does in training.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.wording import either, some_of

MAX_LABEL = 255
"""Largest label id: label maps travel as uint8, and `label-over-255` has no room for more."""
_ASPECT_TOLERANCE = 0.02
"""Of the ratio's logarithm: what rounding a side to whole pixels may cost."""


class MaskEncoding(StrEnum):
    """How a label becomes mask channels."""

    LABEL_OVER_255 = "label-over-255"
    """One channel of id / 255: what the SegGuidedDiff reference trains."""
    ONE_HOT = "one-hot"
    """One channel for every foreground class, 1 where the pixel has it."""


class LabelClass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One class of a label map: its id, its name and its colour (red, green, blue in [0, 255])."""

    id: int
    name: str
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Check every field's range."""
        if not 0 <= self.id <= MAX_LABEL:
            raise ValueError(f"class id is {self.id}; it must lie in [0, {MAX_LABEL}]")
        name = self.name
        if not name or name != name.strip() or "," in name or not name.isprintable():
            raise ValueError(f"class name is {name!r}; it must be printable, without a comma or spaces around it")
        if not all(0 <= value <= 255 for value in self.color):
            raise ValueError(f"class color is {self.color}; each value must lie in [0, 255]")


_PALETTE = (
    (230, 75, 53), (77, 187, 213), (0, 160, 135), (243, 155, 127), (60, 84, 136),
    (145, 209, 194), (132, 145, 180), (220, 0, 0), (126, 97, 72), (176, 156, 133),
)  # fmt: skip


def name_classes(names: Sequence[str]) -> tuple[LabelClass, ...]:
    """Return classes of ids 0, 1, 2, ... with these names, background first, in distinct colours."""
    return tuple(
        LabelClass(id=i, name=name, color=_PALETTE[(i - 1) % len(_PALETTE)] if i else (0, 0, 0))
        for i, name in enumerate(names)
    )


def check_classes(classes: Sequence[LabelClass]) -> None:
    """Raise ValueError unless ids are 0, 1, 2, ... in order, names differ, and a foreground class exists."""
    if [c.id for c in classes] != list(range(len(classes))) or len(classes) < 2:
        raise ValueError(f"class ids are {[c.id for c in classes]}; they must be 0 (background), 1, 2, ... in order")
    folded = [c.name.casefold() for c in classes]
    if len(set(folded)) != len(folded):
        raise ValueError(f"class names {[c.name for c in classes]} must differ by more than case")


def mask_channels(encoding: MaskEncoding, num_classes: int) -> int:
    """Return how many mask channels `num_classes` classes (background included) take."""
    return num_classes - 1 if encoding is MaskEncoding.ONE_HOT else 1


def encode_table(encoding: MaskEncoding, num_classes: int) -> NDArray[np.float32]:
    """Return the encoding of every label, (num_classes, mask channels) float32; row 0, background, is zero."""
    if encoding is MaskEncoding.ONE_HOT:
        return np.eye(num_classes, dtype=np.float32)[:, 1:]
    return (np.arange(num_classes, dtype=np.float32) / np.float32(255))[:, None]


def ablate(table: NDArray[np.float32], keep: Iterable[int]) -> NDArray[np.float32]:
    """Return a copy of an encode table with the rows of all classes but those of `keep` zeroed."""
    kept = np.zeros_like(table)
    ids = sorted(keep)
    kept[ids] = table[ids]
    return kept


def encode(label_map: NDArray[np.uint8], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Encode a label map by a table.

    Parameters
    ----------
    label_map
        (..., H, W) uint8, every label below `len(table)`.
    table
        (labels, mask channels) float32.

    Returns
    -------
    NDArray
        (..., mask channels, H, W) float32.
    """
    return np.moveaxis(table[label_map], -1, -3)


def select_classes(
    classes: Sequence[LabelClass], *, keep: Iterable[str] | None = None, drop: Iterable[str] | None = None
) -> tuple[int, ...]:
    """Return the ids of the foreground classes that stay, rising.

    Parameters
    ----------
    classes
        The bundle's classes, background first.
    keep, drop
        Names of foreground classes, of which one list may be given: those to keep, or those to leave out; a string
        is one name. Case does not matter. With neither, every class stays.

    Raises
    ------
    OptionError
        Both are given; a name is unknown, or the background's; or no class would stay.
    """
    if keep is not None and drop is not None:
        raise OptionError("keep and drop exclude each other: give the classes to keep, or those to leave out")
    foreground = [c for c in classes if c.id != 0]
    if keep is None and drop is None:
        return tuple(c.id for c in foreground)
    given = keep if keep is not None else drop or ()
    found = [_find_class(name, classes) for name in ([given] if isinstance(given, str) else given)]
    if any(c.id == 0 for c in found):
        raise OptionError(f"'{classes[0].name}' is the background, which is always there: name foreground classes only")
    named = {c.id for c in found}
    kept = tuple(c.id for c in foreground if (c.id in named) == (keep is not None))
    if not kept:
        word = "keep names no class" if keep is not None else "drop leaves no class"
        raise OptionError(f"{word}: at least one of {_listed(foreground)} must stay")
    return kept


def find_classes(classes: Sequence[LabelClass], names: Iterable[str]) -> tuple[LabelClass, ...]:
    """Return the classes of these names, the background's among them, in order of their ids.

    Case does not matter.

    Raises
    ------
    OptionError
        A name is unknown, or there is none.
    """
    named = {_find_class(name, classes).id for name in names}
    if not named:
        raise OptionError(f"no class is named: give at least one of {_listed(classes)}")
    return tuple(c for c in classes if c.id in named)


def check_region(region: ArrayLike) -> NDArray[np.bool_]:
    """Return a region as booleans, true inside.

    Parameters
    ----------
    region
        (H, W) booleans, or numbers that are all 0 or 1, or all 0 or 255.

    Raises
    ------
    DataError
        It holds anything else, as a label map or a soft edge does.
    """
    array = np.asarray(region)
    if array.dtype.kind not in "biuf":
        raise DataError(f"the region has the wrong type ({array.dtype}): give booleans, 0/1 or 0/255")
    for inside in (1, 255):
        if ((array == 0) | (array == inside)).all():
            return np.asarray(array == inside)
    values = [f"{value:g}" for value in np.unique(array)]
    raise DataError(
        f"the region has values other than 0/1 or 0/255 ({some_of(values)}): if it is a label map, select classes "
        "with --region-classes or numpy.isin"
    )


def check_label_map(label_map: ArrayLike, classes: Sequence[LabelClass]) -> NDArray[np.uint8]:
    """Return a label map, or a stack of them, as uint8.

    Parameters
    ----------
    label_map
        (..., H, W) integers, each the id of one of `classes`; booleans where there is one foreground class.

    Raises
    ------
    LabelMapError
        The array is not of integers, has fewer than two axes or no pixel, an axis of colours, or holds a label outside
        the classes.
    """
    try:
        array = np.asarray(label_map)
    except ValueError as error:
        raise LabelMapError(f"a label map must be an array, (H, W), each row as long as the others: {error}") from error
    if array.dtype.kind not in "iub":
        raise LabelMapError(f"a label map must hold integers, one class id a pixel; this one holds {array.dtype}")
    if array.ndim < 2 or array.size == 0:
        raise LabelMapError(f"a label map must have shape (H, W) with pixels in it; this one has {array.shape}")
    if array.dtype.kind == "b" and len(classes) > 2:
        raise LabelMapError(
            f"a mask of true and false cannot tell {len(classes) - 1} classes apart: give integers, "
            f"{', '.join(f'{c.id} for {c.name}' for c in classes[1:])}"
        )
    check_axes(array.shape)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= len(classes):
        present = set(np.unique(array).tolist())
        unknown = sorted(present - {c.id for c in classes})
        raise LabelMapError(
            f"{either(len(unknown), 'label', 'labels')} {some_of([str(label) for label in unknown])} "
            f"{either(len(unknown), 'is', 'are')} outside the classes "
            f"{', '.join(f'{c.id} {c.name}' for c in classes)}"
        )
    return array.astype(np.uint8)


def check_axes(shape: tuple[int, ...]) -> None:
    """Refuse a last axis of colours.

    Raises
    ------
    LabelMapError
        The shape is (H, W, 1), (H, W, 3) or (H, W, 4).
    """
    if len(shape) == 3 and shape[2] in (1, 3, 4) and min(shape[:2]) > 4:
        advice = (
            "take mask[..., 0]" if shape[2] == 1 else "make class ids of the colours, or take the channel that has them"
        )
        raise LabelMapError(
            f"a label map must have shape (H, W), or (N, H, W) for many; {shape} has an axis of {shape[2]} last, as "
            f"pictures have: {advice}"
        )


def looks_one_hot(stack: NDArray[np.integer], num_classes: int) -> bool:
    """Say whether a stack of label maps, (N, H, W), is most likely one map with an axis of classes.

    It is if N is the number of all or of the foreground classes and the maps are of zeros and ones that nowhere overlap
    (with the background among them, and add up to one).
    """
    if stack.ndim != 3 or len(stack) not in (num_classes, num_classes - 1) or len(stack) < 2 or stack.max() > 1:
        return False
    covered = stack.sum(axis=0)
    return bool((covered == 1).all() if len(stack) == num_classes else covered.max() == 1)


def one_hot_note(count: int) -> str:
    """Return what to say of a stack that `looks_one_hot`."""
    return (
        f"a stack of {count} label maps of zeros and ones looks one-hot, and each is drawn as an image of class 1: if "
        "it is, make one map of class ids of it (sum of id * map)"
    )


class OneHotWarning(UserWarning):
    """A stack of label maps looks like one map with an axis of classes."""


class AspectRatioWarning(UserWarning):
    """Resizing changes the shapes in images or label maps: bodies become wider or narrower."""


def aspect_change(size: tuple[int, int], new: tuple[int, int]) -> str | None:
    """Return what is wrong with resizing (height, width) `size` to `new`, or None where the aspect ratio stays."""
    if abs(math.log(size[0] * new[1] / (size[1] * new[0]))) <= _ASPECT_TOLERANCE:
        return None
    return f"{size[0]}x{size[1]} to {new[0]}x{new[1]} changes the aspect ratio: crop or pad first"


def resize_nearest(label_map: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize a label map, (H, W), to (height, width) by nearest neighbour, sampling at pixel centres."""
    rows = (2 * np.arange(height) + 1) * label_map.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * label_map.shape[1] // (2 * width)
    resized: NDArray[np.uint8] = label_map[rows[:, None], columns]
    return resized


def colorize(label_map: NDArray[np.uint8], classes: Sequence[LabelClass]) -> NDArray[np.uint8]:
    """Paint a label map, (H, W), in its classes' colours: (H, W, 3) uint8."""
    colors: NDArray[np.uint8] = np.array([c.color for c in classes], np.uint8)
    return colors[label_map]


def _find_class(name: str, classes: Sequence[LabelClass]) -> LabelClass:
    if not isinstance(name, str):
        raise OptionError(f"{name!r} is no class name: there are {_listed(classes[1:])}")
    by_name = {c.name.casefold(): c for c in classes}
    found = by_name.get(name.strip().casefold())
    if found is None:
        near = difflib.get_close_matches(name.strip().casefold(), by_name, n=1, cutoff=0.4)
        hint = f"did you mean '{by_name[near[0]].name}'?" if near else f"there are {_listed(classes[1:])}"
        raise OptionError(f"there is no class '{name.strip()}': {hint}")
    return found


def _listed(classes: Sequence[LabelClass]) -> str:
    return ", ".join(f"'{c.name}'" for c in classes)


def foreground_subsets(classes: Sequence[LabelClass]) -> list[tuple[str, ...]]:
    """Return the names of every non-empty subset of the foreground classes: all of them first, single ones last."""
    names = [each.name for each in classes[1:]]
    return [some for size in range(len(names), 0, -1) for some in itertools.combinations(names, size)]
