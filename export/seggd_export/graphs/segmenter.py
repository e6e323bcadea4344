"""The segmenter as `segmenter.onnx`, beside PyTorch's own on images made for it.

    image   (batch, C, H, W) float32 in [0, 1]
    scores  (batch, classes, H, W) float32: a pixel's largest is its class

Its network comes from outside, with whatever it does to an image before it reads it (standardising, say).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from seggd_export.graphs.tracing import OPSET, trace_module
from seggd_export.parity import example_label_map, true_float32
from seggd_rt.bundle import ClassIntensity, Meaning, RealDice, SegmenterGraph, SegmenterParity, file_ref
from seggd_rt.diffusion import normal, relative_errors
from seggd_rt.engine import session_options
from seggd_rt.errors import ExportError

SCORE_LIMIT = 1e-4
"""Largest error of its scores against PyTorch in fp32: |d|_2 / |o|_2, and max|d| / max|o|.

A small one has 4e-6: more than a diffusion network, as images are standardised first. What counts is which score is the
largest.
"""
LABEL_LIMIT = 1e-4
"""Largest part of the pixels that may get another class: those whose two best scores differ by rounding alone."""

_IMAGES = 16
_NOISE = (0.01, 0.05, 0.1, 0.2)
"""Standard deviations of the noise on the images it is tried on, which differ."""


@dataclass(frozen=True)
class ShippedSegmenter:
    """A segmenter to put into a bundle.

    Attributes
    ----------
    network
        From images, (B, C, H, W) float32 in [0, 1], to scores, (B, classes, H, W), in evaluation mode on the CPU.
    percentiles, intensities, real
        As the manifest has them.
    """

    network: nn.Module
    percentiles: tuple[float, float]
    intensities: tuple[ClassIntensity, ...]
    real: RealDice | None


MakeSegmenter = Callable[[Meaning], ShippedSegmenter]
"""Makes the segmenter of what a bundle means: of its images, classes and intensity range."""


def write_segmenter(shipped: ShippedSegmenter, meaning: Meaning, path: Path) -> SegmenterGraph:
    """Write the graph, and prove it.

    Raises
    ------
    ExportError
        torch's exporter fails, or the graph misses a limit; the message has the figures.
    """
    image = meaning.image
    example = torch.zeros(2, image.channels, image.height, image.width)  # torch.export takes 0 and 1 for constants
    ir.save(trace_module(shipped.network, "segmenter", {"image": example}, "scores"), path)
    return SegmenterGraph(
        files=(file_ref(path),),
        opset=OPSET,
        classes=tuple(c.name for c in meaning.classes),
        parity=prove_segmenter(path, shipped.network, trial_images(meaning)),
        percentiles=shipped.percentiles,
        intensities=shipped.intensities,
        real=shipped.real,
    )


def trial_images(meaning: Meaning) -> NDArray[np.float32]:
    """Return images of every class in other grey levels and under other noise, (N, C, H, W) float32 in [0, 1]."""
    image, classes = meaning.image, len(meaning.classes)
    label_map = example_label_map(image.height, image.width, classes)
    images = []
    for seed in range(_IMAGES):
        levels = np.roll(np.linspace(0.1, 0.9, classes, dtype=np.float32), seed // len(_NOISE))
        noise = normal(seed, (image.channels, image.height, image.width)) * np.float32(_NOISE[seed % len(_NOISE)])
        images.append(np.clip(levels[np.roll(label_map, seed, axis=1)] + noise, 0, 1))
    return np.stack(images)


def prove_segmenter(path: Path, network: nn.Module, images: NDArray[np.float32]) -> SegmenterParity:
    """Compare the graph with PyTorch in fp32 on images, (N, C, H, W) float32 in [0, 1].

    Raises
    ------
    ExportError
        Scores or classes miss their limit.
    """
    with torch.inference_mode(), true_float32():
        expected: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
    options = session_options(onnxruntime, torch.get_num_threads())
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    (scores,) = session.run(["scores"], {"image": images})
    rel_l2, rel_max = relative_errors(scores, expected)
    changed = float((scores.argmax(axis=1) != expected.argmax(axis=1)).mean())
    if not (max(rel_l2, rel_max) <= SCORE_LIMIT and changed <= LABEL_LIMIT):
        raise ExportError(
            f"{path.name} does not agree with PyTorch on {len(images)} images: |d|/|o| is {rel_l2:.2e} and "
            f"max|d|/max|o| {rel_max:.2e}, limit {SCORE_LIMIT:.0e}; {changed:.2%} of the pixels get another class, "
            f"limit {LABEL_LIMIT:.2%}: this is a defect of the export or of the installed torch or onnxruntime, please "
            "report it, and export without --segmenter"
        )
    return SegmenterParity(
        images=len(images),
        rel_l2=rel_l2,
        rel_max=rel_max,
        limit=SCORE_LIMIT,
        labels_changed=changed,
        labels_limit=LABEL_LIMIT,
    )
