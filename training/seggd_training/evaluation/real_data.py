"""Real images of what a bundle draws."""

from __future__ import annotations

from pathlib import Path

from seggd_rt.bundle import Meaning
from seggd_rt.errors import DataError
from seggd_rt.imaging import PLAIN, Reading
from seggd_rt.wording import counted
from seggd_training.data import Dataset, Split, load_dataset, names_classes


def load_split(path: Path, split: Split, meaning: Meaning, reading: Reading = PLAIN) -> Dataset:
    """Load a split at a bundle's size and in its intensity range, and check that it is what the bundle draws.

    Raises
    ------
    DataError
        The data cannot be read, is of other classes or channels, or has no foreground.
    """
    names = tuple(c.name for c in meaning.classes)
    image = meaning.image
    dataset = load_dataset(
        path,
        split=split,
        image_size=(image.height, image.width),
        classes=None if names_classes(path) else names,
        intensity_range=meaning.intensity_range,
        reading=reading,
    )
    own = tuple(c.name for c in dataset.classes)
    if own != names:
        raise DataError(
            f"{path} has the classes {', '.join(own)}; the bundle has {', '.join(names)}: they must be the same"
        )
    if dataset.images.shape[3] != image.channels:
        channels = counted(dataset.images.shape[3], "channel")
        raise DataError(f"{path} has images of {channels}; the bundle draws {image.channels}")
    if not dataset.label_maps.any():
        raise DataError(f"{path} has no mask with foreground in split {split}: there is nothing to measure")
    return dataset
