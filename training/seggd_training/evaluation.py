"""The whole of `seggd-rt evaluate`: a segmenter from real images, one generated image a mask, scores, report."""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import seggd_rt
from seggd_rt.bundle import Bundle, Manifest, sha256_of
from seggd_rt.drawing import Drawing, HowToDraw
from seggd_rt.errors import DataError, OptionError, OutputError
from seggd_rt.imaging.grid import png_bytes
from seggd_rt.noise import check_seed
from seggd_rt.wording import counted
from seggd_training.ablation_scores import SubsetScores, measure_ablation
from seggd_training.data import Dataset, Split, load_dataset
from seggd_training.evaluation_report import (
    SCHEMA,
    BundleRecord,
    DataRecord,
    GenerationRecord,
    Report,
    SegmenterRecord,
    parse_report,
    write_bytes,
)
from seggd_training.faithfulness import Cases, draw_images, measure_faithfulness
from seggd_training.intensity import to_unit
from seggd_training.leakage import check_apart
from seggd_training.realism import measure_realism
from seggd_training.resume import fingerprint
from seggd_training.segmenter import Segmenter, SegmenterConfig
from seggd_training.segmenter_training import train_segmenter
from seggd_training.sheet import render_sheet, spread_cases

SHEET_CASES = 12
_PACKAGES = ("seggd-rt", "numpy", "torch", "monai")

POOR_DICE = 0.6
"""Below this on real images, a segmenter judges itself more than the images it is shown."""

Say = Callable[[str], None]
"""Takes a line for the user."""


class PoorSegmenterWarning(UserWarning):
    """The segmenter does badly on real images, so what it says of generated ones means little."""


class EvaluateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is chosen about an evaluation.

    Raises
    ------
    OptionError
        A field is outside its range, or two exclude each other.
    """

    bundle: Path
    data: Path
    output: Path
    split: Split = Split.VAL
    segmenter: Path | None = None
    segmenter_steps: int | None = None
    sampler: str | None = None
    spacing: str | None = None
    steps: int | None = None
    seed: int = 0
    batch: int = 8
    limit: int | None = None
    engine: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    ablation: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        """Check every field's range."""
        for field in ("segmenter_steps", "batch", "limit", "threads"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise OptionError(f"--{field.replace('_', '-')} is {value}; it must be at least 1")
        if self.segmenter is not None and self.segmenter_steps is not None:
            raise OptionError("--segmenter and --segmenter-steps exclude each other: a given segmenter is not trained")
        if self.split is Split.TRAIN:
            raise OptionError("--split is train, which the segmenter is trained on: evaluate val or test")
        check_seed(self.seed)


def evaluate(options: EvaluateOptions, *, command: str = "", say: Say = lambda line: None) -> Report:
    """Evaluate a bundle on real masks, and write `report.json`, `sheet.png` and `segmenter.pt` to the output folder.

    Parameters
    ----------
    options
        The evaluation.
    command
        The command line, for the report.
    say
        Told what is done on the way.

    Raises
    ------
    OptionError, DataError
        The data is not of the bundle's classes or channels, an option is outside its range, or what lies in the output
        folder was made with other settings.
    BundleError, EngineError
        The bundle cannot be run.
    CheckpointError
        The given segmenter cannot be read.
    OutputError
        The output folder cannot be written.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    bundle = Bundle.open(options.bundle)
    manifest = bundle.manifest
    how = HowToDraw(sampler=options.sampler, spacing=options.spacing)
    drawing = Drawing.resolve(manifest, {**how, "steps": options.steps})  # refuses what cannot be, before training
    steps = len(drawing.table)
    measured, train_set = (_load(options.data, split, manifest) for split in (options.split, Split.TRAIN))
    leak = check_apart(train_set, measured)
    cases = choose_cases(measured, options.limit)
    given = None if options.segmenter is None else _given_segmenter(options.segmenter, train_set)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=options.output):  # learn now, not after minutes, that it cannot be written
            pass
    except OSError as error:
        raise OutputError(f"{options.output} cannot be written: {error.strerror}") from error

    with seggd_rt.load(
        options.bundle,
        engine=options.engine,
        precision=options.precision,
        device=options.device,
        threads=options.threads,
    ) as generator:
        if not options.force:
            _check_same(
                options.output / "report.json",
                bundle=bundle.sha256,
                data=fingerprint(measured),
                split=options.split.value,
                images=len(cases.indices),
                sampler=drawing.sampler.value,
                spacing=options.spacing or manifest.schedule.spacing.value,
                steps=steps,
                seed=options.seed,
                engine=generator.engine.engine,
                precision=generator.engine.precision.value,
            )
        origin = given or _own_segmenter(options, train_set, say)
        began = time.monotonic()
        with _progress("generating", len(cases.indices)) as advance:
            images = draw_images(
                partial(generator, **how), cases, seed=options.seed, steps=steps, batch=options.batch, on_images=advance
            )
        seconds = time.monotonic() - began
        engine = generator.engine
        ablation: tuple[SubsetScores, ...] = ()
        if options.ablation:
            with _progress("ablating", len(cases.indices) * (len(cases.class_names) - 1)) as advance:
                ablation = measure_ablation(
                    partial(generator, **how),
                    origin.segmenter,
                    cases,
                    seed=options.seed,
                    steps=steps,
                    batch=options.batch,
                    on_images=advance,
                )
    outcome = measure_faithfulness(origin.segmenter, images, cases)

    realism = None
    if len(images) > 1 and len(train_set) > 1:
        realism = measure_realism(origin.segmenter, images, cases, to_unit(train_set.images))
    notes = _notes(measured, cases, origin) + (() if leak is None else (leak,))
    if not outcome.real.dice.mean >= POOR_DICE:
        poor = (
            f"the segmenter reaches a Dice of {outcome.real.dice.mean:.3f} only on real images, so that of generated "
            "ones says little: train it longer (--segmenter-steps) or on more images"
        )
        warnings.warn(poor, PoorSegmenterWarning, stacklevel=2)
        notes = (*notes, poor)
    report = Report(
        schema=SCHEMA,
        command=command,
        versions={
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in _PACKAGES},
        },
        bundle=BundleRecord(name=manifest.name, sha256=bundle.sha256),
        data=DataRecord(
            name=options.data.name,
            sha256=sha256_of(options.data) if options.data.is_file() else None,
            content_sha256=fingerprint(measured),
            split=options.split.value,
            images=len(cases.indices),
            of_images=len(measured),
            empty_masks=int((~cases.label_maps.any(axis=(1, 2))).sum()),
            patients=len(np.unique(cases.patients)) if measured.patients is not None else None,
            height=manifest.image.height,
            width=manifest.image.width,
        ),
        generation=GenerationRecord(
            sampler=drawing.sampler.value,
            spacing=options.spacing or manifest.schedule.spacing.value,
            steps=steps,
            seed=options.seed,
            batch=options.batch,
            engine=engine,
            seconds=round(seconds, 3),
            seconds_per_image=round(seconds / len(cases.indices), 4),
        ),
        segmenter=SegmenterRecord(
            config=origin.segmenter.config,
            source=origin.source,
            data_sha256=origin.segmenter.data,
            trained_on_this_data=origin.on_this_data,
            parameters=sum(p.numel() for p in origin.segmenter.network.parameters()),
            seconds=round(origin.seconds, 1),
        ),
        generated=outcome.generated,
        real=outcome.real,
        realism=realism,
        ablation=ablation,
        notes=notes,
    )
    sheet = render_sheet(cases, outcome, spread_cases(cases.patients, SHEET_CASES), measured.classes)
    write_bytes(options.output / "sheet.png", png_bytes(sheet))
    write_bytes(options.output / "report.json", report.to_json())
    return report


def _check_same(path: Path, **settings: str | int) -> None:
    """Refuse to replace the report of another evaluation.

    Raises
    ------
    OptionError
        There is one; the message names what differs.
    """
    if not path.exists():
        return
    advice = "give another folder with -o, or replace it by --force"
    try:
        old = parse_report(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is there and no report of this version: {advice}") from error
    before: dict[str, str | int] = {
        "bundle": old.bundle.sha256,
        "data": old.data.content_sha256,
        "split": old.data.split,
        "images": old.data.images,
        "sampler": old.generation.sampler,
        "spacing": old.generation.spacing,
        "steps": old.generation.steps,
        "seed": old.generation.seed,
        "engine": old.generation.engine.engine,
        "precision": old.generation.engine.precision.value,
    }
    changed = [name for name, value in settings.items() if before[name] != value]
    if changed:
        was, now = (", ".join(f"{name} {str(values[name])[:12]}" for name in changed) for values in (before, settings))
        raise OptionError(f"{path} was made with {was}, and this evaluation has {now}: {advice}")


def choose_cases(dataset: Dataset, limit: int | None = None) -> Cases:
    """Return all cases of a split, or `limit` of them, evenly spread; without patients each image is one of its own."""
    total = len(dataset)
    count = total if limit is None else min(limit, total)
    indices = (np.arange(count) * total // count).astype(np.int64)
    patients: NDArray[np.generic]
    if dataset.patients is None:
        patients, titles = np.arange(total), dataset.names
    else:
        patients = dataset.patients
        titles = tuple(f"patient {patient}\nmask {i}" for i, patient in enumerate(patients))
    return Cases(
        indices=indices,
        label_maps=dataset.label_maps[indices],
        images=to_unit(dataset.images[indices]),
        patients=patients[indices],
        titles=tuple(titles[i] for i in indices),
        class_names=tuple(c.name for c in dataset.classes),
    )


@dataclass(frozen=True)
class _Origin:
    """A segmenter, and where it comes from."""

    segmenter: Segmenter
    source: str
    on_this_data: bool
    seconds: float = 0.0


def _load(path: Path, split: Split, manifest: Manifest) -> Dataset:
    """Load a split at the bundle's size, and check that it is what the bundle draws."""
    names = tuple(c.name for c in manifest.classes)
    image = manifest.image
    dataset = load_dataset(
        path,
        split=split,
        image_size=(image.height, image.width),
        classes=names if path.is_dir() else None,
        intensity_range=manifest.intensity_range,
    )
    own = tuple(c.name for c in dataset.classes)
    if own != names:
        raise DataError(
            f"{path} has the classes {', '.join(own)}; the bundle has {', '.join(names)}: they must be the same"
        )
    if dataset.images.shape[3] != image.channels:
        channels = counted(dataset.images.shape[3], "channel")
        raise DataError(f"{path} has images of {channels}; the bundle draws {image.channels}")
    if not dataset.label_maps.any():
        raise DataError(f"{path} has no mask with foreground in split {split}: there is nothing to measure")
    return dataset


def _config(train_set: Dataset) -> SegmenterConfig:
    height, width, channels = train_set.images.shape[1:]
    names = tuple(c.name for c in train_set.classes)
    return SegmenterConfig(channels=channels, height=height, width=width, classes=names)


def _given_segmenter(path: Path, train_set: Dataset) -> _Origin:
    found, wanted = Segmenter.load(path), _config(train_set)
    for field in ("channels", "height", "width", "classes"):
        if getattr(found.config, field) != getattr(wanted, field):
            raise OptionError(
                f"{path} is a segmenter for {field} {getattr(found.config, field)}; bundle and data have "
                f"{getattr(wanted, field)}: leave --segmenter out to train one"
            )
    return _Origin(found, f"loaded from {path.name}", found.data == fingerprint(train_set))


def _own_segmenter(options: EvaluateOptions, train_set: Dataset, say: Say) -> _Origin:
    """Load the fitting segmenter of an earlier run into the same folder, or train one and keep it there."""
    config, data = _config(train_set), fingerprint(train_set)
    if options.segmenter_steps is not None:
        config = msgspec.structs.replace(config, steps=options.segmenter_steps)
    kept = options.output / "segmenter.pt"
    if kept.exists():
        found = Segmenter.load(kept)
        if found.config == config and found.data == data:
            say(f"segmenter: {kept} was trained on this data with these settings, and is used again")
            return _Origin(found, "kept from an earlier run", on_this_data=True)
        if not options.force:
            raise OptionError(
                f"{kept} was trained on other data or with other settings: give another folder with -o, or replace it "
                "by --force"
            )
        say(f"segmenter: {kept} was trained on other data or with other settings; training another")
    began = time.monotonic()
    with _progress("training the segmenter", config.steps) as advance:
        trained = train_segmenter(train_set, config, on_step=lambda step, loss: advance(step))
    trained.save(kept)
    return _Origin(trained, "trained in this run", on_this_data=True, seconds=time.monotonic() - began)


def _notes(measured: Dataset, cases: Cases, origin: _Origin) -> tuple[str, ...]:
    notes = []
    if len(cases.indices) < len(measured):
        notes.append(f"a quick look: {len(cases.indices)} of {len(measured)} masks, evenly spread")
    if measured.patients is None:
        notes.append("the data does not name patients: each image counts as one")
    if empty := int((~cases.label_maps.any(axis=(1, 2))).sum()):
        notes.append(f"{empty} of {len(cases.indices)} masks have no foreground; what is predicted there is an error")
    if not origin.on_this_data:
        notes.append(
            "the segmenter was trained on other images than this data's training split: "
            "whether it has seen the images measured here is not known"
        )
    return tuple(notes)


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left on stderr; yields what takes the number done."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        try:
            yield lambda done: bar.update(task, completed=done)
        except BaseException:
            bar.live.transient = True  # an error leaves no bar behind that stands still
            raise
