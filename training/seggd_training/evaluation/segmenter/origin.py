"""Where a segmenter comes from: given, kept from an earlier run into the same folder, or trained now."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from seggd_rt.errors import OptionError
from seggd_training.data import Dataset
from seggd_training.evaluation.progress import progress
from seggd_training.evaluation.segmenter.network import Segmenter, SegmenterConfig
from seggd_training.evaluation.segmenter.training import train_segmenter
from seggd_training.loop import fingerprint

Say = Callable[[str], None]
"""Takes a line for the user."""
POOR_DICE = 0.6
"""Below this on real images, a segmenter judges itself more than the images it is shown."""


class PoorSegmenterWarning(UserWarning):
    """A segmenter does badly on real images, so its figures for generated ones say little."""


@dataclass(frozen=True)
class Origin:
    """A segmenter, and where it comes from."""

    segmenter: Segmenter
    source: str
    on_this_data: bool
    seconds: float = 0.0


def segmenter_config(train_set: Dataset, steps: int | None = None) -> SegmenterConfig:
    """Return the configuration of a segmenter of a data set; its own number of steps if None."""
    height, width, channels = train_set.images.shape[1:]
    names = tuple(c.name for c in train_set.classes)
    config = SegmenterConfig(channels=channels, height=height, width=width, classes=names)
    return config if steps is None else msgspec.structs.replace(config, steps=steps)


def given_segmenter(path: Path, train_set: Dataset, *, device: torch.device | None = None) -> Origin:
    """Read a segmenter that fits a data set, onto a device; by default onto the first GPU, else the CPU.

    Raises
    ------
    CheckpointError
        The file is no segmenter.
    OptionError
        It is for other images or classes.
    """
    found, wanted = Segmenter.load(path, device=device), segmenter_config(train_set)
    for field in ("channels", "height", "width", "classes"):
        if getattr(found.config, field) != getattr(wanted, field):
            raise OptionError(
                f"{path} is a segmenter for {field} {getattr(found.config, field)}; bundle and data have "
                f"{getattr(wanted, field)}: leave --segmenter out to train one"
            )
    return Origin(found, f"loaded from {path.name}", found.data == fingerprint(train_set))


def own_segmenter(path: Path, train_set: Dataset, config: SegmenterConfig, say: Say, *, force: bool) -> Origin:
    """Load the fitting segmenter of an earlier run, or train one and keep it there.

    Parameters
    ----------
    path
        Where it is kept.
    train_set, config
        What it is trained on, and how.
    say
        Told which of the two happens, where that is not plain.
    force
        Whether one of other data or settings is replaced.

    Raises
    ------
    OptionError
        There is one of other data or settings.
    """
    if path.exists():
        found = Segmenter.load(path)
        if found.config == config and found.data == fingerprint(train_set):
            say(f"segmenter: {path} was trained on this data with these settings, and is used again")
            return Origin(found, "kept from an earlier run", on_this_data=True)
        if not force:
            raise OptionError(
                f"{path} was trained on other data or with other settings: give another folder with -o, or replace it "
                "by --force"
            )
        say(f"segmenter: {path} was trained on other data or with other settings; training another")
    began = time.monotonic()
    with progress(f"training {path.stem}", config.steps) as advance:
        trained = train_segmenter(train_set, config, on_step=lambda step, loss: advance(step))
    trained.save(path)
    return Origin(trained, "trained in this run", on_this_data=True, seconds=time.monotonic() - began)
