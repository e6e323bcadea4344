"""Images that took long to draw, kept in the output folder beside the settings that they were drawn with."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import DataError
from seggd_rt.files import write_file
from seggd_training.data import read_npz


def kept_or_drawn(
    path: Path, settings: Mapping[str, str | int], draw: Callable[[], NDArray[Any]], *, force: bool
) -> NDArray[Any]:
    """Return the images of an earlier run with the same settings, or draw them and keep them.

    Raises
    ------
    DataError
        The file is damaged.
    OutputError
        It cannot be written.
    """
    if not force and (images := kept_images(path, settings)) is not None:
        return images
    images = draw()
    keep_images(path, settings, images)
    return images


def kept_images(path: Path, settings: Mapping[str, str | int]) -> NDArray[Any] | None:
    """Return kept images; None where there are none, or of other settings.

    Raises
    ------
    DataError
        The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        found = read_npz(path, ("images", "settings"))
    except DataError as error:
        raise DataError(f"{error}, or delete it, and evaluate makes it again") from error
    if len(found) < 2:
        raise DataError(f"{path} lacks images or settings: delete it, and evaluate makes it again")
    return found["images"] if str(found["settings"]) == _text(settings) else None


def is_kept(path: Path) -> bool:
    """Say whether a file is one of kept images, of any settings."""
    try:
        return len(read_npz(path, ("settings",))) == 1
    except DataError:
        return False


def keep_images(path: Path, settings: Mapping[str, str | int], images: NDArray[Any]) -> None:
    """Keep images.

    Raises
    ------
    OutputError
        They cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, settings=np.array(_text(settings)))
    write_file(path, buffer.getvalue())


def _text(settings: Mapping[str, str | int]) -> str:
    return json.dumps(dict(settings), sort_keys=True)
