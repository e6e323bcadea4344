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

from seggd_engines.network import NetworkShape, Run
from seggd_engines.onnxruntime import OnnxRuntimeEngine
from seggd_export.golden import SEED
from seggd_rt.bundle import Meaning
from seggd_rt.errors import ExportError
from seggd_rt.labels import ablate, encode_table, mask_channels
from seggd_rt.noise import normal
from seggd_rt.precision import Precision
from seggd_rt.rows import RowTable

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
    classes, image = len(meaning.classes), meaning.image
    keep = np.ones(classes, np.bool_)
    keep[-1] = classes == 2
    noise = normal(SEED, (1, image.channels, image.height, image.width))
    threads = torch.get_num_threads()

    shape = NetworkShape(image.channels, mask_channels(meaning.mask.encoding, classes), image.height, image.width)
    engine = OnnxRuntimeEngine().open(network, shape, device="cpu", precision=Precision.FP32, threads=threads)
    encoding = ablate(encode_table(meaning.mask.encoding, classes), np.flatnonzero(keep).tolist())
    run = Run(table, label_map[None], encoding[None, None], seeds=(SEED,), noise=noise)
    runtimes = np.empty((1, image.height, image.width, image.channels), np.float32)
    engine.session(1).run(run, runtimes, lambda _: on_step())

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(sampler, options, providers=["CPUExecutionProvider"])
    (drawn,) = session.run(["image"], {"label_map": label_map[None], "keep": keep, "noise": noise})

    error = float(np.abs(np.moveaxis(drawn, 1, -1) - runtimes).max())
    if not error <= IMAGE_LIMIT:
        raise ExportError(
            f"{sampler.name} does not draw the runtime's image: max|d| is {error:.2e}, over {IMAGE_LIMIT:.0e}: this is "
            "a defect of the export or of the installed onnxruntime, please report it, and export without the loop"
        )
    return error
