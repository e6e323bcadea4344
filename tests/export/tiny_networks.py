"""Tiny networks: an untrained one for the mechanics, one trained on discs, whose images do not amplify rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel

from seggd_export.checkpoint import Checkpoint, CheckpointConfig, Provenance
from seggd_rt.diffusion import MaskEncoding, NoiseSchedule, Prediction, name_classes

CLASSES = ("background", "ring", "disc")

WIDE: dict[str, Any] = {
    "sample_size": [16, 24],
    "in_channels": 5,
    "out_channels": 3,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
"""RGB, 16x24, two classes one-hot."""

DISCS: dict[str, Any] = {
    "sample_size": 32,
    "in_channels": 2,
    "out_channels": 1,
    "block_out_channels": [16, 32, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 8,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
"""Grey, 32x32, label / 255: the reference's kind of network in small."""


def random_unet(config: dict[str, Any], seed: int = 0) -> UNet2DModel:
    """A network whose every tensor is random, also those that diffusers starts at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    unet = UNet2DModel(**config).eval().requires_grad_(False)
    for name, parameter in unet.named_parameters():
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        scale = 0.2 if parameter.ndim == 1 else 1.5 / parameter[0].numel() ** 0.5
        parameter.copy_(centre + scale * torch.randn(parameter.shape, generator=generator))
    return unet


def wide_checkpoint(prediction: Prediction = Prediction.V) -> Checkpoint:
    """A checkpoint of ours, of the WIDE network; v prediction keeps an untrained network's images from diverging."""
    config = CheckpointConfig(
        unet=WIDE,
        image_channels=3,
        height=16,
        width=24,
        classes=name_classes(CLASSES),
        encoding=MaskEncoding.ONE_HOT,
        schedule=NoiseSchedule(prediction=prediction),
        ablation=True,
        intensity_range=(-1000, 1000),
        provenance=Provenance(training_data="made-up discs", licence="CC0-1.0", step=7, seed=1),
    )
    return Checkpoint(config, weights=random_unet(WIDE, 1).state_dict(), ema=random_unet(WIDE).state_dict())


def disc_checkpoint(unet: UNet2DModel) -> Checkpoint:
    """A checkpoint of ours, of the DISCS network, as `train_on_discs` trains it."""
    config = CheckpointConfig(
        unet=DISCS,
        image_channels=1,
        height=32,
        width=32,
        classes=name_classes(CLASSES),
        encoding=MaskEncoding.LABEL_OVER_255,
        schedule=NoiseSchedule(),
        ablation=True,
        provenance=Provenance(training_data="made-up discs", licence="CC0-1.0", step=100, seed=0),
    )
    return Checkpoint(config, weights=unet.state_dict(), ema=unet.state_dict())


def disc_label_maps(count: int, size: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(count, size, size) uint8: a disc in a ring, each somewhere else."""
    y, x = np.mgrid[:size, :size]
    centre = rng.uniform(0.35, 0.65, (count, 2, 1, 1)) * size
    radius = np.hypot(y - centre[:, 0], x - centre[:, 1])
    return (np.uint8(radius < 0.3 * size) + (radius < 0.18 * size)).astype(np.uint8)


def train_on_discs(steps: int = 100) -> UNet2DModel:
    """Train the DISCS network a little, as the reference trains: epsilon, labels / 255 beside the image."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    unet = UNet2DModel(**DISCS).train()
    scheduler = DDPMScheduler()
    optimiser = torch.optim.AdamW(unet.parameters(), lr=3e-3)
    levels = np.array([-0.8, 0.1, 0.7], np.float32)
    for _ in range(steps):
        labels = disc_label_maps(4, 32, rng)[:, None]
        images = torch.from_numpy(levels[labels])
        noise = torch.randn(images.shape)
        timesteps = torch.randint(0, 1000, (4,))
        noisy = scheduler.add_noise(images, noise, timesteps)
        mask = torch.from_numpy(labels.astype(np.float32) / 255)
        loss = torch.nn.functional.mse_loss(unet(torch.cat([noisy, mask], 1), timesteps).sample, noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return unet.eval().requires_grad_(False)
