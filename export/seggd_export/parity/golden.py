"""The golden run: PyTorch's own fp32 run of the untouched network, by which graphs and engines are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray

from seggd_rt.bundle import Golden
from seggd_rt.diffusion import RowTable, advance, encode, normal

STEPS = 20
EVERY = 2
"""Graphs are compared at every second state of the run."""
SEED = 0

Array = NDArray[np.float32]
Evaluate = Callable[[Array, float], Array]
"""`o = evaluate(x, t)`: x and o (C, H, W) float32, x already without its mask."""


@dataclass(frozen=True)
class Run:
    """A DDIM run from start to image.

    Attributes
    ----------
    states, outputs
        (steps, C, H, W) float32: each state, and the network's output there.
    timesteps
        (steps,) int64.
    image
        (C, H, W) float32 in [0, 1].
    """

    states: Array
    outputs: Array
    timesteps: NDArray[np.int64]
    image: Array

    def every(self, stride: int) -> Iterator[tuple[Array, float, Array]]:
        """Yield state, timestep and output of every `stride`-th step."""
        for i in range(0, len(self.states), stride):
            yield self.states[i], float(self.timesteps[i]), self.outputs[i]

    def golden(self, label_map: NDArray[np.uint8]) -> Golden:
        """Return what a bundle keeps: the run's ends, and an early, a middle and a late state of those compared."""
        compared = np.arange(0, len(self.states), EVERY)
        kept = np.unique(compared[[0, len(compared) // 2, -1]])
        return Golden(
            label_map=label_map,
            noise=self.states[0],
            states=self.states[kept],
            outputs=self.outputs[kept],
            timesteps=self.timesteps[kept],
            image=self.image,
        )


def sample_run(evaluate: Evaluate, table: RowTable, noise: Array) -> Run:
    """Run a deterministic sampler from `noise`, (C, H, W) float32, and keep every state."""
    x, x0 = noise.copy(), np.zeros_like(noise)
    states, outputs = [], []
    for timestep, row in zip(table.timesteps, table.rows, strict=True):
        o = evaluate(x, float(timestep))
        states.append(x.copy())
        outputs.append(o)
        advance(x, o, x0, row)
    image = np.clip(x * np.float32(0.5) + np.float32(0.5), np.float32(0), np.float32(1))
    return Run(np.stack(states), np.stack(outputs), table.timesteps, image)


def record(
    unet: UNet2DModel, mask: Array, table: RowTable, image_channels: int, on_step: Callable[[], None] = lambda: None
) -> Run:
    """Run PyTorch in true fp32 from the noise of seed 0.

    Parameters
    ----------
    unet
        The network as diffusers builds it.
    mask
        (mask channels, H, W) float32.
    table
        A deterministic sampler's run.
    image_channels
        Channels of the image.
    on_step
        Called after every step.
    """
    mask_tensor = torch.from_numpy(mask)

    def evaluate(x: Array, timestep: float) -> Array:
        sample = torch.cat([torch.from_numpy(x), mask_tensor])[None]
        output: torch.Tensor = unet(sample, torch.tensor([timestep]), return_dict=False)[0]
        on_step()
        return output[0].numpy()

    noise = normal(SEED, (image_channels, *mask.shape[1:]))
    with torch.inference_mode(), true_float32():
        return sample_run(evaluate, table, noise)


def example_label_map(height: int, width: int, num_classes: int) -> NDArray[np.uint8]:
    """Return nested ellipses of every class, (H, W) uint8: background outside, the last class in the middle.

    The outer half of the pixels is background, the inner half is shared equally, so that every class is there
    wherever there are enough pixels.
    """
    y = (np.arange(height) - (height - 1) / 2) / height
    x = (np.arange(width) - (width - 1) / 2) / width
    order = np.argsort((y[:, None] ** 2 + x[None, :] ** 2).ravel(), kind="stable")
    inner = max(height * width // 2, min(num_classes - 1, height * width))
    labels = np.zeros(height * width, np.uint8)
    labels[order[:inner]] = num_classes - 1 - np.arange(inner) * (num_classes - 1) // inner
    return labels.reshape(height, width)


def encoded(label_map: NDArray[np.uint8], table: Array) -> Array:
    """Return a label map's mask channels, (mask channels, H, W) float32, contiguous."""
    return np.ascontiguousarray(encode(label_map, table))


@contextmanager
def true_float32() -> Iterator[None]:
    """Forbid TF32 and bfloat16 products, whatever this process allowed before."""
    convolution: Any = getattr(torch.backends.mkldnn, "conv", None)  # since torch 2.9
    products = torch.get_float32_matmul_precision()
    products_of_convolution = getattr(convolution, "fp32_precision", None)
    torch.set_float32_matmul_precision("highest")
    if convolution is not None:
        convolution.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        if convolution is not None:
            convolution.fp32_precision = products_of_convolution
