"""UNets by name: configurations of diffusers' UNet2DModel, and the network they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from diffusers import UNet2DModel
from torch import nn

from seggd_export.unet_settings import check_settings, plan_unet
from seggd_rt.errors import CheckpointError, OptionError
from seggd_rt.files import MAX_JSON_BYTES, decode, read_file


def _unet(widths: tuple[int, ...], attention: int, **more: Any) -> dict[str, Any]:
    """Describe a UNet with one self-attention level, mirrored on the way up."""
    down = ["DownBlock2D"] * len(widths)
    up = ["UpBlock2D"] * len(widths)
    down[attention], up[-1 - attention] = "AttnDownBlock2D", "AttnUpBlock2D"
    return {"block_out_channels": list(widths), "down_block_types": down, "up_block_types": up, **more}


NETWORKS: dict[str, dict[str, Any]] = {
    # For tests: a step takes milliseconds.
    "tiny": _unet((8, 16), 1, layers_per_block=1, norm_num_groups=4, attention_head_dim=8),
    # 5.6 M parameters: 11 MB in float16, and the most images a second found at 64x64 on CPU cores.
    "small": _unet((32, 64, 128, 160), 3, layers_per_block=1, norm_num_groups=8, attention_head_dim=32),
    # 113.67 M parameters: the SegGuidedDiff reference's.
    "reference": _unet((128, 128, 256, 256, 512, 512), 4, layers_per_block=2),
}


def unet_config(network: str, *, image_channels: int, mask_channels: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return the whole configuration of a network by name, or of a JSON file with one of UNet2DModel.

    Raises
    ------
    OptionError
        There is no such name or file, the file contradicts the data, or the image cannot be halved as often as
        the network has levels.
    """
    config = dict(NETWORKS[network]) if network in NETWORKS else _read_json(Path(network))
    try:
        levels = check_settings(config)
    except CheckpointError as error:
        raise OptionError(f"--network {network}: {error}") from error
    wanted = {"in_channels": image_channels + mask_channels, "out_channels": image_channels, "sample_size": list(size)}
    for key in ("in_channels", "out_channels"):
        if config.get(key, wanted[key]) != wanted[key]:
            raise OptionError(f"{network} says {key} {config[key]}; this data and mask encoding need {wanted[key]}")
    step = 1 << (levels - 1)
    if size[0] % step or size[1] % step:
        raise OptionError(
            f"images are {size[0]}x{size[1]}; a network of {levels} levels needs multiples of {step}: give --image-size"
        )
    return {**config, **wanted}


def build_unet(config: dict[str, Any]) -> nn.Module:
    """Build a UNet2DModel with random weights.

    Raises
    ------
    OptionError
        The configuration makes no UNet2DModel, or one that is too large.
    """
    try:
        plan_unet(config)
    except CheckpointError as error:
        raise OptionError(str(error)) from error
    unet: nn.Module = UNet2DModel(**config)
    return unet


def _read_json(path: Path) -> dict[str, Any]:
    try:
        config = decode(read_file(path, MAX_JSON_BYTES))
    except FileNotFoundError as error:
        raise OptionError(f"there is no network '{path}': name one of {', '.join(NETWORKS)}, or a JSON file") from error
    except (msgspec.DecodeError, OSError) as error:
        raise OptionError(
            f"{path} cannot be read as JSON ({error}): write the configuration of a UNet2DModel there, or name one of "
            f"{', '.join(NETWORKS)}"
        ) from error
    if not isinstance(config, dict):
        raise OptionError(f"{path} must hold one JSON object, the configuration of a UNet2DModel")
    # What diffusers adds to the config.json it writes.
    return {key: value for key, value in config.items() if not key.startswith("_")}
