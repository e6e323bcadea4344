"""The parts of an evaluation, each measured and written into the report as soon as it is there."""

from __future__ import annotations

import importlib.metadata
import platform
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import seggd_rt
from seggd_engines.catalog import ENGINES
from seggd_engines.network import EngineInfo
from seggd_rt.atomic import write_file
from seggd_rt.bundle import Bundle, sha256_of
from seggd_rt.drawing import Drawing, HowToDraw
from seggd_rt.errors import DataError, OutputError
from seggd_rt.generator import Generator
from seggd_rt.imaging.grid import png_bytes
from seggd_rt.samplers import Sampler
from seggd_training.data import Dataset
from seggd_training.evaluation.cases import Cases, choose_cases, draw_images
from seggd_training.evaluation.cost import Contender, Cost, CostStudy, Setting, parse_grid
from seggd_training.evaluation.faithfulness import measure_faithfulness
from seggd_training.evaluation.features import FeatureGraph
from seggd_training.evaluation.interpolation import AT, WEIGHTS, measure_interpolation
from seggd_training.evaluation.options import EvaluateOptions, Part
from seggd_training.evaluation.origin import Origin, Say, own_segmenter
from seggd_training.evaluation.progress import progress
from seggd_training.evaluation.realism import RealImages, measure_realism
from seggd_training.evaluation.record import (
    SCHEMA,
    BundleRecord,
    DataRecord,
    GenerationRecord,
    Report,
    SegmenterRecord,
)
from seggd_training.evaluation.sheet import render_interpolation, render_sheet, spread_cases
from seggd_training.evaluation.subsets import measure_ablation
from seggd_training.evaluation.use import measure_use
from seggd_training.evaluation.written import write_report
from seggd_training.intensity import to_unit
from seggd_training.resume import fingerprint

SHEET_CASES = 12
_INTERPOLATED_CASES = 3
_PACKAGES = ("seggd-rt", "numpy", "torch", "monai")

POOR_DICE = 0.6
"""Below this on real images, a segmenter judges itself more than the images it is shown."""


class PoorSegmenterWarning(UserWarning):
    """The segmenter does badly on real images, so what it says of generated ones means little."""


