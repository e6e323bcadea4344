"""What a generated image shows, read by its bundle's segmenter: each class in its place, as bright as real ones.

Dice = 2 |A and B| / (|A| + |B|), A the pixels of a class in the label map and B those that the segmenter gives it.
It is of the classes that were kept and that the label map shows: of a class that was left out, or that the mask lacks,
nothing was asked. Where none is left, as in a mask without foreground, there is no Dice. Such an image reaches any
threshold: it is recorded as one that cannot be judged, and to draw it again would only give another.

A class whose median intensity lies outside the range of training images is named. That rejects nothing by itself: some
real images lie outside too, as many as the manifest's percentiles leave out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seggd_rt.bundle import Bundle, Manifest, SegmenterGraph
from seggd_rt.diffusion import Precision, check_label_map, select_classes
from seggd_rt.engine import (
    FLOAT32,
    check_threads,
    failures,
    open_session,
    ports,
    registry,
    require_own_session,
    require_usable,
    session_options,
)
from seggd_rt.errors import DataError, EngineError
from seggd_rt.imaging import CheckResult
from seggd_rt.optional import require

_BATCH = 16
"""Images that the segmenter reads at a time."""


class OutputCheck:
    """A bundle's segmenter, run by ONNX Runtime on the CPU in fp32. Threads may share it."""

    def __init__(self, ort: Any, session: Any, manifest: Manifest, segmenter: SegmenterGraph) -> None:
        self._ort, self._session, self._classes = ort, session, manifest.classes
        self._image = manifest.image
        self._bounds = {each.name: (each.low, each.high) for each in segmenter.intensities}

    @classmethod
    def open(cls, bundle: Bundle, *, threads: int | None = None) -> OutputCheck:
        """Open a bundle's segmenter.

        Parameters
        ----------
        bundle
            Exported with a segmenter.
        threads
            CPU threads; ONNX Runtime's choice if None.

        Raises
        ------
        BundleError
            The bundle has no segmenter.
        IntegrityError
            Its file is missing or changed.
        OptionError
            `threads` is out of range.
        MissingExtraError, EngineUnavailableError
            ONNX Runtime is not installed, or cannot run.
        EngineError
            It cannot open the graph, or that is not a segmenter of these images and classes.
        """
        check_threads(threads)
        graph, manifest = bundle.read_segmenter(), bundle.manifest
        ort = require("onnxruntime", extra="cpu", feature="checking images")
        require_usable("onnxruntime", registry.find_engine("onnxruntime").availability("cpu"), Precision.FP32)
        session = open_session(ort, graph, session_options(ort, threads), ["CPUExecutionProvider"])
        found = {name: (port.type, *port.axes[1:]) for name, port in ports(session).items()}
        size = (manifest.image.height, manifest.image.width)
        wanted = {
            "image": (FLOAT32, manifest.image.channels, *size),
            "scores": (FLOAT32, len(manifest.classes), *size),
        }
        if found != wanted:
            raise EngineError(
                f"{graph.name} has wrong inputs or outputs ({found}, not {wanted}): export the bundle again"
            )
        return cls(ort, session, manifest, bundle.segmenter)

    def __call__(
        self, images: ArrayLike, label_maps: ArrayLike, kept: Sequence[Iterable[str]] | None = None
    ) -> tuple[CheckResult, ...]:
        """Check images.

        Parameters
        ----------
        images
            (N, H, W[, C]) floats in [0, 1], of the bundle's size and channels.
        label_maps
            (N, H, W) integers: what each was drawn from, before classes were left out.
        kept
            Names of the classes that were kept for each image; all of every image if None.

        Raises
        ------
        DataError
            An array has another shape, or an image is not finite.
        OptionError
            `kept` names an unknown class, or none.
        EngineError
            The segmenter failed.
        """
        labels = check_label_map(label_maps, self._classes)
        image, pixels = self._image, np.asarray(images, np.float32)
        shape = (image.height, image.width, image.channels)
        plain = len(pixels), *shape[:2]
        if labels.shape != plain or pixels.shape not in ((len(pixels), *shape), *([plain] if shape[2] == 1 else [])):
            raise DataError(
                f"images are {pixels.shape} and label maps {labels.shape}; they must be (N, {image.height}, "
                f"{image.width}, {image.channels}) and (N, {image.height}, {image.width})"
            )
        if not np.isfinite(pixels).all():
            raise DataError("images hold NaN or infinite values: give finite values in [0, 1]")
        if kept is not None and len(kept) != len(labels):
            raise DataError(f"kept is for {len(kept)} images; there are {len(labels)}")
        ids = [select_classes(self._classes, keep=None if kept is None else kept[i]) for i in range(len(labels))]
        pixels = pixels.reshape(len(pixels), *shape)
        return tuple(self._result(*one) for one in zip(self._segmented(pixels), labels, pixels, ids, strict=True))

    def _segmented(self, images: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
        """Yield what the segmenter finds in each image: (H, W) class ids."""
        require_own_session(self._session)
        for start in range(0, len(images), _BATCH):
            batch = np.ascontiguousarray(np.moveaxis(images[start : start + _BATCH], -1, 1))
            try:
                (scores,) = self._session.run(["scores"], {"image": batch})
            except failures(self._ort) as error:
                raise EngineError(f"the segmenter failed in ONNX Runtime: {error}") from error
            self._require_scores(scores, (len(batch), len(self._classes), *batch.shape[2:]))
            yield from scores.argmax(axis=1)

    @staticmethod
    def _require_scores(scores: object, shape: tuple[int, ...]) -> None:
        """Refuse an output that is not as stated: ONNX Runtime checks no size that depends on data."""
        if not isinstance(scores, np.ndarray) or (scores.dtype, scores.shape) != (np.float32, shape):
            found = f"{scores.dtype} {scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
            raise EngineError(f"the segmenter gave {found}, not float32 {shape}: export the bundle again")
        if not np.isfinite(scores).all():
            raise EngineError("the segmenter gave scores that are not finite: export the bundle again")

    def _result(
        self, found: NDArray[np.int64], label_map: NDArray[np.uint8], image: NDArray[np.float32], ids: Sequence[int]
    ) -> CheckResult:
        names = {c.id: c.name for c in self._classes}
        dice = {names[k]: value for k, value in shown_dice(found, label_map, ids).items()}
        medians = {names[k]: value for k, value in shown_medians(image, label_map, ids).items()}
        return CheckResult(
            dice=dice,
            mean_dice=sum(dice.values()) / len(dice) if dice else None,
            outside=tuple(name for name, median in medians.items() if not self._is_inside(name, median)),
        )

    def _is_inside(self, name: str, median: float) -> bool:
        low, high = self._bounds.get(name, (0.0, 1.0))  # a class that no training image shows has no bounds
        return low <= median <= high


def shown_dice(found: NDArray[np.integer], label_map: NDArray[np.integer], ids: Collection[int]) -> dict[int, float]:
    """Return the Dice of each class that a label map shows.

    Parameters
    ----------
    found, label_map
        (H, W) class ids: what a segmenter finds, and what was to be there.
    ids
        The classes that count.

    Returns
    -------
    dict
        In [0, 1], by id.
    """
    wanted = {k: label_map == k for k in ids}
    return {
        k: float(2 * ((found == k) & where).sum() / ((found == k).sum() + where.sum()))
        for k, where in wanted.items()
        if where.any()
    }


def shown_medians(
    image: NDArray[np.floating], label_map: NDArray[np.integer], ids: Collection[int]
) -> dict[int, float]:
    """Return the median intensity of each class that a label map, (H, W), shows, in an image, (H, W, C): by id."""
    wanted = {k: label_map == k for k in ids}
    return {k: float(np.median(image[where])) for k, where in wanted.items() if where.any()}
