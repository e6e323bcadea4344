"""Many label maps to many files: a plan's images, drawn in batches across label maps.

Label maps are read, and images written, while the network draws others; neither gets far ahead, so a run of any length
takes the same memory but for the names of its files. An image's line is in `manifest.jsonl` once its file is complete,
and a run that is started again draws what is missing.
"""

from __future__ import annotations

import warnings
from collections import abc, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from msgspec.structs import asdict
from msgspec.structs import replace as struct_replace
from numpy.typing import NDArray

from seggd_rt.errors import OptionError, RejectedError
from seggd_rt.files import make_folder
from seggd_rt.imaging import MARK, ResizedImageWarning, read_real
from seggd_rt.inference import Generator
from seggd_rt.runs.batches import Checking, Draw, Drawer, Made, OnProgress
from seggd_rt.runs.plan import Item, Plan, Target
from seggd_rt.runs.records import ManifestFile, Record, check_replaceable, record_making
from seggd_rt.wording import counted, either

_WRITERS = 2
"""Threads that encode and write images."""
Records = abc.Generator[Record, None, None]
"""Closing it ends the run."""


class RejectedImagesWarning(UserWarning):
    """Images of a run were rejected and not written."""


class UnusualIntensityWarning(UserWarning):
    """Images have classes that are darker or brighter than in training images."""


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
    checking: Checking | None = None,
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
    checking
        How each image is checked; not at all if None. What is rejected is not written: into a folder its record goes to
        `rejected.jsonl`, and it is not drawn again by the next run.

    Raises
    ------
    OptionError
        The generator is of another bundle, `batch` is not positive, an image would replace one that was made with
        other settings, or images are to be drawn again from noise that is given.
    RejectedError
        An image of a single file is rejected.
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
    RejectedImagesWarning, UnusualIntensityWarning
        At the end, with how many.
    """
    if generator.bundle.sha256 != plan.bundle.sha256:
        raise OptionError(f"this run was planned for the bundle {plan.bundle.path}: load that one")
    if batch < 1:
        raise OptionError(f"batch is {batch}; it must be at least 1")
    if checking is not None and checking.retries and plan.noise is not None:
        raise OptionError("another try of an image has another seed, and its noise is given: leave retries out")
    recorder = _Recorder(plan, generator, checking)
    drawn = Drawer(plan, generator, batch, on_progress, draw, checking)
    if not plan.output.is_folder:
        recorder.check_replaceable(plan.output.path, list(plan), force=force)
        return _into_file(plan, recorder, drawn(list(plan)), force=force)
    manifest, rejected = ManifestFile(plan.output.path), ManifestFile(plan.output.path, rejected=True)
    for lines in (manifest, rejected):
        lines.check()
    there = set[str]()
    for lines in () if force else (manifest, rejected):
        if lines.path.exists():
            there |= lines.finished(planned_records(plan, generator, checking))
    missing = [target for target in plan.targets() if plan.output.file_name(target.name) not in there]
    if there:
        finished = len(plan) - sum(len(target.items) for target in missing)
        warnings.warn(
            f"{finished} of {counted(len(plan), 'image')} are in {plan.output.path} already"
            f"{', or were rejected,' if rejected.path.exists() else ''} and are left alone",
            FinishedImagesWarning,
            stacklevel=2,
        )
    for target in missing:  # such as a run leaves that is killed between an image and its record
        path = plan.output.path / plan.output.file_name(target.name)
        recorder.check_replaceable(path, target.items, force=force)
    images = drawn([item for target in missing for item in target.items])
    return _into_folder(plan, recorder, images, manifest, rejected, missing, force=force)


def planned_records(plan: Plan, generator: Generator, checking: Checking | None = None) -> Iterator[Record]:
    """Yield the record of each image of a plan, in the plan's order, before any image is generated."""
    recorder = _Recorder(plan, generator, checking)
    for target in plan.targets():
        for place, item in enumerate(target.items):
            yield recorder.planned(item, plan.output.file_name(target.name), place)


def require_kept(folder: Path) -> None:
    """Refuse to call it a success where a folder of checked images has none: all were rejected, now or before.

    Raises
    ------
    RejectedError
        It is so.
    """
    kept, rejected = (ManifestFile(folder, rejected=which).path for which in (False, True))
    if _has_lines(rejected) and not _has_lines(kept):
        raise RejectedError(f"every image is rejected, and none is in {folder}: {rejected.name} says why")