def open_generator(options: EvaluateOptions, engine: str, precision: str) -> Generator:
    """Load the bundle of an evaluation with an engine."""
    return seggd_rt.load(
        options.bundle, engine=engine, precision=precision, device=options.device, threads=options.threads
    )


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

    @property
    def how(self) -> HowToDraw:
        """Sampler and spacing, as they were asked for."""
        return HowToDraw(sampler=self.options.sampler, spacing=self.options.spacing)

    @property
    def steps(self) -> int:
        """Steps an image."""
        return len(self.drawing.table)

    @property
    def spacing(self) -> str:
        """How the steps are spread."""
        return self.options.spacing or self.bundle.manifest.schedule.spacing.value

    @property
    def versions(self) -> dict[str, str]:
        """Versions that decide figures."""
        packages = {package: importlib.metadata.version(package) for package in _PACKAGES}
        return {"python": platform.python_version(), **packages}

    @property
    def settings(self) -> dict[str, str | int]:
        """What decides the figures, the segmenter apart, by the names that a user knows."""
        engine = self.generator.engine
        return {
            "bundle": self.bundle.sha256,
            "data": fingerprint(self.measured),
            "split": self.options.split.value,
            "images": len(self.cases.indices),
            "sampler": self.drawing.sampler.value,
            "spacing": self.spacing,
            "steps": self.steps,
            "seed": self.options.seed,
            "engine": engine.engine,
            "engine version": engine.version,
            "precision": engine.precision.value,
            **self.versions,
        }

    def measure(self, origin: Origin, before: Report | None, graph: FeatureGraph | None, leak: str | None) -> Report:
        """Measure everything that was asked for and is not known from before."""
        images, report = self._faithfulness(origin, graph, leak)
        if before is not None:
            report = msgspec.structs.replace(
                report,
                commands={**before.commands, **report.commands},
                ablation=before.ablation,
                interpolation=before.interpolation,
                use=before.use,
                cost=before.cost,
            )
        write_report(report, self.options.output)
        parts = self.options.parts
        if Part.ABLATION in parts and not report.ablation:
            report = self._with(report, Part.ABLATION, ablation=self._ablation(origin))
        if Part.INTERPOLATION in parts and not report.interpolation:
            report = self._with(report, Part.INTERPOLATION, interpolation=self._interpolation(origin))
        if Part.USE in parts and report.use is None:
            report = self._with(report, Part.USE, use=self._use(origin))
        if Part.COST in parts:
            report = self._cost(origin, images, report)
        return report

    def _with(self, report: Report, part: Part, **changes: Any) -> Report:
        """Return a report with one part more, written."""
        commands = {**report.commands, part.value: self.command}
        report = msgspec.structs.replace(report, commands=commands, **changes)
        write_report(report, self.options.output)
        return report

    def _faithfulness(
        self, origin: Origin, graph: FeatureGraph | None, leak: str | None
    ) -> tuple[NDArray[np.float32], Report]:
        options, cases, manifest = self.options, self.cases, self.bundle.manifest
        began = time.monotonic()
        images = self._draw("generating", cases)
        seconds = time.monotonic() - began
        outcome = measure_faithfulness(origin.segmenter, images, cases)
        realism = None
        if len(images) > 1 and len(self.train_set) > 1:
            real = RealImages(to_unit(self.train_set.images), choose_cases(self.train_set).patients)
            realism = measure_realism(origin.segmenter, images, cases, real, graph=graph)
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
        return images, Report(
            schema=SCHEMA,
            commands={"faithfulness": self.command, "realism": self.command},
            versions=self.versions,
            bundle=BundleRecord(
                name=manifest.name,
                sha256=self.bundle.sha256,
                mask_encoding=manifest.mask.encoding.value,
                trained_with_ablation=manifest.mask.trained_with_ablation,
            ),
            data=DataRecord(
                name=options.data.name,
                sha256=sha256_of(options.data) if options.data.is_file() else None,
                content_sha256=fingerprint(self.measured),
                split=options.split.value,
                images=len(cases.indices),
                of_images=len(self.measured),
                empty_masks=int((~cases.label_maps.any(axis=(1, 2))).sum()),
                patients=len(np.unique(cases.patients)) if self.measured.patients is not None else None,
                height=manifest.image.height,
                width=manifest.image.width,
            ),
            generation=GenerationRecord(
                sampler=self.drawing.sampler.value,
                spacing=self.spacing,
                steps=self.steps,
                seed=options.seed,
                batch=options.batch,
                engine=self.generator.engine,
                seconds=round(seconds, 3),
                seconds_per_image=round(seconds / len(cases.indices), 4),
            ),
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
            realism=realism,
            notes=notes,
        )

    def _draw(self, title: str, cases: Cases) -> NDArray[np.float32]:
        """Draw one image for every mask as the bundle, or the options, say."""
        with progress(title, len(cases.indices)) as advance:
            return draw_images(
                partial(self.generator, **self.how),
                cases,
                seed=self.options.seed,
                steps=self.steps,
                batch=self.options.batch,
                on_images=advance,
            )

    def _ablation(self, origin: Origin) -> Any:
        with progress("ablating", len(self.cases.indices) * (len(self.cases.class_names) - 1)) as advance:
            return measure_ablation(
                partial(self.generator, **self.how),
                origin.segmenter,
                self.cases,
                seed=self.options.seed,
                steps=self.steps,
                batch=self.options.batch,
                on_images=advance,
            )

    def _interpolation(self, origin: Origin) -> Any:
        with progress("interpolating", len(self.cases.indices) * len(AT) * len(WEIGHTS)) as advance:
            scores, images = measure_interpolation(
                partial(self.generator.interpolate, **self.how),
                origin.segmenter,
                self.cases,
                seed=self.options.seed,
                steps=self.steps,
                on_images=advance,
            )
        chosen = spread_cases(self.cases.patients, _INTERPOLATED_CASES)
        sheet = render_interpolation(self.cases, images, chosen, self.measured.classes)
        write_file(self.options.output / "sheet-interpolation.png", png_bytes(sheet))
        return scores

    def _use(self, origin: Origin) -> Any:
        drawn = self._draw("drawing training pairs", choose_cases(self.train_set))

        def train(dataset: Dataset, name: str) -> Any:
            path = self.options.output / f"segmenter-{name}.pt"
            return own_segmenter(path, dataset, origin.segmenter.config, self.say, force=self.options.force).segmenter

        return measure_use(origin.segmenter, train, self.train_set, drawn, self.cases, seed=self.options.seed)

    def _cost(self, origin: Origin, images: NDArray[np.float32], report: Report) -> Report:
        """Measure every setting of the grid on the engine in use, and the base's on every other engine."""
        base = self._contender(self.generator, self.drawing.sampler, self.steps)
        study = CostStudy(origin.segmenter, self.cases, base, images, seed=self.options.seed, batch=self.options.batch)
        whole = (Sampler.DDIM, self.bundle.manifest.schedule.train_steps)
        settings = sorted(
            parse_grid(self.options.grid), key=lambda setting: setting != whole
        )  # what others are held to
        kept = self.options.output / "ddim-all-steps.npy"
        reference = _kept_images(kept, images.shape) if whole in settings else None
        with ExitStack() as opened:
            contenders = [self._contender(self.generator, *setting) for setting in settings]
            for engine, precision in self._other_engines():
                other = opened.enter_context(open_generator(self.options, engine, precision))
                contenders.append(self._contender(other, self.drawing.sampler, self.steps))
            for contender in contenders:
                setting, cost = contender.setting, report.cost or Cost(base=base.setting)
                is_whole = (setting.sampler, setting.steps) == whole and setting.engine == base.setting.engine
                if cost.find(setting) is not None and not (is_whole and reference is None):
                    continue
                with progress(str(setting), len(images)) as advance:
                    row, drawn = study.measure(contender, reference, advance)
                if is_whole:
                    reference = drawn
                    _keep_images(kept, drawn)
                rows = (*(known for known in cost.rows if known.setting != setting), row)
                report = self._with(report, Part.COST, cost=msgspec.structs.replace(cost, rows=rows))
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
            for engine in ENGINES
            if info.device.startswith(engine.kind)
            for precision in engine.availability(info.device).precisions
            if engine.graph_precision(precision) in graphs and (engine.name, precision) != (info.engine, info.precision)
        ]


def _kept_images(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """Return the images that an earlier run kept, if they are there and of this shape."""
    if not path.is_file():
        return None
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}: remove it, and it is drawn again") from error
    return found if found.shape == shape and found.dtype == np.float32 else None


def _keep_images(path: Path, images: NDArray[np.float32]) -> None:
    try:
        np.save(path, images, allow_pickle=False)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


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
