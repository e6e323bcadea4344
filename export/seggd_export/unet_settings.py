"""Settings of diffusers' UNet2DModel from files: their types, their ranges, and a network that they really make."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import torch
from diffusers import UNet2DModel

from seggd_rt.errors import CheckpointError

_BLOCKS = {
    "down": ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
    "up": ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
}
_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D", None),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
_MOST_PARAMETERS = 1 << 30
"""Nine times those of the SegGuidedDiff reference: 4 GiB in float32."""
_SHOWN = 400

_Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 14)]
_Levels = msgspec.Meta(min_length=1, max_length=12)
_Positive = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """UNet2DModel's parameters with their ranges.

    Others have one value alone, are unknown, or, as sample_size, decide nothing.
    """

    in_channels: _Count = 3
    out_channels: _Count = 3
    center_input_sample: bool = False
    time_embedding_dim: _Count | None = None
    freq_shift: Annotated[float, msgspec.Meta(ge=-16, le=16)] = 0
    flip_sin_to_cos: bool = True
    down_block_types: Annotated[tuple[str, ...], _Levels] = ("",) * 4
    up_block_types: Annotated[tuple[str, ...], _Levels] = ("",) * 4
    block_out_channels: Annotated[tuple[_Count, ...], _Levels] = (224, 448, 672, 896)
    layers_per_block: Annotated[int, msgspec.Meta(ge=1, le=32)] = 2
    mid_block_scale_factor: _Positive = 1
    downsample_padding: Literal[0, 1] = 1
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    attention_head_dim: _Count | None = 8
    norm_num_groups: _Count = 32
    attn_norm_num_groups: _Count | None = None
    norm_eps: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1e-5
    add_attention: bool = True
    num_train_timesteps: _Count | None = None

    def __post_init__(self) -> None:
        """Check that every level has a width and its blocks."""
        lengths = len(self.block_out_channels), len(self.down_block_types), len(self.up_block_types)
        if len(set(lengths)) > 1:
            names = "block_out_channels, down_block_types and up_block_types"
            raise ValueError(f"{names} differ in length ({', '.join(map(str, lengths))}): give one entry a level")


def check_settings(config: Mapping[str, Any]) -> int:
    """Check the types and ranges of a configuration, and return the number of its levels.

    Raises
    ------
    CheckpointError
        A setting is unknown to diffusers, not supported here, of another type or outside its range.
    """
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise CheckpointError(f"the network is a {config['_class_name']}; only diffusers' UNet2DModel is supported")
    known = set(inspect.signature(UNet2DModel.__init__).parameters) - {"self"}
    unknown = sorted(str(key) for key in config if key not in known and not str(key).startswith("_"))
    if unknown:
        raise CheckpointError(
            f"the network's configuration has an unknown key ('{unknown[0]}'): remove it, or install a newer diffusers"
        )
    for key, allowed in _SUPPORTED.items():
        if key in config and config[key] not in allowed:
            values = " or ".join(map(repr, allowed))
            raise CheckpointError(f"the network's {key} is not supported ({config[key]!r}): use {values}")
    try:
        settings = msgspec.convert({key: value for key, value in config.items() if key in known}, _Settings)
    except (msgspec.ValidationError, RecursionError) as error:
        raise CheckpointError(f"the network's configuration makes no UNet2DModel: {error}") from error
    for way, allowed in _BLOCKS.items():
        strange = sorted(set(config.get(f"{way}_block_types", ())) - set(allowed))
        if strange:
            raise CheckpointError(f"the {way} block '{strange[0]}' is not supported: use {' or '.join(allowed)}")
    return len(settings.block_out_channels)


def plan_unet(config: Mapping[str, Any]) -> UNet2DModel:
    """Return the network of a configuration without memory for its weights (PyTorch's meta device), once run there.

    Raises
    ------
    CheckpointError
        The settings make no network that runs, or one of more than 2^30 parameters.
    """
    levels = check_settings(config)
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    try:
        with warnings.catch_warnings(), torch.device("meta"), torch.no_grad():
            warnings.simplefilter("ignore")  # of layers without weights, which are refused here
            unet: UNet2DModel = UNet2DModel(**settings)
            side = 1 << (levels - 1)  # the smallest that can be halved as often
            unet(torch.empty(1, unet.config.in_channels, side, side), torch.zeros(1))
    # What diffusers and PyTorch raise for settings that contradict each other.
    except (ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the network's configuration makes no UNet2DModel: {reason[:_SHOWN]}") from error
    parameters = sum(weight.numel() for weight in unet.parameters())
    if parameters > _MOST_PARAMETERS:
        raise CheckpointError(
            f"the network is too large ({parameters} parameters): use one of at most {_MOST_PARAMETERS}"
        )
    return unet
