"""The loop proves itself: its whole image beside the runtime's, drawn by the same library from the same network.

Whole images are no measure where two sides round differently: a network, an untrained one above all, makes 3e-2 of
1e-6 in ten steps, which is why graphs are compared with PyTorch state by state (`parity`). Here nothing is rounded
differently: the loop's body is the runtime's graph, its update is `rows.advance` in the same order, and both sides run
the same kernels of ONNX Runtime on the same numbers. There is nothing to amplify, so images are equal whatever the
network (no difference was measured on any, untrained epsilon networks among them), and a difference is a defect.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from seggd_engines.onnxruntime import OnnxRuntimeEngine
from seggd_export.parity.golden import SEED
from seggd_rt.bundle import Meaning, OnnxGraph
from seggd_rt.diffusion import Precision, RowTable, ablate, encode_table, normal
from seggd_rt.engine import NetworkShape, Run, session_options
from seggd_rt.errors import ExportError

IMAGE_LIMIT = 1e-5
"""Largest |d| of an image in [0, 1]: rounding that a compiler may still do otherwise, and no more."""


def prove_sampler(
    sampler: Path,
    network: Path,
    meaning: Meaning,
    table: RowTable,
    label_map: NDArray[np.uint8],
    on_step: Callable[[], None] = lambda: None,
) -> float:
    """Draw one image with the loop and one with the runtime, the last class left out of both where there are several.

    Parameters
    ----------
    sampler, network
        The loop's ONNX file, and the bundle's fp32 graph.
    meaning
        How masks become images.
    table
        The loop's rows.
    label_map
        (H, W) uint8, with every class in it.
    on_step
        Called after every step of the runtime.

    Returns
    -------
    float
        Largest |d| of the images, in [0, 1].

    Raises
    ------
    ExportError
        It is over the limit.
    """
    keep = np.ones(len(meaning.classes), np.bool_)
    keep[-1] = len(keep) == 2
    noise = normal(SEED, (1, meaning.image.channels, meaning.image.height, meaning.image.width))
    runtimes = _by_the_runtime(network, meaning, table, label_map, keep, noise, on_step)
    loops = _by_the_loop(sampler, label_map, keep, noise)
    error = float(np.abs(loops - np.moveaxis(runtimes, -1, 1)).max())
    if not error <= IMAGE_LIMIT:
        raise ExportError(
            f"{sampler.name} does not draw the runtime's image: max|d| is {error:.2e}, over {IMAGE_LIMIT:.0e}: this is "
            "a defect of the export or of the installed onnxruntime, please report it, and export without the loop"
        )
    return error


def _by_the_runtime(
    network: Path,
    meaning: Meaning,
    table: RowTable,
    label_map: NDArray[np.uint8],
    keep: NDArray[np.bool_],
    noise: NDArray[np.float32],
    on_step: Callable[[], None],
) -> NDArray[np.float32]:
    """Return the image that the runtime draws, (1, H, W, C)."""
    encoding, image = encode_table(meaning.mask.encoding, len(keep)), meaning.image
    shape = NetworkShape(image.channels, encoding.shape[1], image.height, image.width)
    opened = OnnxRuntimeEngine().open(
        OnnxGraph.read(network), shape, device="cpu", precision=Precision.FP32, threads=torch.get_num_threads()
    )
    tables = ablate(encoding, np.flatnonzero(keep).tolist())[None, None]
    run = Run(table, label_map[None], tables, seeds=(SEED,), noise=noise)
    out = np.empty((1, image.height, image.width, image.channels), np.float32)
    opened.session(batch=1).run(run, out, lambda _: on_step())
    return out


def _by_the_loop(
    sampler: Path, label_map: NDArray[np.uint8], keep: NDArray[np.bool_], noise: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the image that the loop draws, (1, C, H, W)."""
    options = session_options(onnxruntime, torch.get_num_threads())
    session = onnxruntime.InferenceSession(sampler, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    image: NDArray[np.float32]
    (image,) = session.run(["image"], {"label_map": label_map[None], "keep": keep, "noise": noise})
    return image
