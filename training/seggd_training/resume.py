"""The resume state: all that a run needs to go on as if it had never stopped, in a file of tensors and plain values.

    {"format": "seggd-resume/1", "options": those that decide the weights, "data": SHA-256 of the training images,
     "step", "best_val_loss", "elapsed_s", "world_size", "weights", "optimizer", "ema", "scaler"}

The data order and all random numbers are functions of the seed and the image's number in the run, so the step stands
for them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from seggd_export.checkpoint import load_weights_only, save_atomically
from seggd_rt.errors import CheckpointError
from seggd_training.data import Dataset

FORMAT = "seggd-resume/1"


@dataclass(frozen=True, kw_only=True)
class ResumeState:
    """A run after `step` steps."""

    options: dict[str, Any]
    data: str
    step: int
    best_val_loss: float | None
    elapsed_s: float
    world_size: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    ema: dict[str, Tensor]
    scaler: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        save_atomically({"format": FORMAT, **content}, path)

    @classmethod
    def load(cls, path: Path) -> ResumeState:
        """Read a state that `save` wrote, onto the CPU.

        Raises
        ------
        CheckpointError
            The file is missing, damaged, unsafe or of another form.
        """
        content = load_weights_only(path)
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise CheckpointError(f"{path} is no resume state of this version: it does not say format '{FORMAT}'")
        if content.keys() != cls.__dataclass_fields__.keys():
            odd = sorted(content.keys() ^ cls.__dataclass_fields__.keys())
            raise CheckpointError(f"{path} is no whole resume state: '{odd[0]}' is missing or unknown")
        return cls(**content)


def fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256 of a data set's images, masks and class names."""
    digest = hashlib.sha256(repr((dataset.images.shape, [c.name for c in dataset.classes])).encode())
    digest.update(dataset.images.tobytes())
    digest.update(dataset.label_maps.tobytes())
    return digest.hexdigest()
