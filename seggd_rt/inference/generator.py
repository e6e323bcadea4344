"""The generator: a bundle, an engine and a sampler turn label maps into images."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.diffusion import (
    OneHotWarning,
    entry_rows,
    entry_step,
    foreground_subsets,
    keep_outside,
    looks_one_hot,
    one_hot_note,
)
from seggd_rt.engine import AnyNetwork, DeviceArray, EngineInfo, OnStep, Run, Session
from seggd_rt.errors import DataError, OptionError
from seggd_rt.gpu import stream_handle
from seggd_rt.inference.request import Inputs, agree, image_seeds, is_whole, listed_seeds, stack
from seggd_rt.inference.sampling_params import Drawing, HowToDraw
from seggd_rt.inference.session_pool import SessionPool


class EmptyMaskWarning(UserWarning):
    """A mask, or what `keep` and `drop` left of it, has no foreground: the network may not know that."""


@dataclass(frozen=True)
class Preview:
    """A look at an image that is being drawn.

    Attributes
    ----------
    image
        (H, W[, C]) float32 in [0, 1]: the estimate of x0; after the last step the image itself.
    done, steps
        How many steps are done, of how many.
    """

    image: NDArray[np.float32]
    done: int
    steps: int


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

    @property
    def max_batch(self) -> int | None:
        """The most images of one call of the network, None for any number; guidance counts each image twice."""
        return self._pool.network.max_batch

    def __call__(
        self,
        mask: ArrayLike,
        *,
        seed: int | None = None,
        seeds: Iterable[int] | None = None,
        noise: ArrayLike | None = None,
        out: Any = None,
        stream: object = None,
        on_step: OnStep | None = None,
        keep_each: Sequence[Iterable[str]] | None = None,
        **how: Unpack[HowToDraw],
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
        keep_each
            Names of the classes to keep for each image, in place of `keep` or `drop` for all.
        **how
            See `HowToDraw`: sampler, steps, eta, spacing, keep, drop, guidance, against.

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
        inputs = self._inputs(stream)
        run, batched = self._run(inputs, mask, self._drawings(how, keep_each), seed, seeds, noise)
        images: NDArray[np.float32] = self._draw(run, inputs, out, batched=batched, on_step=on_step)
        return images

    def stream(
        self,
        mask: ArrayLike,
        *,
        every: int = 5,
        seed: int = 0,
        noise: ArrayLike | None = None,
        **how: Unpack[HowToDraw],
    ) -> Iterator[Preview]:
        """Draw one image and show it on the way; leaving the loop ends the run.

        Parameters
        ----------
        mask
            (H, W) integers.
        every
            Steps between two looks.
        seed, noise, **how
            As for a call.

        Yields
        ------
        Preview
            After every so many steps the estimate of the image; at last the image itself, as a call would return it.
        """
        if not is_whole(every) or every < 1:
            raise OptionError(f"every is {every!r}; it must be a whole number, at least 1")
        inputs = self._inputs()
        run, batched = self._run(inputs, mask, self._drawings(how), seed, None, noise)
        if batched:
            raise OptionError("stream draws one image: give one mask, (H, W)")
        return self._stream(run, inputs, every)

    def _stream(self, run: Run, inputs: Inputs, every: int) -> Iterator[Preview]:
        shape, visible = inputs.shapes(1, batched=False)
        steps, done = len(run.table), 0
        with self._session_for(run, inputs) as session:
            session.start(run)
            while done < steps:
                part = min(every, steps - done)
                session.advance(part)
                done += part
                image = np.empty(shape, np.float32)
                if done == steps:
                    session.finish(image)
                else:
                    session.preview(image)
                yield Preview(image.reshape(visible), done, steps)

    def interpolate(
        self,
        mask: ArrayLike,
        real: ArrayLike,
        *,
        weight: float | Sequence[float] = 0.5,
        at: float = 0.6,
        seed: int = 0,
        noise: ArrayLike | None = None,
        then_keep: Iterable[str] | None = None,
        then_drop: Iterable[str] | None = None,
        **how: Unpack[HowToDraw],
    ) -> NDArray[np.float32]:
        """Draw an image that resembles a real one: the paper's latent interpolation (arXiv 2402.05210, section 2.3).

        At the fraction `at` of the schedule the latents of the generation and of the noised real image are mixed,
        (1 - weight) x_t + weight x'_t, and denoised under the mask.

        Parameters
        ----------
        mask
            (H, W) integers.
        real
            (H, W[, C]): the real image, float in [0, 1] or uint8.
        weight
            In [0, 1]: 0 is the plain generation, exactly. Several make several images, and share the first part.
        at
            In (0, 1]: how noisy both are when they are mixed. The smaller, the more of the real image's detail stays.
        seed, noise, **how
            As for a call. The real image is noised as the generation of this seed starts, so that both latents have
            much of their noise in common: noise of its own would leave a mixture with less than either has.
        then_keep, then_drop
            Classes to keep or to leave out after the mixing, in place of those before it.

        Returns
        -------
        NDArray
            (H, W[, C]) float32 in [0, 1]; (N, H, W[, C]) where weights are several.
        """
        inputs = self._inputs()
        drawing = Drawing.resolve(self.manifest, how)
        run, batched = self._run(inputs, mask, [drawing], seed, None, noise)
        if batched:
            raise OptionError("interpolate draws from one mask, (H, W), and one real image")
        latent = inputs.real(real)
        weights = np.atleast_1d(np.asarray(weight, np.float64))
        if weights.ndim != 1 or not weights.size or not ((weights >= 0) & (weights <= 1)).all():
            raise OptionError(f"weight is {weight}; it, or each of several, must lie in [0, 1]")
        first = entry_step(drawing.table, self.manifest.schedule, at)
        then = drawing
        if then_keep is not None or then_drop is not None:
            then = Drawing.resolve(self.manifest, {**how, "keep": then_keep, "drop": then_drop})
        count = len(weights)
        rest = dataclasses.replace(
            run,
            label_maps=stack(run.label_maps, count, axes=2),
            encode_tables=then.of(count),
            seeds=run.seeds * count,
            entries=entry_rows(drawing.table, self.manifest.schedule, first, weights),
            real=np.broadcast_to(latent, (count, *latent.shape)),
            first=first,
        )
        shape, visible = inputs.shapes(count, batched=np.ndim(weight) == 1)
        images = np.empty(shape, np.float32)
        with self._session_for(run, inputs) as before, self._session_for(rest, inputs) as after:
            before.start(run)
            before.advance(first)
            left = before.latents()
            if left.stream:
                after.wait_for(left.stream)
            after.run(
                dataclasses.replace(rest, noise=stack(left.x, count, axes=3), last_x0=stack(left.x0, count, axes=3)),
                images,
            )
        return images.reshape(visible)

    def translate(
        self,
        real: ArrayLike,
        mask: ArrayLike,
        *,
        at: float = 0.6,
        seed: int | None = None,
        seeds: Iterable[int] | None = None,
        on_step: OnStep | None = None,
        keep_each: Sequence[Iterable[str]] | None = None,
        **how: Unpack[HowToDraw],
    ) -> NDArray[np.float32]:
        """Draw from a real image, noised up to a fraction of the schedule, under a mask that may not be its own.

        Parameters
        ----------
        real
            (H, W[, C]): float in [0, 1] or uint8.
        mask
            (H, W) or (N, H, W) integers.
        at
            In (0, 1]: how far it is noised. The smaller, the more of it stays.
        seed, seeds, on_step, keep_each, **how
            As for a call.

        Returns
        -------
        NDArray
            As a call's.
        """
        inputs = self._inputs()
        run, batched = self._run(inputs, mask, self._drawings(how, keep_each), seed, seeds, None)
        latent, count = inputs.real(real), len(run.seeds)
        first = entry_step(run.table, self.manifest.schedule, at)
        run = dataclasses.replace(
            run,
            entries=entry_rows(run.table, self.manifest.schedule, first, np.ones(count)),
            real=np.broadcast_to(latent, (count, *latent.shape)),
            first=first,
        )
        images: NDArray[np.float32] = self._draw(run, inputs, None, batched=batched, on_step=on_step)
        return images

    def inpaint(
        self,
        real: ArrayLike,
        region: ArrayLike,
        mask: ArrayLike,
        *,
        seed: int | None = None,
        seeds: Iterable[int] | None = None,
        **how: Unpack[HowToDraw],
    ) -> NDArray[np.float32]:
        """Draw a region of a real image anew; outside it the image stays, noised alike at every step.

        Parameters
        ----------
        real
            (H, W[, C]): float in [0, 1] or uint8.
        region
            (H, W) booleans, or numbers that are all 0 or 1, or all 0 or 255: where to draw. Of a label map give
            `numpy.isin(label_map, ids)`.
        mask
            (H, W) or (N, H, W) integers: what the whole image is to show.
        seed, seeds, **how
            As for a call.

        Returns
        -------
        NDArray
            As a call's, in the bundle's size; outside the region exactly the real image, in float32.
        """
        inputs = self._inputs()
        drawing = Drawing.resolve(self.manifest, how)
        run, batched = self._run(inputs, mask, [drawing], seed, seeds, None)
        latent, outside, count = inputs.real(real), 1 - inputs.region(region), len(run.seeds)
        table = keep_outside(drawing.table, self.manifest.schedule)
        run = dataclasses.replace(
            run,
            table=table,
            entries=entry_rows(drawing.table, self.manifest.schedule, 0, np.ones(count)),
            real=np.broadcast_to(latent, (count, *latent.shape)),
            pixel_map=np.broadcast_to(outside, (count, *outside.shape)),
        )
        images: NDArray[np.float32] = self._draw(run, inputs, None, batched=batched, on_step=None)
        return images

    def sweep(
        self, mask: ArrayLike, *, seed: int = 0, batch: int = 8, **how: Unpack[HowToDraw]
    ) -> dict[tuple[str, ...], NDArray[np.float32]]:
        """Draw one image for every non-empty subset of the classes, all from the same noise.

        Parameters
        ----------
        mask
            (H, W) integers.
        seed, **how
            As for a call, without `keep` and `drop`.
        batch
            Images drawn at a time.

        Returns
        -------
        dict
            (H, W[, C]) float32 in [0, 1] by the names of the classes kept: all of them first, single ones last.
        """
        if how.get("keep") is not None or how.get("drop") is not None:
            raise OptionError("sweep draws every subset of the classes: give neither keep nor drop")
        subsets = foreground_subsets(self.manifest.classes)
        images: dict[tuple[str, ...], NDArray[np.float32]] = {}
        for start in range(0, len(subsets), batch):
            chunk = subsets[start : start + batch]
            drawn = self(mask, seeds=[seed] * len(chunk), keep_each=chunk, **how)
            images.update(zip(chunk, drawn, strict=True))
        return images

    def warmup(self, batch: int = 1, *, steps: int = 1) -> None:
        """Do once what the engine does at its first call, so that the first image is not slower.

        Parameters
        ----------
        batch
            The batch size it is done for.
        steps
            On a GPU a number of steps has a graph of its own: that of the images to come.
        """
        # A mask of the last class alone: no mask of none, which would be warned of.
        size = (batch, self.manifest.image.height, self.manifest.image.width)
        self(np.full(size, len(self.manifest.classes) - 1, np.uint8), steps=steps)

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

    def _drawings(self, how: HowToDraw, keep_each: Sequence[Iterable[str]] | None = None) -> list[Drawing]:
        """Return how all images are drawn, or each on its own."""
        if keep_each is None:
            return [Drawing.resolve(self.manifest, how)]
        if how.get("keep") is not None or how.get("drop") is not None:
            raise OptionError("keep_each names the classes of each image: give neither keep nor drop")
        if not keep_each:
            raise OptionError("keep_each is empty: give the classes to keep for at least one image")
        each = [(kept,) if isinstance(kept, str) else tuple(kept) for kept in keep_each]
        resolved = {kept: Drawing.resolve(self.manifest, {**how, "keep": kept}) for kept in dict.fromkeys(each)}
        return [resolved[kept] for kept in each]

    def _inputs(self, stream: object = None) -> Inputs:
        return Inputs(self.manifest, self._pool.network.info.device, stream_handle(stream))

    def _run(
        self,
        inputs: Inputs,
        mask: ArrayLike,
        drawings: Sequence[Drawing],
        seed: int | None,
        seeds: Iterable[int] | None,
        noise: ArrayLike | None,
    ) -> tuple[Run, bool]:
        """Return a run of checked inputs, drawn alike or each in its way, and whether its images are stacked."""
        listed = None if seeds is None else listed_seeds(seeds)
        label_maps, start = inputs.label_maps(mask), inputs.noise(noise)
        counts = {}
        if len(label_maps.shape) == 3:
            counts["masks"] = label_maps.shape[0]
        if listed is not None:
            counts["seeds"] = len(listed)
        if start is not None and len(start.shape) == 4:
            counts["noise arrays"] = start.shape[0]
        if len(drawings) > 1:
            counts["classes to keep"] = len(drawings)
        count = agree(counts)
        if isinstance(label_maps, np.ndarray) and looks_one_hot(label_maps, len(self.manifest.classes)):
            warnings.warn(one_hot_note(len(label_maps)), OneHotWarning, stacklevel=3)
        label_maps = stack(label_maps, count, axes=2)
        each = list(drawings) * (count if len(drawings) == 1 else 1)
        if isinstance(label_maps, np.ndarray) and not all(
            np.isin(label_map, drawing.kept).any() for label_map, drawing in zip(label_maps, each, strict=True)
        ):
            unseen = "" if self.manifest.mask.trained_with_empty_mask else ", which this network was not trained with"
            warnings.warn(f"a mask has no foreground{unseen}", EmptyMaskWarning, stacklevel=3)
        run = Run(
            table=each[0].table,
            label_maps=label_maps,
            encode_tables=np.stack([drawing.encode_tables for drawing in each], axis=1),
            seeds=image_seeds(seed, listed, count, single=not counts),
            noise=None if start is None else stack(start, count, axes=3),
        )
        return run, bool(counts)

    @contextmanager
    def acquire(self, batch: int, lanes: int = 1) -> Iterator[Session]:
        """Acquire a session for measurements and checks; it is released at the end of the block.

        Parameters
        ----------
        batch
            Images of one run.
        lanes
            Network lanes for each image: 2 with guidance.

        Raises
        ------
        EngineError
            The generator is closed.
        """
        with self._pool.acquire(batch, lanes) as session:
            yield session

    @contextmanager
    def _session_for(self, run: Run, inputs: Inputs) -> Iterator[Session]:
        """Acquire a session for a run; it waits until the caller's arrays in a GPU's memory are ready."""
        with self._pool.acquire(len(run.seeds), run.lanes) as session:
            if isinstance(run.label_maps, DeviceArray) or isinstance(run.noise, DeviceArray):
                session.wait_for(inputs.stream)
            yield session

    def _draw(self, run: Run, inputs: Inputs, out: object, *, batched: bool, on_step: OnStep | None) -> Any:
        """Draw a run into `out`, or into a new array."""
        count = len(run.seeds)
        shape, visible = inputs.shapes(count, batched=batched)
        target = np.empty(visible, np.float32) if out is None else inputs.output(out, visible)
        with self._session_for(run, inputs) as session:
            if isinstance(target, DeviceArray):
                if on_step is not None:
                    raise DataError("on_step cannot be told of images that are drawn into a GPU's memory")
                whole = dataclasses.replace(target, shape=shape)
                session.enqueue(run, whole, inputs.stream)
                return out
            session.run(run, target.reshape(shape), on_step)
        return target
