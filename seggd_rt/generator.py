"""The generator: a bundle, an engine and a sampler turn label maps into images."""

from __future__ import annotations

import dataclasses
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seggd_engines.catalog import ENGINES, find_engine
from seggd_engines.network import Engine, EngineInfo, Network, NetworkShape, OnStep, Run, Session
from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.errors import DataError, EngineError, EngineUnavailableError, LabelMapError, OptionError
from seggd_rt.labels import ablate, check_label_map, encode_table, select_classes
from seggd_rt.noise import check_seed, derive_seed
from seggd_rt.precision import IMAGE_PSNR_DB, Precision
from seggd_rt.samplers import sampler_rows
from seggd_rt.self_check import SelfCheck

AUTO = "auto"
_MAX_IDLE = 8
"""Sessions kept for later calls: each has the buffers of one batch size."""


class EmptyMaskWarning(UserWarning):
    """A mask, or what `keep` and `drop` left of it, has no foreground: the network may not know that."""


def load(
    path: str | Path,
    *,
    engine: str = AUTO,
    precision: str = AUTO,
    device: str = AUTO,
    threads: int | None = None,
) -> Generator:
    """Open a bundle, choose an engine and check it against the bundle's golden states.

    Parameters
    ----------
    path
        The bundle's folder.
    engine
        "onnxruntime", "openvino", or "auto": the first of a fixed order that can run here.
    precision
        "fp32", "fp16", "bf16", or "auto": the engine's own choice where its whole image reaches 40 dB PSNR against
        PyTorch's fp32, else fp32.
    device
        "cpu", or "auto".
    threads
        CPU threads a network call may use; the engine's own choice by default.

    Raises
    ------
    BundleError
        The bundle is not one, not whole, or lacks the graph.
    OptionError
        A name is unknown, or `threads` is not positive.
    EngineUnavailableError
        No engine can run here as asked; the message says what to install.
    EngineCheckError
        The engine's outputs miss the golden states.
    """
    bundle = Bundle.open(path)
    device = _check_device(device)
    if threads is not None and (not _is_whole(threads) or threads < 1):
        raise OptionError(f"threads is {threads!r}; it must be a whole number, at least 1")
    wanted = None if precision == AUTO else _precision(precision)
    if engine != AUTO:
        return _open(bundle, find_engine(engine), wanted, device, threads, ())
    passed_over: list[str] = []
    for candidate in ENGINES:
        reason = _unfit(candidate, wanted, device)
        if reason is None:
            return _open(bundle, candidate, wanted, device, threads, tuple(passed_over))
        passed_over.append(f"{candidate.name}: {reason}")
    raise EngineUnavailableError(f"no engine can run on {device}: " + "; ".join(passed_over))


