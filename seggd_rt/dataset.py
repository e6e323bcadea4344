"""Many label maps to many files: a plan's images, drawn in batches across label maps.

Label maps are read, and images written, while the network draws others; neither gets far ahead, so a run of any length
takes the same memory. An image's line is in `manifest.jsonl` once its file is complete, and a run that is started again
draws what is missing.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import abc, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import seggd_rt
from seggd_engines.network import OnStep, Step
from seggd_rt.atomic import make_folder
from seggd_rt.drawing import AblationWarning, HowToDraw
from seggd_rt.errors import OptionError
from seggd_rt.generator import EmptyMaskWarning, Generator
from seggd_rt.imaging.real import read_real
from seggd_rt.labels import OneHotWarning
from seggd_rt.plan import Item, Plan, Target
from seggd_rt.records import ManifestFile, Record
from seggd_rt.wording import counted


@dataclass(frozen=True)
class Progress:
    """How far a run is: images drawn of all to draw, and the step that the batch in work has finished."""

    done: int
    total: int
    batch: int
    step: Step


OnProgress = Callable[[Progress], None]
Records = abc.Generator[Record, None, None]
"""Closing it ends the run."""
_Images = abc.Generator[tuple[Item, NDArray[np.uint8], NDArray[np.float32]]]
Maps = NDArray[np.uint8]
Starts = NDArray[np.floating] | None
Images = NDArray[np.float32]
Draw = Callable[[Sequence[Item], Maps, Starts, OnStep | None], Images]
"""Draws a batch: its items, label maps, (N, H, W), and given noise, (N, C, H, W); told what to call after a step."""
_Batch = tuple[Sequence[Item], Maps, Starts]
_WRITERS = 2
"""Threads that encode and write images."""


class FinishedImagesWarning(UserWarning):
    """Images of a run are there already, from an earlier try, and are not drawn again."""


def run(
    plan: Plan,
    generator: Generator,
    *,
    batch: int = 1,
    force: bool = False,
    on_progress: OnProgress | None = None,
    draw: Draw | None = None,
) -> Records:
    """Draw a plan's images and yield the record of each one whose file is complete.

    Into a folder, what is there already and was made as planned is left alone. Closing the iterator ends the run: what
    is finished stays, what is not leaves nothing. A single file holds all images or does not appear.

    Parameters
    ----------
    plan
        What to draw.
    generator
        Of the plan's bundle.
    batch
        How many images the network draws at a time; the images are the same with any.
    force
        Draw all of them again, and replace images in the folder that were made with other settings.
    on_progress
        Called after every step, on a GPU after every batch; raising ends the run.
    draw
        Draws a batch in place of the generator's call: what shows images on their way, say. It must give the same.

    Raises
    ------
    OptionError
        The generator is of another bundle, `batch` is not positive, or an image would replace one that was made with
        other settings.
    DataError
        A label map was changed since the plan was made, or the folder's `manifest.jsonl` is damaged.
    OutputError
        A file cannot be written.
    EngineError
        The engine failed.

    Warns
    -----
    FinishedImagesWarning
        Some of the images are there already.
    """
    if generator.bundle.sha256 != plan.bundle.sha256:
        raise OptionError(f"this run was planned for the bundle {plan.bundle.path}: load that one")
    if batch < 1:
        raise OptionError(f"batch is {batch}; it must be at least 1")
    if not plan.output.is_folder:
        images = _images(plan, generator, list(plan), batch, on_progress, draw)
        return _into_file(plan, _Recorder(plan, generator), images)
    manifest, there = ManifestFile(plan.output.path), set[str]()
    recorder = _Recorder(plan, generator)
    if manifest.path.exists():
        made = (
            recorder.of(item, plan.label_map(item), plan.output.file_name(target), place, plan.start(item))
            for target in plan.targets()
            for place, item in enumerate(target.items)
        )
        there = manifest.finished(made, force=force)
    if force:
        there.clear()
    missing = [target for target in plan.targets() if plan.output.file_name(target) not in there]
    if there:
        finished = len(plan) - sum(len(target.items) for target in missing)
        warnings.warn(
            f"{finished} of {counted(len(plan), 'image')} are in {plan.output.path} already and are left alone",
            FinishedImagesWarning,
            stacklevel=2,
        )
    items = [item for target in missing for item in target.items]
    images = _images(plan, generator, items, batch, on_progress, draw)
    return _into_folder(plan, recorder, images, manifest, missing)


def _into_folder(
    plan: Plan, recorder: _Recorder, images: _Images, manifest: ManifestFile, missing: Sequence[Target]
) -> Records:
    make_folder(plan.output.path)
    manifest.forget(plan.output.file_name(target) for target in missing)
    writing: deque[tuple[list[Record], Future[None]]] = deque()
    # A volume is large: no more of them wait than are written.
    waiting = 0 if plan.output.writer.holds_volume else 2 * _WRITERS

    def record_first() -> list[Record]:
        records, written = writing.popleft()
        written.result()
        manifest.append(records)
        return records

    with ThreadPoolExecutor(_WRITERS, "seggd-write") as writers:
        try:
            for target in missing:
                drawn = [next(images) for _ in target.items]
                file = plan.output.file_name(target)
                records = [
                    recorder.of(item, label_map, file, place, plan.start(item))
                    for place, (item, label_map, _) in enumerate(drawn)
                ]
                pixels = [image for _, _, image in drawn]
                writing.append((records, writers.submit(_write, plan, target, records, pixels)))
                while writing and (writing[0][1].done() or len(writing) > waiting):
                    yield from record_first()
            while writing:
                yield from record_first()
        finally:
            images.close()
            while writing:  # what is written, or as good as, is finished
                record_first()


def _write(plan: Plan, target: Target, records: Sequence[Record], images: Sequence[NDArray[np.float32]]) -> None:
    path = plan.output.path / plan.output.file_name(target)
    with plan.output.writer.create(path, plan.stack(target.items)) as file:
        for record, image in zip(records, images, strict=True):
            file.append(image, record.provenance)


def _into_file(plan: Plan, recorder: _Recorder, images: _Images) -> Records:
    path, writer = plan.output.path, plan.output.writer
    make_folder(path.parent)
    records = []
    with writer.create(path, plan.stack(list(plan))) as file:
        for place, (item, label_map, image) in enumerate(images):
            record = recorder.of(item, label_map, path.name, place, plan.start(item))
            file.append(image, record.provenance)
            records.append(record)
    yield from records


def settings_of(plan: Plan) -> HowToDraw:
    """Return what every image of a plan is drawn with, but for its classes."""
    settings = plan.settings
    return HowToDraw(
        sampler=settings.sampler,
        steps=settings.steps,
        eta=settings.eta,
        spacing=settings.spacing,
        guidance=settings.guidance,
        against=settings.against,
    )


def _images(
    plan: Plan,
    generator: Generator,
    wanted: Sequence[Item],
    batch: int,
    on_progress: OnProgress | None,
    draw: Draw | None,
) -> _Images:
    """Draw images, batch after batch."""
    done = 0
    draw = draw or _drawer(plan, generator)
    # A GPU draws a batch in one launch, unless it has to stop after every step to tell of it.
    stepwise = generator.engine.device == "cpu"
    last = Step(plan.settings.steps - 1, plan.settings.steps, 0)
    for items, label_maps, starts in _loaded(plan, wanted, batch):
        reporter = _reporter(on_progress, done, len(wanted), len(items))
        with warnings.catch_warnings():
            for said in (EmptyMaskWarning, OneHotWarning, AblationWarning):  # by the plan, once for all images
                warnings.simplefilter("ignore", said)
            images = draw(items, label_maps, starts, reporter if stepwise else None)
        if reporter is not None and not stepwise:
            reporter(last)
        yield from zip(items, label_maps, images, strict=True)
        done += len(items)


def _drawer(plan: Plan, generator: Generator) -> Draw:
    """Return what draws a batch by the generator: from noise, or from the plan's real image."""
    settings, how = plan.settings, settings_of(plan)
    real = None if settings.real is None else read_real(settings.real, plan.bundle.manifest, plan.reading)

    def draw(items: Sequence[Item], label_maps: Maps, starts: Starts, on_step: OnStep | None) -> Images:
        each, seeds = [item.classes for item in items], [item.seed for item in items]
        if real is None or settings.at is None:  # the plan has both or neither
            return generator(label_maps, seeds=seeds, noise=starts, on_step=on_step, keep_each=each, **how)
        return generator.translate(
            real, label_maps, at=settings.at, seeds=seeds, on_step=on_step, keep_each=each, **how
        )

    return draw


