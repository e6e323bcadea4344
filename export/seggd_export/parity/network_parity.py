"""Every graph proves itself: each of its outputs along PyTorch's run, and the image it draws by itself."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray

from seggd_export.parity.golden import EVERY, Evaluate, Run, sample_run
from seggd_export.parity.rounded import rounded_twin
from seggd_rt.bundle import Parity
from seggd_rt.diffusion import PARITY_LIMIT, Precision, RowTable, psnr_db, relative_errors
from seggd_rt.engine import session_options
from seggd_rt.errors import ExportError

Array = NDArray[np.float32]


def prove(
    graph: Path,
    precision: Precision,
    run: Run,
    mask: Array,
    table: RowTable,
    on_step: Callable[[], None] = lambda: None,
) -> Parity:
    """Compare a graph with PyTorch along a recorded run, computing in the graph's own precision.

    Parameters
    ----------
    graph
        The ONNX file as the bundle will hold it.
    precision
        What it computes in. fp32 runs as it is; half precisions by their rounded twin (see `rounded`).
    run
        PyTorch's run.
    mask
        (mask channels, H, W) float32: the run's mask.
    table
        The run's sampler.
    on_step
        Called after every evaluation of the graph.

    Returns
    -------
    Parity
        Figures within the precision's limit.

    Raises
    ------
    ExportError
        An output misses the limit; the message has the figures.
    """
    if precision is Precision.FP32:
        return _measure(graph, precision, run, mask, table, on_step)
    with tempfile.TemporaryDirectory(dir=graph.parent) as folder:
        return _measure(_write_twin(graph, Path(folder)), precision, run, mask, table, on_step)


def evaluations(steps: int) -> int:
    """Return how many evaluations of a graph `prove` makes for a run of `steps`."""
    return steps + len(range(0, steps, EVERY))


def _measure(
    graph: Path, precision: Precision, run: Run, mask: Array, table: RowTable, on_step: Callable[[], None]
) -> Parity:
    evaluate = _counted(_evaluator(graph, mask), on_step)
    errors = [relative_errors(evaluate(x, t), output) for x, t, output in run.every(EVERY)]
    rel_l2, rel_max = max(l2 for l2, _ in errors), max(largest for _, largest in errors)
    limit = PARITY_LIMIT[precision]
    if not max(rel_l2, rel_max) <= limit:
        raise ExportError(
            f"the {precision} graph does not agree with PyTorch: |d|/|o| is {rel_l2:.2e} and max|d|/max|o| "
            f"{rel_max:.2e}, over {limit:.0e}, along {len(errors)} states{_advice(precision)}"
        )
    psnr = psnr_db(sample_run(evaluate, table, run.states[0]).image, run.image)
    return Parity(
        states=len(errors),
        rel_l2=rel_l2,
        rel_max=rel_max,
        limit=limit,
        image_psnr_db=None if math.isinf(psnr) else psnr,
    )


def _evaluator(path: Path, mask: Array) -> Evaluate:
    options = session_options(onnxruntime, torch.get_num_threads())
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)

    def evaluate(x: Array, timestep: float) -> Array:
        sample = np.concatenate([x, mask])[None]
        output: Array = session.run(["out"], {"sample": sample, "timestep": np.array([timestep], np.float32)})[0][0]
        return output

    return evaluate


def _counted(evaluate: Evaluate, on_step: Callable[[], None]) -> Evaluate:
    def counted(x: Array, timestep: float) -> Array:
        output = evaluate(x, timestep)
        on_step()
        return output

    return counted


def _write_twin(graph: Path, folder: Path) -> Path:
    """Write a half graph's rounded twin, with its weights beside it: they may exceed protobuf's 2 GB."""
    path = folder / "twin.onnx"
    ir.save(rounded_twin(ir.load(graph)), path, external_data="twin.data")
    return path


def _advice(precision: Precision) -> str:
    if precision is Precision.FP32:
        return ": this is a defect of the export or of the installed torch or onnxruntime, please report it"
    return ": export without this precision"
