"""What a network computes in, and how near to PyTorch's fp32 each precision must stay."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

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

PIXEL_LIMIT = {Precision.FP32: 1e-5, Precision.FP16: 0.25, Precision.BF16: 0.25}
"""Largest difference of two pixels, in [0, 1], of one image that two engines or CPUs draw: the larger limit of the two.

Measured on the demo model over 50 steps (`benchmarks/results/engine-differences-cardiac64.json`): 1.9e-6 of engines in
fp32, 0.158 between bf16 and fp32, which steps amplify. The limits leave room for images that were not measured. fp16
rounds more finely than bf16 and was not measured: it has the limit of bf16.
"""

RMS_LIMIT = {Precision.FP32: 1e-5, Precision.FP16: 0.02, Precision.BF16: 0.02}
"""Largest RMS difference of one image, in [0, 1], that two engines or CPUs draw: the larger limit of the two.

Measured with the above: 1.3e-7 of engines in fp32, 0.010 between bf16 and fp32.
"""

GRAY_LEVEL = 1 / 255
"""Of the range from black to white: a difference that nobody sees, and the most that confirms a lower precision."""

IMAGE_PSNR_DB = 40.0
"""Least PSNR of a whole image against PyTorch's at which a lower precision may be chosen automatically."""


def pixel_limit(first: str, second: str) -> float:
    """Return how far apart two pixels of one image may be, in [0, 1], that was drawn in two precisions."""
    return max(PIXEL_LIMIT[Precision(name)] for name in (first, second))


def rms_limit(first: str, second: str) -> float:
    """Return the largest RMS difference of one image, in [0, 1], that was drawn in two precisions."""
    return max(RMS_LIMIT[Precision(name)] for name in (first, second))


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


def rms(difference: NDArray[np.floating[Any]]) -> float:
    """Return the root mean square of all values of an array."""
    return float(np.sqrt(np.mean(difference.astype(np.float64) ** 2)))


def psnr_db(image: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the peak signal-to-noise ratio in dB of images in [0, 1]; infinite where they are equal."""
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))
