"""Many label maps to many files: a plan's images, drawn in batches across label maps.

Each image is complete on the disk, with its line in `manifest.jsonl`, before the next is begun.
"""

from __future__ import annotations

import warnings
from collections import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import seggd_rt
from seggd_engines.network import OnStep, Step
from seggd_rt.atomic import make_folder
from seggd_rt.errors import OptionError
from seggd_rt.generator import EmptyMaskWarning, Generator
from seggd_rt.plan import Item, Plan
from seggd_rt.records import ManifestFile, Record


@dataclass(frozen=True)
class Progress:
    """How far a run is: images finished of all, and the step that the batch in work has finished."""

    done: int
    total: int
    batch: int
    step: Step


OnProgress = Callable[[Progress], None]
Records = abc.Generator[Record, None, None]
"""Closing it ends the run."""
_Images = Iterator[tuple[Item, NDArray[np.float32]]]


def run(
    plan: Plan, generator: Generator, *, batch: int = 1, force: bool = False, on_progress: OnProgress | None = None
) -> Records:
    """Draw a plan's images and yield the record of each one whose file is complete.

    Closing the iterator ends the run: what is finished stays, what is not leaves nothing. A single file holds all
    images or does not appear.

    Parameters
    ----------
    plan
        What to draw.
    generator
        Of the plan's bundle.
    batch
        How many images the network draws at a time; the images are the same with any.
    force
        Replace images in the folder that were made with other settings.
    on_progress
        Called after every step; raising ends the run.

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
    """
    if generator.bundle.sha256 != plan.bundle.sha256:
        raise OptionError(f"this run was planned for the bundle {plan.bundle.path}: load that one")
    if batch < 1:
        raise OptionError(f"batch is {batch}; it must be at least 1")
    if plan.output.is_folder and not force:
        ManifestFile(plan.output.path).check_same(
            _record(plan, generator, item, _file_name(plan, item), None) for item in plan
        )
    images = _images(plan, generator, batch, on_progress)
    return (_into_folder if plan.output.is_folder else _into_file)(plan, generator, images)


def _into_folder(plan: Plan, generator: Generator, images: _Images) -> Records:
    folder, writer = plan.output.path, plan.output.writer
    make_folder(folder)
    manifest = ManifestFile(folder)
    manifest.forget(_file_name(plan, item) for item in plan)
    for item, image in images:
        path = folder / _file_name(plan, item)
        with writer.create(path, plan.stack(1)) as file:
            file.append(image)
        record = _record(plan, generator, item, path.name, None)
        manifest.append(record)
        yield record


def _into_file(plan: Plan, generator: Generator, images: _Images) -> Records:
    path, writer = plan.output.path, plan.output.writer
    make_folder(path.parent)
    with writer.create(path, plan.stack(len(plan))) as file:
        for _, image in images:
            file.append(image)
    for item in plan:
        yield _record(plan, generator, item, path.name, item.number if writer.holds_many else None)


def _images(plan: Plan, generator: Generator, batch: int, on_progress: OnProgress | None) -> _Images:
    """Draw all images, batch after batch."""
    done, total = 0, len(plan)
    # A GPU draws a batch in one launch, unless it has to stop after every step to tell of it.
    stepwise = generator.engine.device == "cpu"
    last = Step(plan.settings.steps - 1, plan.settings.steps, 0)
    for items in _batches(plan, batch):
        reporter = _reporter(on_progress, done, total, len(items))
        label_maps = np.stack([plan.label_map(item) for item in items])
        starts = [start for start in map(plan.start, items) if start is not None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyMaskWarning)  # the plan has said it, once for all of them
            images = generator(
                label_maps,
                seeds=[item.seed for item in items],
                steps=plan.settings.steps,
                eta=plan.settings.eta,
                keep=plan.settings.classes,
                noise=np.stack(starts) if starts else None,
                on_step=reporter if stepwise else None,
            )
        if reporter is not None and not stepwise:
            reporter(last)
        yield from zip(items, images, strict=True)
        done += len(items)


def _reporter(on_progress: OnProgress | None, done: int, total: int, batch: int) -> OnStep | None:
    """Return what reports a batch's steps; None where nobody listens, so that an engine may run them as one."""
    if on_progress is None:
        return None
    return lambda step: on_progress(Progress(done, total, batch, step))


def _batches(plan: Plan, size: int) -> Iterator[list[Item]]:
    items: list[Item] = []
    for item in plan:
        items.append(item)
        if len(items) == size:
            yield items
            items = []
    if items:
        yield items


def _file_name(plan: Plan, item: Item) -> str:
    return f"{item.name}{plan.output.writer.suffixes[0]}"


def _record(plan: Plan, generator: Generator, item: Item, file: str, file_index: int | None) -> Record:
    return Record(
        file=file,
        file_index=file_index,
        mask=item.file.path.name,
        mask_index=item.index if item.file.stacked else None,
        seed=item.seed,
        noise=None if plan.noise is None else plan.noise.path.name,
        classes=plan.settings.classes,
        sampler=plan.settings.sampler,
        steps=plan.settings.steps,
        eta=plan.settings.eta,
        engine=generator.engine.engine,
        precision=generator.engine.precision,
        bundle=plan.bundle.sha256,
        version=seggd_rt.__version__,
    )
