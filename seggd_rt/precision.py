"""What a network computes in, and how near to PyTorch's fp32 each precision must stay."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Precision(StrEnum):
    """What a graph, or the engine that runs it, computes in."""

    FP32 = "fp32"
    """IEEE single precision; TF32 and bfloat16 products are off."""
    FP16 = "fp16"
    BF16 = "bf16"


PARITY_LIMIT = {Precision.FP32: 1e-5, Precision.FP16: 1e-2, Precision.BF16: 5e-2}
"""Largest error of one network output against PyTorch in fp32: |d|_2 / |o|_2, and max|d| / max|o|.

fp32 differs by the order of sums alone (1e-6 measured); fp16 and bf16 by rounding to 11 and 8 bits in each layer.
"""

ROW_LIMIT = {Precision.FP32: 1e-5, Precision.FP16: 2e-3, Precision.BF16: 2e-2}
"""Largest difference of two equal images of a batch in one network output, over max|o|."""

IMAGE_PSNR_DB = 40.0
"""Least PSNR of a whole image against PyTorch's at which a lower precision may be chosen automatically."""


def relative_errors(output: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float]:
    """Return |d|_2 / |o|_2 and max|d| / max|o| of an output against a reference o of the same shape.

    Both are infinite where the output is not finite or the reference is zero.
    """
    exact = reference.astype(np.float64)
    difference = output.astype(np.float64) - exact
    if not np.isfinite(difference).all() or not exact.any():
        return float("inf"), float("inf")
    return (
        float(np.linalg.norm(difference) / np.linalg.norm(exact)),
        float(np.abs(difference).max() / np.abs(exact).max()),
    )


def psnr_db(image: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the peak signal-to-noise ratio in dB of images in [0, 1]; infinite where they are equal."""
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))
