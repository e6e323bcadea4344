"""Start a training run from the weights of another checkpoint, for example one of smaller images."""

from __future__ import annotations

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
    for name, old, new in (
        ("network", _architecture(source.config), _architecture(config)),
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
        raise CheckpointError(f"{path} has a weight '{whole[0]}' of {weights[whole[0]].dtype}: it must be of floats")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} holds weights that do not fit its own network: {reason[:_SHOWN]}") from error


def _architecture(config: CheckpointConfig) -> dict[str, object]:
    return {key: value for key, value in config.unet.items() if key != _SIZE}
