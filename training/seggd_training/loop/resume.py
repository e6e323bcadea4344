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
from typing import Annotated, Any, TypedDict

import msgspec
from torch import Tensor

from seggd_export.checkpoint import load_weights_only, save_atomically
from seggd_rt.errors import CheckpointError
from seggd_training.data import Dataset

FORMAT = "seggd-resume/1"


class OptimizerState(TypedDict):
    """Of a PyTorch optimizer: the tensors of each parameter, by its number, and the settings of the groups."""

    state: dict[int, dict[str, Tensor]]
    param_groups: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ResumeState:
    """A run after `step` steps."""

    options: dict[str, Any]
    data: str
    step: Annotated[int, msgspec.Meta(ge=0)]
    best_val_loss: float | None
    elapsed_s: Annotated[float, msgspec.Meta(ge=0)]
    world_size: int
    weights: dict[str, Tensor]
    optimizer: OptimizerState
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
            odd = sorted(map(str, content.keys() ^ cls.__dataclass_fields__.keys()))
            raise CheckpointError(f"{path} is no whole resume state: '{odd[0]}' is missing or unknown")
        try:
            msgspec.json.encode((content["options"], content["scaler"]))  # refuses all but plain values
            return msgspec.convert(content, cls)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise CheckpointError(
                f"{path} is not a complete resume state ({error}): start another run in a new folder"
            ) from error


def fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256 of a data set's images, masks and class names."""
    digest = hashlib.sha256(repr((dataset.images.shape, [c.name for c in dataset.classes])).encode())
    digest.update(dataset.images.tobytes())
    digest.update(dataset.label_maps.tobytes())
    return digest.hexdigest()
