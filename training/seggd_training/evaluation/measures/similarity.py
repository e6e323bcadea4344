"""How alike two images are: SSIM, mean squared error and PSNR, image by image."""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics.regression import SSIMMetric
from numpy.typing import NDArray

_WINDOW = 11
"""Pixels of SSIM's Gaussian window, of Wang et al., IEEE TIP 13(4), 2004; smaller images have a smaller one."""
_BLOCK = 64
"""Pairs that are compared at a time."""


def ssim(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the structural similarity of pairs of images, (N, H, W, C) each, in [0, 1]: (N,)."""
    size = min(_WINDOW, min(some.shape[1:3]) // 2 * 2 - 1)
    metric = SSIMMetric(spatial_dims=2, data_range=1.0, win_size=size)
    found = np.empty(len(some))
    for start in range(0, len(some), _BLOCK):
        part = slice(start, start + _BLOCK)
        pair = (torch.from_numpy(np.moveaxis(images[part], -1, 1).copy()) for images in (some, others))
        found[part] = torch.as_tensor(metric(*pair)).double().numpy()[:, 0]
    return found


def mse(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean squared error of pairs of images, (N, H, W, C) each, in [0, 1]: (N,)."""
    errors: NDArray[np.float64] = ((some.astype(np.float64) - others) ** 2).mean(axis=(1, 2, 3))
    return errors


def psnr(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the peak signal-to-noise ratio of pairs of images, (N, H, W, C) each, in [0, 1]: (N,) dB."""
    with np.errstate(divide="ignore"):
        found: NDArray[np.float64] = -10 * np.log10(mse(some, others))
    return found