def _loaded(plan: Plan, wanted: Sequence[Item], batch: int) -> Iterator[_Batch]:
    """Yield batches of items with their label maps and given starts; the next is read while one is drawn."""

    def load(start: int) -> _Batch:
        items = wanted[start : start + batch]
        starts = [given for given in map(plan.start, items) if given is not None]
        return items, np.stack([plan.label_map(item) for item in items]), np.stack(starts) if starts else None

    with ThreadPoolExecutor(1, "seggd-read") as reader:
        following: Future[_Batch] | None = None
        for start in range(0, len(wanted), batch):
            loaded = load(start) if following is None else following.result()
            following = reader.submit(load, start + batch) if start + batch < len(wanted) else None
            yield loaded


def _reporter(on_progress: OnProgress | None, done: int, total: int, batch: int) -> OnStep | None:
    """Return what reports a batch's steps; None where nobody listens, so that an engine may run them as one."""
    if on_progress is None:
        return None
    return lambda step: on_progress(Progress(done, total, batch, step))


class _Recorder:
    """Says how images of a run are made."""

    def __init__(self, plan: Plan, generator: Generator) -> None:
        self._plan, self._engine, settings = plan, generator.engine, plan.settings
        self._real = None
        if settings.real is not None:
            self._real = _digest(read_real(settings.real, plan.bundle.manifest, plan.reading))

    def of(self, item: Item, label_map: Maps, file: str, place: int, start: NDArray[np.floating] | None) -> Record:
        """Return the record of an image that is at a place of its file."""
        plan, settings = self._plan, self._plan.settings
        return Record(
            file=file,
            file_index=place if plan.output.writer.holds_many else None,
            mask=item.file.path.name,
            mask_index=item.index if item.file.stacked else None,
            mask_sha256=_digest(label_map),
            seed=item.seed,
            noise=None if plan.noise is None else plan.noise.path.name,
            noise_sha256=None if start is None else _digest(start.astype(np.float32)),
            classes=item.classes,
            sampler=settings.sampler,
            steps=settings.steps,
            eta=settings.eta,
            spacing=settings.spacing,
            guidance=settings.guidance,
            against=settings.against,
            real=None if settings.real is None else settings.real.name,
            real_sha256=self._real,
            at=settings.at,
            fit=plan.reading.fit,
            engine=self._engine.engine,
            precision=self._engine.precision,
            bundle=plan.bundle.sha256,
            version=seggd_rt.__version__,
            keep_patient=plan.output.keep_patient,
            mark=plan.output.mark,
        )


def _digest(array: NDArray[np.generic]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()