def _has_lines(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _into_folder(
    plan: Plan,
    recorder: _Recorder,
    images: abc.Generator[Made],
    manifest: ManifestFile,
    rejected: ManifestFile,
    missing: Sequence[Target],
    *,
    force: bool,
) -> Records:
    make_folder(plan.output.path)
    for lines in (manifest, rejected):
        lines.forget(plan.output.file_name(target.name) for target in missing)
    writing: deque[Future[list[Record]]] = deque()
    write = partial(_write, plan, force=force)
    # A volume is large: no more of them wait than are written.
    waiting = 0 if plan.output.writer.holds_volume else 2 * _WRITERS
    refused = unusual = 0

    def record(records: list[Record], written: Future[None]) -> list[Record]:
        written.result()
        return manifest.append(records)

    # Lines are added by a thread of their own: an interrupt reaches the main thread, and never in the middle of that.
    with ThreadPoolExecutor(1, "seggd-record") as recording, ThreadPoolExecutor(_WRITERS, "seggd-write") as writers:
        try:
            for target in missing:
                made = [next(images) for _ in target.items]
                file = plan.output.file_name(target.name)
                records = [recorder.of(each, file, place) for place, each in enumerate(made)]
                unusual += sum(each.result is not None and bool(each.result.outside) for each in made)
                if recorder.is_rejected(records):
                    recording.submit(rejected.append, records).result()
                    refused += len(records)
                    continue
                pixels = [each.image for each in made]
                written = writers.submit(write, target, records, pixels)
                writing.append(recording.submit(record, records, written))
                while writing and (writing[0].done() or len(writing) > waiting):
                    yield from writing.popleft().result()
            while writing:
                yield from writing.popleft().result()
        finally:
            images.close()
            while writing:  # what is written, or as good as, is finished
                writing.popleft().result()
    total = counted(sum(len(target.items) for target in missing), "image")
    if refused:
        warnings.warn(
            f"{refused} of {total} {either(refused, 'is', 'are')} rejected and not written: "
            f"{rejected.path.name} says why",
            RejectedImagesWarning,
            stacklevel=2,
        )
    if unusual:
        warnings.warn(
            f"{unusual} of {total} {either(unusual, 'has', 'have')} classes darker or brighter than in training "
            "images: their records name them",
            UnusualIntensityWarning,
            stacklevel=2,
        )


def _write(
    plan: Plan, target: Target, records: Sequence[Record], images: Sequence[NDArray[np.float32]], *, force: bool
) -> None:
    path, writer = plan.output.path / plan.output.file_name(target.name), plan.output.writer
    # Another run may have written it since this one began.
    may_replace = partial(check_replaceable, path, records, writer=writer, force=force)
    with writer.create(path, plan.stack(target.items), may_replace) as file:
        for record, image in zip(records, images, strict=True):
            file.append(image, record.provenance)


def _into_file(plan: Plan, recorder: _Recorder, images: abc.Iterator[Made], *, force: bool) -> Records:
    path, writer = plan.output.path, plan.output.writer
    make_folder(path.parent)
    records: list[Record] = []
    may_replace = partial(check_replaceable, path, records, writer=writer, force=force)
    with writer.create(path, plan.stack(list(plan)), may_replace) as file:
        for place, made in enumerate(images):
            record = recorder.of(made, path.name, place)
            file.append(made.image, record.provenance)
            records.append(record)
            if not writer.holds_volume:
                recorder.require([record], path)
        recorder.require(records, path)
    yield from records


class _Recorder:
    """Says how images of a run are made, and which of them are rejected."""

    def __init__(self, plan: Plan, generator: Generator, checking: Checking | None) -> None:
        self._plan, self._generator, self._checking = plan, generator, checking
        real = plan.settings.real
        with warnings.catch_warnings(action="ignore", category=ResizedImageWarning):  # said when it is drawn from
            self._real = None if real is None else read_real(real, plan.bundle.manifest, plan.reading)

    def planned(self, item: Item, file: str, place: int) -> Record:
        """Return the record that an image at a place of its file is to have."""
        return self._record(item, self._plan.label_map(item), file, place)

    def check_replaceable(self, path: Path, items: Sequence[Item], *, force: bool) -> None:
        """Check whether images may replace a file, if there is one: see `records.check_replaceable`."""
        if path.exists():
            planned = [self.planned(item, path.name, place) for place, item in enumerate(items)]
            check_replaceable(path, planned, writer=self._plan.output.writer, force=force)

    def of(self, made: Made, file: str, place: int) -> Record:
        """Return the record of an image that is at a place of its file."""
        record = self._record(made.item, made.label_map, file, place)
        first_seed = None if made.seed == made.item.seed else made.item.seed
        return struct_replace(record, seed=made.seed, first_seed=first_seed, check=made.result, batch=made.batch)

    def is_rejected(self, records: Sequence[Record]) -> bool:
        """Say whether the images of a file miss the Dice that was asked for, all together."""
        mean = _mean_dice(records)
        return self._checking is not None and mean is not None and mean < self._checking.min_dice

    def require(self, records: Sequence[Record], path: Path) -> None:
        """Raise RejectedError if the images of a file are rejected."""
        if self._checking is not None and self.is_rejected(records):
            tries = self._checking.retries + 1
            raise RejectedError(
                f"{path} is not written: after {tries} {either(tries, 'try', 'tries')} what is drawn of "
                f"{records[-1].mask} has a Dice of {_mean_dice(records):.3f}, and {self._checking.min_dice:g} is asked "
                "for: allow more tries, or ask for less"
            )

    def _record(self, item: Item, label_map: NDArray[np.uint8], file: str, place: int) -> Record:
        plan, settings, checking = self._plan, self._plan.settings, self._checking
        made = record_making(
            self._generator,
            settings,
            label_map,
            seed=item.seed,
            classes=item.classes,
            fit=plan.reading.fit,
            start=plan.start(item),
            real=self._real,
            at=settings.at,
        )
        made = struct_replace(made, mark=MARK if plan.output.mark else None, keep_patient=plan.output.keep_patient)
        if checking is not None:
            made = struct_replace(made, min_dice=checking.min_dice, retries=checking.retries)
        return Record(
            **asdict(made),
            file=file,
            file_index=place if plan.output.writer.holds_many else None,
            mask=item.file.path.name,
            mask_index=item.index if item.file.stacked else None,
            noise=None if plan.noise is None else plan.noise.path.name,
            real=None if settings.real is None else settings.real.name,
        )


def _mean_dice(records: Sequence[Record]) -> float | None:
    """Return the mean Dice of images, of those that have one."""
    found = [r.check.mean_dice for r in records if r.check is not None and r.check.mean_dice is not None]
    return sum(found) / len(found) if found else None
