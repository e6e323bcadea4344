"""Start a training run from the weights of another checkpoint, for example one of smaller images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from seggd_export.checkpoint import Checkpoint, CheckpointConfig
from seggd_rt.errors import CheckpointError, OptionError

_SHOWN = 400
_SIZE = "sample_size"
"""The only entry of a UNet2DModel's configuration that no weight depends on."""


def load_initial_weights(network: nn.Module, config: CheckpointConfig, path: Path) -> None:
    """Load the best weights of a checkpoint into a new network. The image size may differ.

    Parameters
    ----------
    network
        The network to fill, as `config.unet` describes it.
    config
        What the new run trains.
    path
        A `.pt` file of `seggd-rt train` or `seggd-rt slim`.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or holds weights of other shapes.
    OptionError
        The checkpoint has another network, other classes, another mask encoding or another prediction type.
    """
    source = Checkpoint.load(path)
    if different := _differences(source.config.unet, config.unet):
        raise OptionError(
            f"--init {path} has another network than this run ({different}): "
            "choose the same options, or leave --init out"
        )
    for name, old, new in (
        ("classes", [c.name for c in source.config.classes], [c.name for c in config.classes]),
        ("mask encoding", source.config.encoding.value, config.encoding.value),
        ("prediction", source.config.schedule.prediction.value, config.schedule.prediction.value),
    ):
        if old != new:
            raise OptionError(
                f"--init {path} has another {name} than this run ({old}, here {new}): "
                "choose the same options, or leave --init out"
            )
    weights = source.best_weights()
    if whole := [name for name, tensor in weights.items() if not tensor.is_floating_point()]:
        raise CheckpointError(
            f"{path} has a weight '{whole[0]}' of type {weights[whole[0]].dtype}: save the weights as floats"
        )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} holds weights that do not fit its own network ({reason[:_SHOWN]}): give another checkpoint"
        ) from error


def _differences(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """Return the entries that differ between two networks' configurations, as "key old, here new; ..."."""
    different = [
        f"{key} {old.get(key, 'not set')}, here {new.get(key, 'not set')}"
        for key in sorted(old.keys() | new.keys())
        if key != _SIZE and (key in old, old.get(key)) != (key in new, new.get(key))
    ]
    return "; ".join(different)