class Generator:
    """Draws images from label maps. Threads may share it; each call runs in a session of its own.

    Made by `load`. Use it as a context manager, or `close()` it, to give back what the engine holds: as soon as no
    other thread is in a call.
    """

    def __init__(self, bundle: Bundle, network: Network, notes: tuple[str, ...] = ()) -> None:
        self.bundle = bundle
        self._network = network
        self._notes = notes
        self._lock = threading.Lock()
        self._idle: list[Session] = []  # that of the latest call last
        self._lent = 0
        self._closed = False

    @property
    def manifest(self) -> Manifest:
        """What the bundle states."""
        return self.bundle.manifest

    @property
    def engine(self) -> EngineInfo:
        """What really runs: engine, version, device, computed precision, and what was passed over."""
        return dataclasses.replace(self._network.info, notes=self._notes)

    def __call__(
        self,
        mask: ArrayLike,
        *,
        seed: int = 0,
        seeds: Iterable[int] | None = None,
        steps: int | None = None,
        eta: float = 0.0,
        keep: Iterable[str] | None = None,
        drop: Iterable[str] | None = None,
        noise: ArrayLike | None = None,
        out: NDArray[np.float32] | None = None,
        on_step: OnStep | None = None,
    ) -> NDArray[np.float32]:
        """Draw one image a label map, all in one batch.

        Parameters
        ----------
        mask
            (H, W) or (N, H, W) integers: the bundle's class ids.
        seed
            Seed of a single image. Of several, image i has the seed `noise.derive_seed(seed, i)`.
        seeds
            The seed of every image instead; one mask with many seeds gives many images.
        steps
            DDIM steps in [1, 1000]; the bundle's default if None.
        eta
            In [0, 1]: how much noise each step adds.
        keep, drop
            Names of the classes to keep, or to leave out of the mask; a string is one name.
        noise
            (C, H, W) or (N, C, H, W) float32, normal, to start from in place of the seeds' own draw.
        out
            Array of the result's shape, float32 and contiguous, to write into.
        on_step
            Called after every step with a `Step`; raising ends the run.

        Returns
        -------
        NDArray
            (H, W[, C]) float32 in [0, 1], or (N, H, W[, C]) where masks, seeds or noise are many; no channel axis
            where the bundle draws one channel.

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
        if not _is_whole(steps):
            raise OptionError(f"steps is {steps!r}; it must be a whole number")
        seeds = None if seeds is None else _listed(seeds)
        label_maps, start = self._label_maps(mask), self._noise(noise)
        counts = {}
        if label_maps.ndim == 3:
            counts["masks"] = len(label_maps)
        if seeds is not None:
            counts["seeds"] = len(seeds)
        if start is not None and start.ndim == 4:
            counts["noise arrays"] = len(start)
        count = _agree(counts)
        manifest = self.manifest
        table = sampler_rows(manifest.defaults.sampler, manifest.schedule, steps, eta=eta)
        kept = select_classes(manifest.classes, keep=keep, drop=drop)
        label_maps = np.broadcast_to(label_maps, (count, *label_maps.shape[-2:]))
        if not np.isin(label_maps, kept).any(axis=(1, 2)).all():
            unseen = "" if manifest.mask.trained_with_empty_mask else ", which this network was not trained with"
            warnings.warn(f"a mask has no foreground{unseen}", EmptyMaskWarning, stacklevel=2)
        encoding = ablate(encode_table(manifest.mask.encoding, len(manifest.classes)), kept)
        run = Run(
            table=table,
            label_maps=label_maps,
            encode_tables=np.broadcast_to(encoding, (1, count, *encoding.shape)),
            seeds=_seeds(seed, seeds, count, single=not counts),
            noise=None if start is None else np.broadcast_to(start, (count, *start.shape[-3:])),
        )
        shape: tuple[int, ...] = (count, manifest.image.height, manifest.image.width, manifest.image.channels)
        result = np.empty(shape, np.float32)
        visible = shape[:3] if manifest.image.channels == 1 else shape
        visible = visible if counts else visible[1:]
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise DataError(f"out must be a NumPy array; it is a {type(out).__name__}")
            if out.shape != visible or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
                raise DataError(f"out must be writable, contiguous float32 {visible}; it is {out.dtype} {out.shape}")
            result = out.reshape(shape)
        with self._session(count) as session:
            session.run(run, result, on_step)
        return result.reshape(visible) if out is None else out

    def warmup(self, batch: int = 1) -> None:
        """Do once what the engine does at its first call for a batch size, so that the first image is not slower."""
        size = (batch, self.manifest.image.height, self.manifest.image.width)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyMaskWarning)
            self(np.zeros(size, np.uint8), steps=1)

    def close(self) -> None:
        """Give back what the engine holds; the generator must not be called after it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            if not self._lent:
                self._network.close()

    def __enter__(self) -> Generator:
        """Return the generator."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @contextmanager
    def _session(self, batch: int) -> Iterator[Session]:
        """Lend a session of a batch size that no other thread has. One that failed is not lent again."""
        session = self._take(batch)
        try:
            session = session or self._network.session(batch)
            yield session
        except BaseException:
            self._give_back(session, keep=False)
            raise
        self._give_back(session, keep=True)

    def _take(self, batch: int) -> Session | None:
        with self._lock:
            if self._closed:
                raise EngineError("this generator is closed: load the bundle again")
            session = next((idle for idle in reversed(self._idle) if idle.batch == batch), None)
            if session is not None:
                self._idle.remove(session)
            self._lent += 1
            return session

    def _give_back(self, session: Session | None, *, keep: bool) -> None:
        with self._lock:
            self._lent -= 1
            if session is not None:
                self._idle.append(session)
                if not keep or self._closed:
                    self._idle.pop().close()
                elif len(self._idle) > _MAX_IDLE:
                    self._idle.pop(0).close()
            if self._closed and not self._lent:
                self._network.close()

    def _label_maps(self, mask: ArrayLike) -> NDArray[np.uint8]:
        label_maps = check_label_map(mask, self.manifest.classes)
        size = (self.manifest.image.height, self.manifest.image.width)
        if label_maps.ndim > 3 or label_maps.shape[-2:] != size:
            raise LabelMapError(
                f"the mask has shape {label_maps.shape}; this bundle draws {size[0]}x{size[1]}, so it must be "
                f"{size} or (N, {size[0]}, {size[1]}): seggd_rt.labels.resize_nearest resizes label maps"
            )
        return label_maps

    def _noise(self, noise: ArrayLike | None) -> NDArray[np.float32] | None:
        if noise is None:
            return None
        array = np.asarray(noise)
        image = self.manifest.image
        shape = (image.channels, image.height, image.width)
        if array.dtype.kind != "f" or array.ndim not in (3, 4) or array.shape[-3:] != shape:
            raise DataError(f"noise must be float32 {shape} or (N, *{shape}); it is {array.dtype} {array.shape}")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise DataError("noise must be finite in float32")
        return array


def _open(
    bundle: Bundle,
    engine: Engine,
    precision: Precision | None,
    device: str,
    threads: int | None,
    notes: tuple[str, ...],
) -> Generator:
    """Open a bundle with one engine, in one precision or in its own choice of them."""
    there = engine.availability(device)
    unfit = _unfit(engine, precision, device)
    if unfit is not None:
        raise EngineUnavailableError(f"engine {engine.name}: {unfit}")
    # Also where its outcome is recalled and the golden run is not read: a bundle that was changed must not pass.
    bundle.file(bundle.manifest.check.file)
    check = SelfCheck(bundle)
    for candidate in (precision,) if precision else there.precisions:
        generator = Generator(bundle, _network(bundle, engine, candidate, device, threads), notes)
        try:
            with generator._session(1) as session:
                if precision is not None or candidate is Precision.FP32:
                    check.states(session, generator.engine).require(generator.engine)
                    return generator
                flaw = _flaw(check, session, generator.engine)
        except BaseException:
            generator.close()
            raise
        if flaw is None:
            return generator
        generator.close()
        notes = (*notes, f"{engine.name} in {candidate}: {flaw}")
    raise EngineUnavailableError(f"engine {engine.name} can use none of its precisions: {'; '.join(notes)}")


def _flaw(check: SelfCheck, session: Session, info: EngineInfo) -> str | None:
    """Return why `auto` passes a lower precision over, or None."""
    try:
        found = check.image(session, info)
        if not found.psnr_db >= IMAGE_PSNR_DB:
            return f"the golden image reaches {found.psnr_db:.1f} dB of {IMAGE_PSNR_DB:g}"
        found.require(info)
    except EngineError as error:  # its outputs miss the golden states, or are not finite
        return str(error)
    return None


def _network(bundle: Bundle, engine: Engine, precision: Precision, device: str, threads: int | None) -> Network:
    manifest = bundle.manifest
    graph = bundle.graph_file(bundle.graph(engine.graph_precision(precision)))
    image = manifest.image
    shape = NetworkShape(image.channels, manifest.mask_channels, image.height, image.width)
    return engine.open(graph, shape, device=device, precision=precision, threads=threads)


def _unfit(engine: Engine, precision: Precision | None, device: str) -> str | None:
    """Return why `auto` passes an engine over, or None."""
    there = engine.availability(device)
    if not there.usable:
        return there.reason
    if precision is not None and precision not in there.precisions:
        return f"it computes in {', '.join(there.precisions)} here, not in {precision}"
    return None


def _check_device(device: str) -> str:
    if device not in (AUTO, "cpu"):
        raise OptionError(f"there is no device '{device}': there are cpu and auto")
    return "cpu"


def _precision(name: str) -> Precision:
    if name not in list(Precision):
        raise OptionError(f"there is no precision '{name}': there are {', '.join(Precision)} and auto")
    return Precision(name)


def _agree(counts: dict[str, int]) -> int:
    """Return how many images are asked for: what is given once serves all."""
    if 0 in counts.values():
        raise OptionError(f"there are 0 {min(counts, key=lambda name: counts[name])}: give at least one")
    many = {name: count for name, count in counts.items() if count > 1}
    if len(set(many.values())) > 1:
        listed = " and ".join(f"{count} {name}" for name, count in many.items())
        raise OptionError(f"there are {listed}: give one for each image, or one for all")
    return max(many.values(), default=1)


def _is_whole(number: object) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _listed(seeds: Iterable[int]) -> tuple[int, ...]:
    try:
        return tuple(seeds)
    except TypeError as error:
        raise OptionError(
            f"seeds is {seeds!r}; it must list one seed for each image: give seed for one alone"
        ) from error


def _seeds(seed: int, seeds: Sequence[int] | None, count: int, *, single: bool) -> tuple[int, ...]:
    if seeds is None:
        return (check_seed(seed),) if single else tuple(derive_seed(seed, i) for i in range(count))
    if len(seeds) != count:
        raise OptionError(f"there is 1 seed for {count} images: give one seed an image")
    return tuple(check_seed(s) for s in seeds)
