"""The generator: a bundle, an engine and a sampler turn label maps into images."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seggd_engines.cuda import CudaSession
from seggd_engines.guests import stream_handle
from seggd_engines.network import AnyNetwork, DeviceArray, EngineInfo, OnStep, Run
from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.errors import DataError, OptionError
from seggd_rt.labels import OneHotWarning, ablate, encode_table, looks_one_hot, one_hot_note, select_classes
from seggd_rt.request import Inputs, agree, image_seeds, is_whole, listed_seeds, stack
from seggd_rt.samplers import sampler_rows
from seggd_rt.session_pool import SessionPool


class EmptyMaskWarning(UserWarning):
    """A mask, or what `keep` and `drop` left of it, has no foreground: the network may not know that."""


class Generator:
    """Draws images from label maps. Threads may share it; each call runs in a session of its own.

    Made by `load`. Use it as a context manager, or `close()` it, to give back what the engine holds: as soon as no
    other thread is in a call.
    """

    def __init__(self, bundle: Bundle, network: AnyNetwork, notes: tuple[str, ...] = ()) -> None:
        self.bundle = bundle
        self._notes = notes
        self._pool = SessionPool(network)

    @property
    def manifest(self) -> Manifest:
        """What the bundle states."""
        return self.bundle.manifest

    @property
    def engine(self) -> EngineInfo:
        """What really runs: engine, version, device, computed precision, and what was passed over."""
        return dataclasses.replace(self._pool.network.info, notes=self._notes)

    def __call__(
        self,
        mask: ArrayLike,
        *,
        seed: int | None = None,
        seeds: Iterable[int] | None = None,
        steps: int | None = None,
        eta: float = 0.0,
        keep: Iterable[str] | None = None,
        drop: Iterable[str] | None = None,
        noise: ArrayLike | None = None,
        out: Any = None,
        stream: object = None,
        on_step: OnStep | None = None,
    ) -> NDArray[np.float32]:
        """Draw one image a label map, all in one batch.

        Parameters
        ----------
        mask
            (H, W) or (N, H, W) integers: the bundle's class ids. On a GPU also an array in its memory (DLPack or
            `__cuda_array_interface__`), contiguous uint8.
        seed
            Seed of a single image, 0 by default. Of several, image i has the seed `noise.derive_seed(seed, i)`.
        seeds
            The seed of every image instead; one mask with many seeds gives many images.
        steps
            DDIM steps in [1, 1000]; the bundle's default if None.
        eta
            In [0, 1]: how much noise each step adds.
        keep, drop
            Names of the classes to keep, or to leave out of the mask; a string is one name.
        noise
            (C, H, W) or (N, C, H, W) float32, normal, to start from in place of the seeds' own draw; on a GPU also an
            array in its memory.
        out
            Array of the result's shape, float32 or uint8 (0 to 255), contiguous, to write into. Where it lies in a
            GPU's memory, the call returns before the images are there: what `stream` is given afterwards finds them,
            and `synchronize` raises what went wrong with them.
        stream
            The CUDA stream that arrays in a GPU's memory are made and used on: a handle, or an object of cuda.core,
            PyTorch, CuPy, Numba or PyCUDA; None for CUDA's default stream.
        on_step
            Called after every step with a `Step`; raising ends the run.

        Returns
        -------
        NDArray
            `out` where it is given; else (H, W[, C]) float32 in [0, 1], or (N, H, W[, C]) where masks, seeds or noise
            are many; no channel axis where the bundle draws one channel.

        Raises
        ------
        LabelMapError
            A mask has the wrong type, size or labels.
        OptionError
            A setting is outside its range.
        DataError
            `noise` or `out` has the wrong type or shape.
        EngineError
            The engine failed, or gave an image that is not finite; or the generator is closed.
        """
        if steps is None:
            steps = self.manifest.defaults.steps
        if not is_whole(steps):
            raise OptionError(f"steps is {steps!r}; it must be a whole number")
        manifest = self.manifest
        inputs = Inputs(manifest, self._pool.network.info.device, stream_handle(stream))
        seeds = None if seeds is None else listed_seeds(seeds)
        label_maps, start = inputs.label_maps(mask), inputs.noise(noise)
        counts = {}
        if len(label_maps.shape) == 3:
            counts["masks"] = len(label_maps) if isinstance(label_maps, np.ndarray) else label_maps.shape[0]
        if seeds is not None:
            counts["seeds"] = len(seeds)
        if start is not None and len(start.shape) == 4:
            counts["noise arrays"] = start.shape[0]
        count = agree(counts)
        table = sampler_rows(manifest.defaults.sampler, manifest.schedule, steps, eta=eta)
        kept = select_classes(manifest.classes, keep=keep, drop=drop)
        if isinstance(label_maps, np.ndarray) and looks_one_hot(label_maps, len(manifest.classes)):
            warnings.warn(one_hot_note(len(label_maps)), OneHotWarning, stacklevel=2)
        label_maps = stack(label_maps, count, axes=2)
        if isinstance(label_maps, np.ndarray) and not np.isin(label_maps, kept).any(axis=(1, 2)).all():
            unseen = "" if manifest.mask.trained_with_empty_mask else ", which this network was not trained with"
            warnings.warn(f"a mask has no foreground{unseen}", EmptyMaskWarning, stacklevel=2)
        encoding = ablate(encode_table(manifest.mask.encoding, len(manifest.classes)), kept)
        run = Run(
            table=table,
            label_maps=label_maps,
            encode_tables=np.broadcast_to(encoding, (1, count, *encoding.shape)),
            seeds=image_seeds(seed, seeds, count, single=not counts),
            noise=None if start is None else stack(start, count, axes=3),
        )
        images: NDArray[np.float32] = self._draw(run, inputs, out, batched=bool(counts), on_step=on_step)
        return images

    def warmup(self, batch: int = 1) -> None:
        """Do once what the engine does at its first call for a batch size, so that the first image is not slower."""
        size = (batch, self.manifest.image.height, self.manifest.image.width)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyMaskWarning)
            self(np.zeros(size, np.uint8), steps=1)

    def synchronize(self) -> None:
        """Wait for images that are still being drawn into a GPU's memory, and raise what went wrong with them.

        Raises
        ------
        LabelMapError
            A mask in a GPU's memory held a label outside the classes.
        EngineError
            An image was not finite, or the engine failed.
        """
        self._pool.synchronize()

    def close(self) -> None:
        """Give back what the engine holds; the generator must not be called after it."""
        self._pool.close()

    def __repr__(self) -> str:
        """Say what it draws, and on what."""
        image, info = self.manifest.image, self.engine
        size = f"{image.channels}x{image.height}x{image.width}"
        return f"<Generator of {self.manifest.name}, {size}: {info.engine} in {info.precision} on {info.device}>"

    def __enter__(self) -> Generator:
        """Return the generator."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _draw(self, run: Run, inputs: Inputs, out: object, *, batched: bool, on_step: OnStep | None) -> Any:
        """Draw a run into `out`, or into a new array."""
        channels, height, width = inputs.image_shape
        count = len(run.seeds)
        shape: tuple[int, ...] = (count, height, width, channels)
        visible = shape[:3] if channels == 1 else shape
        visible = visible if batched else visible[1:]
        target = np.empty(visible, np.float32) if out is None else inputs.output(out, visible)
        with self._pool.lend(count, run.lanes) as session:
            if isinstance(target, DeviceArray):
                if on_step is not None:
                    raise DataError("on_step cannot be told of images that are drawn into a GPU's memory")
                whole = dataclasses.replace(target, shape=shape)
                cast(CudaSession, session).enqueue(run, whole, inputs.stream)
                return out
            if isinstance(run.label_maps, DeviceArray) or isinstance(run.noise, DeviceArray):
                cast(CudaSession, session).wait_for(inputs.stream)
            session.run(run, target.reshape(shape), on_step)
        return target
