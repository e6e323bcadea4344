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
from seggd_rt.plan import Item, Plan
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
_Images = Iterator[tuple[Item, NDArray[np.uint8], NDArray[np.float32]]]
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
        return _into_file(plan, generator, _images(plan, generator, list(plan), batch, on_progress, draw))
    manifest, there = ManifestFile(plan.output.path), set[str]()
    if manifest.path.exists():
        made = (_record(plan, generator, item, plan.label_map(item), _file_name(plan, item), None) for item in plan)
        there = manifest.finished(made, force=force)
    if force:
        there.clear()
    if there:
        warnings.warn(
            f"{len(there)} of {counted(len(plan), 'image')} are in {plan.output.path} already and are left alone",
            FinishedImagesWarning,
            stacklevel=2,
        )
    missing = [item for item in plan if _file_name(plan, item) not in there]
    images = _images(plan, generator, missing, batch, on_progress, draw)
    return _into_folder(plan, generator, images, manifest, missing)


def _into_folder(
    plan: Plan, generator: Generator, images: _Images, manifest: ManifestFile, missing: Sequence[Item]
) -> Records:
    make_folder(plan.output.path)
    manifest.forget(_file_name(plan, item) for item in missing)
    writing: deque[tuple[Record, Future[None]]] = deque()

    def record_first() -> Record:
        record, written = writing.popleft()
        written.result()
        manifest.append(record)
        return record

    with ThreadPoolExecutor(_WRITERS, "seggd-write") as writers:
        try:
            for item, label_map, image in images:
                record = _record(plan, generator, item, label_map, _file_name(plan, item), None)
                writing.append((record, writers.submit(_write, plan, record, image)))
                while writing and (writing[0][1].done() or len(writing) > 2 * _WRITERS):
                    yield record_first()
            while writing:
                yield record_first()
        finally:
            while writing:  # what is written, or as good as, is finished
                record_first()


def _write(plan: Plan, record: Record, image: NDArray[np.float32]) -> None:
    with plan.output.writer.create(plan.output.path / record.file, plan.stack(1)) as file:
        file.append(image)


def _into_file(plan: Plan, generator: Generator, images: _Images) -> Records:
    path, writer = plan.output.path, plan.output.writer
    make_folder(path.parent)
    records = []
    with writer.create(path, plan.stack(len(plan))) as file:
        for item, label_map, image in images:
            file.append(image)
            index = item.number if writer.holds_many else None
            records.append(_record(plan, generator, item, label_map, path.name, index))
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
    real = None if settings.real is None else read_real(settings.real, plan.bundle.manifest.image)

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


def _file_name(plan: Plan, item: Item) -> str:
    return f"{item.name}{plan.output.writer.suffixes[0]}"


def _record(
    plan: Plan, generator: Generator, item: Item, label_map: NDArray[np.uint8], file: str, file_index: int | None
) -> Record:
    settings = plan.settings
    return Record(
        file=file,
        file_index=file_index,
        mask=item.file.path.name,
        mask_index=item.index if item.file.stacked else None,
        mask_sha256=hashlib.sha256(label_map.tobytes()).hexdigest(),
        seed=item.seed,
        noise=None if plan.noise is None else plan.noise.path.name,
        classes=item.classes,
        sampler=settings.sampler,
        steps=settings.steps,
        eta=settings.eta,
        spacing=settings.spacing,
        guidance=settings.guidance,
        against=settings.against,
        real=None if settings.real is None else settings.real.name,
        at=settings.at,
        engine=generator.engine.engine,
        precision=generator.engine.precision,
        bundle=plan.bundle.sha256,
        version=seggd_rt.__version__,
    )
