"""What two parts of a data set must not share: patients, and images."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np

from seggd_rt.errors import DataError
from seggd_rt.wording import counted, either, some_of
from seggd_training.data.dataset import Dataset


class LeakageWarning(UserWarning):
    """An image lies in two parts of the data."""


def check_apart(first: Dataset, second: Dataset) -> str | None:
    """Refuse patients that two splits share, and warn about images that lie in both.

    Returns
    -------
    str or None
        The warning that was given, for a report.

    Raises
    ------
    DataError
        A patient has images in both.
    """
    if first.patients is not None and second.patients is not None:
        shared = np.intersect1d(first.patients, second.patients)
        if shared.size:
            verb = either(shared.size, "has", "have")
            raise DataError(
                f"{counted(shared.size, 'patient')} {verb} images in both {first.split} and {second.split} "
                f"({some_of([str(patient) for patient in shared])}): figures would tell what is remembered, not what "
                "is learnt. Give each patient one split"
            )
    known = {key: name for key, name in zip(_hashes(first), first.names, strict=True) if key is not None}
    twice = [(known[key], name) for key, name in zip(_hashes(second), second.names, strict=True) if key in known]
    if not twice:
        return None
    pairs = some_of([f"{second.split} {mine} = {first.split} {theirs}" for theirs, mine in twice])
    message = (
        f"{counted(len(twice), 'image')} of {second.split} {either(len(twice), 'lies', 'lie')} in {first.split} too "
        f"({pairs}): figures on {second.split} are better than the network"
    )
    warnings.warn(message, LeakageWarning, stacklevel=2)
    return message


def _hashes(dataset: Dataset) -> list[bytes | None]:
    """Return each image's hash, None for one without any structure, as an empty slice is."""
    return [hashlib.sha256(image.tobytes()).digest() if image.min() < image.max() else None for image in dataset.images]
