"""The network that is traced computes what diffusers' does, for every kind of block that is supported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DModel

from seggd_export.graphs import Network
from seggd_export.graphs.network import GroupNorm
from seggd_rt.diffusion import PARITY_LIMIT, Precision, relative_errors
from tests.export.tiny_networks import DISCS, WIDE, random_unet

CONFIGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "resnet resampling": {"downsample_type": "resnet", "upsample_type": "resnet"},
    "resnet blocks": {
        "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    },
    "scale and shift": {"resnet_time_scale_shift": "scale_shift"},
    "scale, shift and a middle norm": {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 2},
    "no middle attention": {"add_attention": False},
    "no middle": {"mid_block_type": None},
    "middle scaled": {"mid_block_scale_factor": 2.0},
    "one head": {"attention_head_dim": None},
    "sine first": {"flip_sin_to_cos": False, "freq_shift": 1},
    "odd embedding": {"block_out_channels": [9, 18], "norm_num_groups": 3, "attention_head_dim": 6},
    "input centred": {"center_input_sample": True},
    "asymmetric padding": {"downsample_padding": 0},
    "own time width": {"time_embedding_dim": 20},
    "gelu": {"act_fn": "gelu"},
    "three layers": {"layers_per_block": 3},
}


@pytest.mark.parametrize("base", [WIDE, DISCS], ids=["wide", "discs"])
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_equals_diffusers(base: dict[str, Any], changes: dict[str, Any]) -> None:
    if base is DISCS and ("down_block_types" in changes or "block_out_channels" in changes):
        changes = {}
    unet = random_unet({**base, **changes})
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(3, base["in_channels"], 16, 24, generator=generator)
    timestep = torch.tensor([0.0, 255.0, 999.0])
    expected = unet(sample, timestep).sample
    assert float(expected.std()) > 0.05
    assert (
        max(relative_errors(Network(unet, 1000)(sample, timestep).numpy(), expected.numpy()))
        < PARITY_LIMIT[Precision.FP32]
    )


def test_time_table_has_diffusers_own_rows(network: Network, wide_unet: UNet2DModel) -> None:
    timesteps = torch.arange(1000)
    assert torch.equal(network.time_table(timesteps.float()), wide_unet.time_proj(timesteps))


def test_leaves_the_unet_alone() -> None:
    unet = random_unet(WIDE)
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    Network(unet, 1000)
    after = unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(isinstance(module, GroupNorm) for module in unet.modules())


def test_float32_modules_are_time_embedding_and_norms(network: Network) -> None:
    kept = network.float32_modules()
    assert {"", "time_embedding.linear_1", "time_act", "conv_norm_out", "mid_block.attentions.0.group_norm"} <= kept
    assert not any("conv1" in name or "to_q" in name or name == "conv_in" for name in kept)
