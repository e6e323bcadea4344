"""The network's configuration is read off the weights alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DModel

from seggd_export.unet import ASSUMED, build_unet, check_assumed, derive_config
from seggd_rt.errors import CheckpointError
from tests.export.graphs.test_network import CONFIGS
from tests.export.tiny_networks import DISCS, WIDE, random_unet

REFERENCE: dict[str, Any] = {
    "sample_size": 256,
    "in_channels": 2,
    "out_channels": 1,
    "layers_per_block": 2,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
}
"""The network of the SegGuidedDiff reference."""


def shapes_of(config: dict[str, Any]) -> tuple[UNet2DModel, dict[str, torch.Tensor]]:
    with torch.device("meta"):
        unet = UNet2DModel(**config)
    return unet, unet.state_dict()


@pytest.mark.parametrize("base", [WIDE, DISCS], ids=["wide", "discs"])
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_derived_configuration_builds_the_same_network(base: dict[str, Any], changes: dict[str, Any]) -> None:
    if base is DISCS and ("down_block_types" in changes or "block_out_channels" in changes):
        changes = {}
    unet = random_unet({**base, **changes})
    derived = derive_config(unet.state_dict())
    unseen = {key: unet.config[key] for key in [*ASSUMED, "attn_norm_num_groups"]}
    rebuilt = build_unet({**derived, **unseen}, unet.state_dict())
    sample = torch.randn(1, base["in_channels"], 16, 24, generator=torch.Generator().manual_seed(1))
    expected = unet(sample, 500).sample
    torch.testing.assert_close(rebuilt(sample, 500).sample, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    for key in ("in_channels", "out_channels", "block_out_channels", "layers_per_block", "time_embedding_dim"):
        assert derived[key] == unet.config[key], key


def test_reference_network_is_recognised_in_full() -> None:
    unet, weights = shapes_of(REFERENCE)
    config = {**ASSUMED, **derive_config(weights)}
    check_assumed(config, weights)
    assert sum(tensor.numel() for tensor in weights.values()) == 113_669_761
    own = {key: list(value) if isinstance(value, tuple) else value for key, value in unet.config.items()}
    assert {key: own[key] for key in config} == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "norm_num_groups cannot be 32, as"),
        ({"norm_num_groups": 4, "attention_head_dim": 7}, "attention_head_dim cannot be 7"),
    ],
)
def test_assumption_that_cannot_be_true_is_asked_for(changes: dict[str, Any], message: str) -> None:
    _, weights = shapes_of(WIDE)
    with pytest.raises(CheckpointError, match=f"{message}.*--unet-config"):
        check_assumed({**ASSUMED, **derive_config(weights), **changes}, weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_embedding_type": "fourier"}, "Fourier time embedding"),
        ({"time_embedding_type": "learned", "num_train_timesteps": 1000}, "learned or Fourier"),
        ({"num_class_embeds": 3}, "takes class labels"),
    ],
)
def test_network_that_cannot_be_run_is_refused(changes: dict[str, Any], message: str) -> None:
    _, weights = shapes_of({**DISCS, **changes})
    with pytest.raises(CheckpointError, match=message):
        derive_config(weights)


@pytest.mark.parametrize("gone", ["conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight", "up_blocks."])
def test_other_networks_are_not_taken_for_one(gone: str) -> None:
    _, weights = shapes_of(DISCS)
    with pytest.raises(CheckpointError, match="not those of diffusers' UNet2DModel"):
        derive_config({name: tensor for name, tensor in weights.items() if not name.startswith(gone)})
