"""A picture of how well a network in training follows its masks: mask, real image, and the network's own."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from seggd_rt.diffusion import MaskEncoding, NoiseSchedule, Prediction, colorize, encode, encode_table, normal
from seggd_training.data import Dataset, to_8_bit

_PREDICTION_TYPES = {Prediction.EPSILON: "epsilon", Prediction.V: "v_prediction", Prediction.SAMPLE: "sample"}


def ddim_scheduler(schedule: NoiseSchedule) -> DDIMScheduler:
    """Return diffusers' DDIM with the same betas, clip, spacing and prediction."""
    return DDIMScheduler(
        num_train_timesteps=schedule.train_steps,
        trained_betas=schedule.betas(),
        prediction_type=_PREDICTION_TYPES[schedule.prediction],
        clip_sample=schedule.clip_x0 is not None,
        clip_sample_range=schedule.clip_x0 or 1.0,
        set_alpha_to_one=schedule.final_alpha_bar_one,
        steps_offset=schedule.steps_offset,
        timestep_spacing=schedule.spacing.value,
    )


@torch.no_grad()
def draw_samples(network: nn.Module, schedule: NoiseSchedule, mask: Tensor, noise: Tensor, *, steps: int) -> Tensor:
    """Generate images by DDIM.

    Parameters
    ----------
    network
        Of diffusers: `network(x, t).sample`.
    mask
        (B, M, H, W) float32, encoded.
    noise
        (B, C, H, W) float32, normal.
    steps
        How many.

    Returns
    -------
    Tensor
        (B, C, H, W) float32 in [0, 1].
    """
    scheduler = ddim_scheduler(schedule)
    scheduler.set_timesteps(steps)
    x = noise
    for t in scheduler.timesteps:
        output = network(torch.cat([x, mask], dim=1), t.to(x.device)).sample
        x = scheduler.step(output.float(), t, x).prev_sample
    return (x / 2 + 0.5).clamp(0, 1)


def pick_examples(dataset: Dataset, count: int) -> NDArray[np.int64]:
    """Return `count` indices spread over the images that show the most classes."""
    shown = np.array([len(np.unique(label_map)) for label_map in dataset.label_maps])
    fullest = np.flatnonzero(shown == shown.max())
    return fullest[np.linspace(0, len(fullest) - 1, min(count, len(fullest))).astype(np.int64)]


def sample_grid(
    network: nn.Module,
    schedule: NoiseSchedule,
    dataset: Dataset,
    encoding: MaskEncoding,
    *,
    device: torch.device,
    count: int = 8,
    steps: int = 20,
) -> NDArray[np.uint8]:
    """Draw one column for each of `count` masks: the mask's colours, the real image, a generated one.

    Image k starts from the noise that the runtime draws for seed k, so grids of one run compare.

    Returns
    -------
    NDArray
        (3 H, count W, 3) uint8.
    """
    chosen = pick_examples(dataset, count)
    label_maps, real = dataset.label_maps[chosen], to_8_bit(dataset.images[chosen])
    mask = encode(label_maps, encode_table(encoding, len(dataset.classes)))
    noise = np.stack([normal(k, (real.shape[3], *real.shape[1:3])) for k in range(len(chosen))])
    images = draw_samples(
        network, schedule, torch.from_numpy(mask).to(device), torch.from_numpy(noise).to(device), steps=steps
    )
    drawn = np.rint(images.movedim(1, -1).cpu().numpy() * 255).astype(np.uint8)
    columns = [
        np.concatenate([colorize(label_map, dataset.classes), _rgb(photo), _rgb(image)])
        for label_map, photo, image in zip(label_maps, real, drawn, strict=True)
    ]
    return np.concatenate(columns, axis=1)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3) of (H, W, C): grey of the first channel unless there are three."""
    return image if image.shape[2] == 3 else np.repeat(image[..., :1], 3, axis=2)
