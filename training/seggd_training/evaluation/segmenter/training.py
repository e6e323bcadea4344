"""Training of the segmenter: real images with their masks, augmented together, by Dice and cross-entropy.

No image is mirrored: in a body, left is not right. Rotations, scalings and shifts, gamma, blur and noise are MONAI's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.transforms import Compose, RandAdjustContrastd, RandAffined, RandGaussianNoised, RandGaussianSmoothd
from torch import Tensor

from seggd_rt.errors import DataError
from seggd_training.data import Dataset, to_unit
from seggd_training.evaluation.segmenter.network import Segmenter, SegmenterConfig, default_device, standardize
from seggd_training.loop import MovingAverage, fingerprint

OnStep = Callable[[int, float], None]
"""Told the steps done and the last loss."""

_CLIP_NORM = 1.0
_WARM_UP = 0.1
"""Part of the steps over which the learning rate rises."""


def train_segmenter(
    dataset: Dataset, config: SegmenterConfig, *, device: torch.device | None = None, on_step: OnStep | None = None
) -> Segmenter:
    """Train a segmenter; on a CPU the same data, configuration and threads give the same weights.

    Parameters
    ----------
    dataset
        Real images, of the configuration's size, channels and classes.
    config
        The network and its training.
    device
        Where to train; the first GPU by default, else the CPU.
    on_step
        Called after every step.

    Raises
    ------
    DataError
        The images are not what the configuration says.
    """
    shape = (config.height, config.width, config.channels)
    if dataset.images.shape[1:] != shape or tuple(c.name for c in dataset.classes) != config.classes:
        raise DataError(f"the training images are {dataset.images.shape[1:]}, the segmenter is for {shape} (H, W, C)")
    device = device or default_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = config.build().to(device)
    average = MovingAverage(network, config.ema_decay)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    # Dice over the whole batch: over single images it is undefined wherever a class is absent.
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    network.train()
    for step, (images, labels) in enumerate(_batches(dataset, config)):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, config)
        loss: Tensor = loss_of(network(standardize(images.to(device))), labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP_NORM)
        optimizer.step()
        average.update(step)
        if on_step is not None:
            on_step(step + 1, loss.item())
    network.load_state_dict(average.state_dict())
    return Segmenter(config, fingerprint(dataset), network.eval())


def augmentation(height: int, width: int, seed: int) -> Compose:
    """Return MONAI's random transform of {"image": (C, H, W) float32 in [0, 1], "label": (1, H, W) float32}."""
    transform = Compose(
        [
            RandAffined(
                keys=("image", "label"),
                prob=1.0,
                rotate_range=math.radians(30),
                scale_range=0.2,
                translate_range=(0.1 * height, 0.1 * width),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandAdjustContrastd(keys="image", prob=0.5, gamma=(0.7, 1.5)),
            RandGaussianSmoothd(keys="image", prob=0.3, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0)),
            RandGaussianNoised(keys="image", prob=0.3, std=0.05),
        ]
    )
    return transform.set_random_state(seed)


def _batches(dataset: Dataset, config: SegmenterConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `config.steps` batches: images (B, C, H, W) float32 about [0, 1], labels (B, 1, H, W) float32."""
    transform = augmentation(config.height, config.width, config.seed)
    images = np.moveaxis(dataset.images, -1, 1)
    label_maps = torch.from_numpy(dataset.label_maps)[:, None]
    order = _endless_order(len(dataset), config.seed)
    for _ in range(config.steps):
        drawn = [
            transform({"image": torch.from_numpy(to_unit(images[i])), "label": label_maps[i].float()})
            for i in (next(order) for _ in range(config.batch_size))
        ]
        yield tuple(torch.stack([sample[key].as_tensor() for sample in drawn]) for key in ("image", "label"))  # type: ignore[misc]


def _endless_order(size: int, seed: int) -> Iterator[int]:
    """Yield every index of an epoch in random order, epoch after epoch."""
    random = np.random.default_rng(seed)
    while True:
        yield from random.permutation(size).tolist()


def _learning_rate(step: int, config: SegmenterConfig) -> float:
    """Return the rate of step 0, 1, ...: a linear rise, then half a cosine to zero."""
    rise = max(1, round(_WARM_UP * config.steps))
    if step < rise:
        return config.learning_rate * (step + 1) / rise
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, config.steps - rise)))
