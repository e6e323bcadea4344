"""The parts of an evaluation, each measured and written into the report as soon as it is there."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import time
import warnings
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Bundle, sha256_of
from seggd_rt.diffusion import Sampler
from seggd_rt.engine import EngineInfo, registry
from seggd_rt.files import write_file
from seggd_rt.imaging import png_bytes
from seggd_rt.inference import Drawing, Generator, HowToDraw, load_bundle
from seggd_rt.wording import counted
from seggd_training.data import Dataset, Levels
from seggd_training.evaluation.measures import (
    AT,
    WEIGHTS,
    Cases,
    Contender,
    Cost,
    CostStudy,
    InterpolationScores,
    Memorisation,
    RealImages,
    Realism,
    Setting,
    SubsetScores,
    UseScores,
    choose_cases,
    default_grid,
    draw_images,
    measure_ablation,
    measure_faithfulness,
    measure_interpolation,
    measure_memorisation,
    measure_realism,
    measure_use,
    parse_grid,
)
from seggd_training.evaluation.options import EvaluateOptions, Part
from seggd_training.evaluation.progress import progress
from seggd_training.evaluation.report import (
    SCHEMA,
    BundleRecord,
    DataRecord,
    GenerationRecord,
    Report,
    SegmenterRecord,
    Settings,
    keep_images,
    kept_images,
    kept_or_drawn,
    render_closest,
    render_interpolation,
    render_sheet,
    settings_of,
    spread_cases,
    write_report,
)
from seggd_training.evaluation.segmenter import (
    POOR_DICE,
    FeatureGraph,
    Origin,
    PoorSegmenterWarning,
    Say,
    Segmenter,
    own_segmenter,
)
from seggd_training.loop import fingerprint

SHEET_CASES = 12
_INTERPOLATED_CASES = 3
_PACKAGES = ("seggd-rt", "numpy", "torch", "monai")


class CopiesWarning(UserWarning):
    """Generated images lie so near to training images that they may be copies."""


def open_generator(bundle: Bundle, options: EvaluateOptions, engine: str, precision: str) -> Generator:
    """Load the bundle of an evaluation with an engine."""
    return load_bundle(bundle, engine=engine, precision=precision, device=options.device, threads=options.threads)


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, on what, and what measures each part of the report."""

    options: EvaluateOptions
    command: str
    bundle: Bundle
    drawing: Drawing
    measured: Dataset
    train_set: Dataset
    cases: Cases
    generator: Generator
    say: Say

    @cached_property
    def settings(self) -> Settings:
        """What decides the figures, the segmenter apart."""
        return settings_of(self._bundle_record(), self._data_record, self._generation_record(0.0), _versions())

    def measure(self, origin: Origin, before: Report | None, graph: FeatureGraph | None, leak: str | None) -> Report:
        """Measure everything that was asked for and is not known from before."""
        images, report = self._faithfulness(origin, before, graph, leak)
        write_report(report, self.options.output)
        parts = self.options.parts
        if Part.ABLATION in parts and not report.ablation:
            report = self._with(report, Part.ABLATION, ablation=self._ablation(origin))
        if Part.INTERPOLATION in parts and not report.interpolation:
            report = self._with(report, Part.INTERPOLATION, interpolation=self._interpolation(origin))
        if Part.MEMORISATION in parts and report.memorisation is None:
            report = self._with(report, Part.MEMORISATION, memorisation=self._memorisation(origin, images))
        if Part.USE in parts and report.use is None:
            report = self._with(report, Part.USE, use=self._use(origin))
        if Part.COST in parts:
            report = self._cost(origin, images, report)
        return report

    def _with(self, report: Report, part: Part, **changes: Any) -> Report:
        """Return a report with one part more, written."""
        known = report.commands.get(part.value, ())
        commands = {**report.commands, part.value: known if self.command in known else (*known, self.command)}
        report = msgspec.structs.replace(report, commands=commands, **changes)
        write_report(report, self.options.output)
        return report

    def _faithfulness(
        self, origin: Origin, before: Report | None, graph: FeatureGraph | None, leak: str | None
    ) -> tuple[NDArray[np.float32], Report]:
        """Return one image for each mask, and the report of them, with the parts that are known from before."""
        options, cases = self.options, self.cases
        path = options.output / "images.npz"
        images = None if before is None else kept_images(path, self.settings)
        if before is not None and images is not None:
            seconds, command = before.generation.seconds, before.commands["faithfulness"]
        else:
            began = time.monotonic()
            images = self._draw("generating", cases)
            seconds, command = time.monotonic() - began, (self.command,)
            keep_images(path, self.settings, images)
        outcome = measure_faithfulness(origin.segmenter, images, cases, seed=options.seed)
        notes = _notes(self.measured, cases, origin) + (() if leak is None else (leak,))
        if not outcome.real.dice.mean >= POOR_DICE:
            poor = (
                f"the segmenter reaches a Dice of {outcome.real.dice.mean:.3f} only on real images, so that of "
                "generated ones says little: train it longer (--segmenter-steps) or on more images"
            )
            warnings.warn(poor, PoorSegmenterWarning, stacklevel=4)
            notes = (*notes, poor)
        sheet = render_sheet(cases, outcome, spread_cases(cases.patients, SHEET_CASES), self.measured.classes)
        write_file(options.output / "sheet.png", png_bytes(sheet))
        report = Report(
            schema=SCHEMA,
            commands={"faithfulness": command, "realism": command if graph is None else (self.command,)},
            versions=_versions(),
            bundle=self._bundle_record(),
            data=self._data_record,
            generation=self._generation_record(seconds),
            segmenter=SegmenterRecord(
                config=origin.segmenter.config,
                sha256=origin.segmenter.sha256,
                source=origin.source,
                data_sha256=origin.segmenter.data,
                trained_on_this_data=origin.on_this_data,
                parameters=sum(p.numel() for p in origin.segmenter.network.parameters()),
                seconds=round(origin.seconds, 1),
            ),
            generated=outcome.generated,
            real=outcome.real,
            realism=self._realism(origin, images, before, graph),
            notes=notes,
        )
        if before is None:
            return images, report
        return images, msgspec.structs.replace(
            report,
            commands={**before.commands, **report.commands},
            ablation=before.ablation,
            interpolation=before.interpolation,
            memorisation=before.memorisation,
            use=before.use,
            cost=before.cost,
        )

    def _realism(
        self, origin: Origin, images: NDArray[np.float32], before: Report | None, graph: FeatureGraph | None
    ) -> Realism | None:
        if len(images) < 2 or len(self.train_set) < 2:
            return None
        training = RealImages(self.train_set.images, choose_cases(self.train_set).patients)
        found = measure_realism(origin.segmenter, images, self.cases, training, graph=graph, seed=self.options.seed)
        if graph is None and before is not None and before.realism is not None:
            return msgspec.structs.replace(found, other=before.realism.other)
        return found

    def _draw(self, title: str, cases: Cases) -> NDArray[np.float32]:
        """Draw one image for every mask as the bundle, or the options, say."""
        with progress(title, len(cases.indices)) as advance:
            return draw_images(
                partial(self.generator, **self._how()),
                cases,
                seed=self.options.seed,
                steps=self._steps,
                batch=self.options.batch,
                on_images=advance,
            )

    def _ablation(self, origin: Origin) -> tuple[SubsetScores, ...]:
        with progress("ablating", len(self.cases.indices) * (len(self.cases.class_names) - 1)) as advance:
            return measure_ablation(
                partial(self.generator, **self._how()),
                origin.segmenter,
                self.cases,
                seed=self.options.seed,
                steps=self._steps,
                batch=self.options.batch,
                on_images=advance,
            )

    def _interpolation(self, origin: Origin) -> tuple[InterpolationScores, ...]:
        shown = spread_cases(self.cases.patients, _INTERPOLATED_CASES)
        with progress("interpolating", len(self.cases.indices) * len(AT) * len(WEIGHTS)) as advance:
            scores, images = measure_interpolation(
                partial(self.generator.interpolate, **self._how()),
                origin.segmenter,
                self.cases,
                seed=self.options.seed,
                steps=self._steps,
                shown=shown,
                on_images=advance,
            )
        sheet = render_interpolation(self.cases, images, shown, self.measured.classes)
        write_file(self.options.output / "sheet-interpolation.png", png_bytes(sheet))
        return scores

    def _memorisation(self, origin: Origin, images: NDArray[np.float32]) -> Memorisation:
        found, pairs = measure_memorisation(
            origin.segmenter, images, self.cases, self.train_set, seed=self.options.seed
        )
        sheet = render_closest(pairs, self.train_set.images)
        write_file(self.options.output / "sheet-memorisation.png", png_bytes(sheet))
        if found.copies:
            warnings.warn(
                f"{found.copies} of {counted(len(images), 'generated image')} may be copies of training images: see "
                f"{self.options.output / 'sheet-memorisation.png'}",
                CopiesWarning,
                stacklevel=4,
            )
        return found

    def _use(self, origin: Origin) -> UseScores:
        options, levels = self.options, self.train_set.images

        def draw() -> Levels:
            images = self._draw("drawing training pairs", choose_cases(self.train_set))
            return np.rint(images * np.iinfo(levels.dtype).max).astype(levels.dtype)  # as a file of them would have it

        def train(dataset: Dataset, name: str) -> Segmenter:
            path = options.output / f"segmenter-{name}.pt"
            return own_segmenter(path, dataset, origin.segmenter.config, self.say, force=options.force).segmenter

        settings = {**self.settings, "training data": fingerprint(self.train_set)}
        drawn = kept_or_drawn(options.output / "training-pairs.npz", settings, draw, force=options.force)
        return measure_use(origin.segmenter, train, self.train_set, drawn, self.cases, seed=options.seed)

    def _cost(self, origin: Origin, images: NDArray[np.float32], report: Report) -> Report:
        """Measure every setting of the grid on the engine in use, and the base's on every other engine."""
        options, train_steps = self.options, self.bundle.manifest.schedule.train_steps
        base = self._contender(self.generator, self.drawing.sampler, self._steps)
        study = CostStudy(origin.segmenter, self.cases, base, images, seed=options.seed, batch=options.batch)
        whole = (Sampler.DDIM, train_steps)
        grid = parse_grid(options.grid or default_grid(train_steps))
        kept = options.output / "ddim-all-steps.npz"
        reference = None if options.force else kept_images(kept, self.settings)

        def measure(contender: Contender) -> None:
            nonlocal report, reference
            setting, cost = contender.setting, report.cost or Cost(base=base.setting)
            is_whole = (setting.sampler, setting.steps) == whole and setting.engine == base.setting.engine
            known = cost.find(setting)
            has_reference = reference is not None and not is_whole
            if (
                known is not None
                and known.is_complete(has_reference=has_reference)
                and not (is_whole and reference is None)
            ):
                return
            title = f"{setting}, {setting.engine.engine} {setting.engine.precision}"
            with progress(title, len(images)) as advance:
                row, drawn = study.measure(contender, None if is_whole else reference, advance)
            if is_whole:
                reference = drawn
                keep_images(kept, self.settings, drawn)
            rows = (*(other for other in cost.rows if other.setting != setting), row)
            report = self._with(report, Part.COST, cost=msgspec.structs.replace(cost, rows=rows))

        for sampler, steps in sorted(grid, key=lambda setting: setting != whole):  # first what others are held to
            measure(self._contender(self.generator, sampler, steps))
        for engine, precision in self._other_engines():
            with open_generator(self.bundle, options, engine, precision) as other:
                measure(self._contender(other, self.drawing.sampler, self._steps))
        return report

    def _contender(self, generator: Generator, sampler: Sampler, steps: int) -> Contender:
        engine = replace(generator.engine, notes=())
        draw = partial(generator, **HowToDraw(sampler=sampler.value, spacing=self.options.spacing))
        return Contender(Setting(sampler=sampler, steps=steps, engine=engine), draw)

    def _other_engines(self) -> list[tuple[str, str]]:
        """Return the engines and precisions that can run the bundle on the device in use, without the one in use."""
        info: EngineInfo = self.generator.engine
        graphs = {graph.precision for graph in self.bundle.manifest.graphs}
        return [
            (engine.name, precision.value)
            for engine in registry.engines()
            if info.device.startswith(engine.kind)
            for precision in engine.availability(info.device).precisions
            if engine.graph_precision(precision) in graphs and (engine.name, precision) != (info.engine, info.precision)
        ]

    def _how(self) -> HowToDraw:
        return HowToDraw(sampler=self.options.sampler, spacing=self.options.spacing)

    @property
    def _steps(self) -> int:
        return len(self.drawing.table)

    def _bundle_record(self) -> BundleRecord:
        manifest = self.bundle.manifest
        return BundleRecord(
            name=manifest.name,
            sha256=self.bundle.sha256,
            checkpoint_sha256=manifest.provenance.checkpoint_sha256,
            mask_encoding=manifest.mask.encoding.value,
            trained_with_ablation=manifest.mask.trained_with_ablation,
        )

    @cached_property
    def _data_record(self) -> DataRecord:  # hashes the data: once
        options, cases, image, patients = self.options, self.cases, self.bundle.manifest.image, self.measured.patients
        return DataRecord(
            name=options.data.name,
            sha256=sha256_of(options.data) if options.data.is_file() else None,
            content_sha256=fingerprint(self.measured),
            split=options.split.value,
            images=len(cases.indices),
            of_images=len(self.measured),
            empty_masks=int((~cases.label_maps.any(axis=(1, 2))).sum()),
            patients=None if patients is None else len(np.unique(cases.patients)),
            patients_sha256=None if patients is None else hashlib.sha256(repr(patients.tolist()).encode()).hexdigest(),
            height=image.height,
            width=image.width,
        )

    def _generation_record(self, seconds: float) -> GenerationRecord:
        seconds = round(seconds, 3)  # before what follows from it, so that a kept record is written as it was
        return GenerationRecord(
            sampler=self.drawing.sampler.value,
            spacing=self.options.spacing or self.bundle.manifest.schedule.spacing.value,
            steps=self._steps,
            seed=self.options.seed,
            batch=self.options.batch,
            engine=self.generator.engine,
            seconds=seconds,
            seconds_per_image=round(seconds / len(self.cases.indices), 4),
        )


def _versions() -> dict[str, str]:
    """Return the versions that decide figures."""
    packages = {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), **packages}


def _notes(measured: Dataset, cases: Cases, origin: Origin) -> tuple[str, ...]:
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
