"""Numbers that stand for an image: of the segmenter, or of any network given as an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from seggd_rt.bundle import OnnxGraph, sha256_of
from seggd_rt.engine import failures, open_session, session_options
from seggd_rt.errors import DataError, EngineError
from seggd_rt.optional import require
from seggd_training.evaluation.segmenter.network import Segmenter, standardize

_LEVEL = "down_3"
"""The segmenter's fourth level: deep enough to see organs, and of fewer features than most splits have images."""
_BATCH = 32


def segmenter_features(segmenter: Segmenter, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return features of images, (N, H, W, C) float32 in [0, 1]: (N, features), means over the image."""
    found: list[torch.Tensor] = []
    level = segmenter.network.get_submodule(_LEVEL)
    hook = level.register_forward_hook(lambda module, given, out: found.append(out.mean(dim=(2, 3)).double().cpu()))
    try:
        with torch.no_grad():
            for start in range(0, len(images), _BATCH):
                x = torch.from_numpy(np.moveaxis(images[start : start + _BATCH], -1, 1).copy())
                segmenter.network(standardize(x.to(next(segmenter.network.parameters()).device)))
    finally:
        hook.remove()
    return torch.cat(found).numpy()


class FeatureGraph(msgspec.Struct, frozen=True):
    """An ONNX graph that turns images, (N, C, H, W) float32 in [0, 1], into features, (N, features).

    InceptionV3 as such a graph gives the usual Frechet inception distance: docs/results.md tells how to make it. Images
    are resized to the graph's own height and width, if it has them, and grey ones repeated if it takes three channels.
    """

    path: Path
    sha256: str

    @classmethod
    def open(cls, path: Path, image: tuple[int, int, int]) -> FeatureGraph:
        """Open a graph, and try it on two images of a shape, (H, W, C).

        Raises
        ------
        DataError
            The file is missing, no ONNX graph, or one that does not fit.
        """
        if not path.is_file():
            raise DataError(f"{path} does not exist: give an ONNX graph of a feature network")
        graph = cls(path, sha256_of(path))
        graph(np.zeros((2, *image), np.float32))
        return graph

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return features of images, (N, H, W, C) float32 in [0, 1]: (N, features)."""
        runtime = require("onnxruntime", extra="cpu", feature="--feature-graph")
        raised: tuple[type[Exception], ...] = (EngineError, *failures(runtime))
        try:
            graph = OnnxGraph.read(self.path)
            session = open_session(runtime, graph, session_options(runtime), ["CPUExecutionProvider"])
            given = session.get_inputs()[0]
            found = [
                session.run(None, {given.name: _fitted(images[start : start + _BATCH], given.shape)})[0]
                for start in range(0, len(images), _BATCH)
            ]
        except raised as error:
            raise DataError(f"{self.path} cannot be run on images: {' '.join(str(error).split())}") from error
        values = np.concatenate(found).astype(np.float64)
        if values.ndim != 2 or len(values) != len(images):
            raise DataError(f"{self.path} gives {values.shape} for {len(images)} images: it must be (N, features)")
        return values


def _fitted(images: NDArray[np.float32], shape: Sequence[int | str]) -> NDArray[np.float32]:
    """Return images as a graph takes them, whose input has a shape."""
    if len(shape) != 4:
        raise DataError(f"the feature graph's input is {list(shape)}: it must be (N, C, H, W)")
    _, channels, *size = shape
    x = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    if x.shape[1] == 1 and channels == 3:
        x = x.expand(-1, 3, -1, -1)
    if fixed := [side for side in size if isinstance(side, int)]:
        if len(fixed) != len(size):
            raise DataError(f"the feature graph's input is {list(shape)}: fix both height and width, or neither")
        x = torch.nn.functional.interpolate(x, size=fixed, mode="bilinear", antialias=True)
    fitted: NDArray[np.float32] = x.clamp(0, 1).numpy()
    return fitted
