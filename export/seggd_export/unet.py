"""The configuration of diffusers' UNet2DModel: read off the weights, checked, and built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diffusers import UNet2DModel

from seggd_export.source import StateDict
from seggd_export.unet_settings import plan_unet
from seggd_rt.errors import CheckpointError

ASSUMED: Mapping[str, Any] = {
    "act_fn": "silu",
    "attention_head_dim": 8,
    "center_input_sample": False,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
}
"""What no tensor shows, at diffusers' defaults, which the SegGuidedDiff reference keeps.

Parity cannot notice a wrong one: PyTorch's network is built from the same guess. Only the images can.
"""


def derive_config(weights: StateDict) -> dict[str, Any]:
    """Return the configuration that names and shapes of a state dict show; see ASSUMED for the rest.

    Raises
    ------
    CheckpointError
        It is not the state dict of a UNet2DModel.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name, axes in (("conv_in.weight", 4), ("conv_out.weight", 4), ("time_embedding.linear_1.weight", 2)):
        if len(shapes.get(name, ())) != axes:
            raise CheckpointError(f"the weights are not those of diffusers' UNet2DModel: there is no '{name}'")
    if "time_proj.weight" in shapes or any(name.startswith("class_embedding.") for name in shapes):
        raise CheckpointError(
            "the network has a learned or Fourier time embedding, or takes class labels: neither is supported"
        )
    down, up = _levels(shapes, "down_blocks"), _levels(shapes, "up_blocks")
    first = "down_blocks.0.resnets.0."
    if not down or down != up or first + "time_emb_proj.weight" not in shapes:
        raise CheckpointError(f"the weights are not those of diffusers' UNet2DModel: {down} down, {up} up blocks")
    channels = [shapes[f"down_blocks.{i}.resnets.0.conv1.weight"][0] for i in range(down)]
    time_dim = shapes["time_embedding.linear_1.weight"][0]
    scale_shift = shapes[first + "time_emb_proj.weight"][0] == 2 * channels[0]
    mid_norm = "mid_block.attentions.0.group_norm.weight" in shapes
    return {
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": len({name.split(".")[3] for name in shapes if name.startswith("down_blocks.0.resnets.")}),
        "down_block_types": [_block_type(shapes, "down", i) for i in range(down)],
        "up_block_types": [_block_type(shapes, "up", i) for i in range(up)],
        "downsample_type": "resnet" if _resamples_by_resnet(shapes, "down") else "conv",
        "upsample_type": "resnet" if _resamples_by_resnet(shapes, "up") else "conv",
        "mid_block_type": "UNetMidBlock2D" if any(name.startswith("mid_block.") for name in shapes) else None,
        "add_attention": any(name.startswith("mid_block.attentions.") for name in shapes),
        "resnet_time_scale_shift": "scale_shift" if scale_shift else "default",
        "attn_norm_num_groups": ASSUMED["norm_num_groups"] if scale_shift and mid_norm else None,
        "time_embedding_dim": None if time_dim == 4 * channels[0] else time_dim,
    }


def check_assumed(config: Mapping[str, Any], weights: StateDict) -> None:
    """Refuse assumed values that the weights contradict.

    Raises
    ------
    CheckpointError
        A value cannot be the network's; the message says how to give it.
    """
    groups, head_dim = config.get("norm_num_groups"), config.get("attention_head_dim")
    for name, tensor in weights.items():
        norm = re.search(r"(^|\.)(norm\d|group_norm|conv_norm_out)\.weight$", name)
        if norm and groups and tensor.shape[0] % groups:
            raise CheckpointError(
                f"norm_num_groups cannot be {groups}, as '{name}' has {tensor.shape[0]} channels: "
                "give it in a JSON file by --unet-config"
            )
        if name.endswith(".to_q.weight") and head_dim and tensor.shape[0] % head_dim:
            raise CheckpointError(
                f"attention_head_dim cannot be {head_dim}, as '{name}' has {tensor.shape[0]} rows: "
                "give it in a JSON file by --unet-config"
            )


def build_unet(config: Mapping[str, Any], weights: StateDict) -> UNet2DModel:
    """Return diffusers' network with these weights, in evaluation mode.

    Raises
    ------
    CheckpointError
        The configuration is unknown to diffusers or not supported here, or the weights do not fit it.
    """
    if whole := [name for name, tensor in weights.items() if not tensor.is_floating_point()]:
        raise CheckpointError(
            f"the weight '{whole[0]}' has the wrong type ({weights[whole[0]].dtype}): save the weights as floats"
        )
    unet = plan_unet(config)  # no memory and no random numbers for weights that are replaced at once
    try:
        unet.load_state_dict(dict(weights), strict=False, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the weights do not fit the network's configuration: {reason[:400]}") from error
    # Compared here, as load_state_dict overlooks weights of a module that is None.
    names = unet.state_dict().keys()
    missing, unexpected = sorted(names - weights.keys()), sorted(weights.keys() - names)
    if missing or unexpected:
        sample = ", ".join(
            [*(f"'{n}' is missing" for n in missing[:2]), *(f"'{n}' is too many" for n in unexpected[:2])]
        )
        raise CheckpointError(
            f"the weights do not fit the network's configuration: {sample} "
            f"({len(missing)} missing and {len(unexpected)} too many in all)"
        )
    built: UNet2DModel = unet.eval().requires_grad_(False)
    return built


def _levels(shapes: Mapping[str, Any], blocks: str) -> int:
    return len({name.split(".")[1] for name in shapes if name.startswith(f"{blocks}.")})


def _block_type(shapes: Mapping[str, Any], way: str, level: int) -> str:
    block = f"{way}_blocks.{level}."
    if block + "attentions.0.to_q.weight" in shapes:
        return f"Attn{way.title()}Block2D"
    if f"{block}{way}samplers.0.norm1.weight" in shapes:
        return f"Resnet{way.title()}sampleBlock2D"
    return f"{way.title()}Block2D"


def _resamples_by_resnet(shapes: Mapping[str, Any], way: str) -> bool:
    return any(re.fullmatch(rf"{way}_blocks\.\d+\.{way}samplers\.0\.norm1\.weight", name) for name in shapes)
