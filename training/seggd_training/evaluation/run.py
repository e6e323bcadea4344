"""The whole of `seggd-rt evaluate`: a segmenter from real images, one generated image a mask, scores, report.

The report is written after every part. A run into the same folder with the same settings draws and measures only what
is missing from it; figures of images that are kept there are computed again.
"""

from __future__ import annotations

import tempfile

import torch

from seggd_rt.bundle import Bundle
from seggd_rt.errors import DataError, OptionError, OutputError
from seggd_rt.imaging import Reading
from seggd_rt.inference import Drawing, HowToDraw
from seggd_training.data import Split, check_apart
from seggd_training.evaluation.measures import choose_cases, parse_grid
from seggd_training.evaluation.options import EvaluateOptions, Part
from seggd_training.evaluation.parts import Evaluation, open_generator
from seggd_training.evaluation.real_data import load_split
from seggd_training.evaluation.report import Report, check_files, earlier_report, require_same
from seggd_training.evaluation.segmenter import FeatureGraph, Say, given_segmenter, own_segmenter, segmenter_config


def evaluate(options: EvaluateOptions, *, command: str = "", say: Say = lambda line: None) -> Report:
    """Evaluate a bundle on real masks, and write `report.json`, `report.html` and pictures to the output folder.

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
    check_files(options)
    bundle = Bundle.open(options.bundle, require_signature=options.require_signature)
    how = HowToDraw(sampler=options.sampler, spacing=options.spacing)
    # Refuses what cannot be, before anything is trained.
    drawing = Drawing.resolve(bundle.manifest, {**how, "steps": options.steps})
    for sampler, steps in parse_grid(options.grid) if options.grid is not None else ():
        Drawing.resolve(bundle.manifest, {"sampler": sampler, "steps": steps})
    reading = Reading(axis=options.axis, segments=options.segments, threshold=options.threshold).of_bundle(
        bundle.manifest
    )
    measured, train_set = (
        load_split(options.data, split, bundle.manifest.meaning, reading) for split in (options.split, Split.TRAIN)
    )
    leak = check_apart(train_set, measured)
    cases = choose_cases(measured, options.limit)
    if not cases.label_maps.any():
        raise DataError(f"none of the {len(cases.indices)} chosen masks has foreground: take more (--limit)")
    graph = None if options.feature_graph is None else FeatureGraph.open(options.feature_graph, cases.images.shape[1:])
    given = None if options.segmenter is None else given_segmenter(options.segmenter, train_set)
    if Part.USE in options.parts and given is not None and not given.on_this_data:
        raise OptionError(
            f"--use compares segmenters trained on real and on synthetic pairs of the same masks, and "
            f"{options.segmenter} was trained on other data: leave --segmenter out to train one"
        )
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=options.output):  # learn now, not after minutes, that it cannot be written
            pass
    except OSError as error:
        raise OutputError(f"{options.output} cannot be written: {error.strerror}") from error

    with open_generator(bundle, options, options.engine, options.precision) as generator:
        evaluation = Evaluation(options, command, bundle, drawing, measured, train_set, cases, generator, say)
        path = options.output / "report.json"
        before = None if options.force else earlier_report(path, evaluation.settings)
        own = options.output / "segmenter.pt"
        if before is not None and given is None and not own.exists():
            raise OptionError(f"{path} was made with a segmenter that is not beside it: give it by --segmenter")
        config = segmenter_config(train_set, options.segmenter_steps)
        origin = given or own_segmenter(own, train_set, config, say, force=options.force)
        if before is not None:
            now = {"segmenter": origin.segmenter.sha256}
            require_same(path, {"segmenter": before.segmenter.sha256}, now)
        return evaluation.measure(origin, before, graph, leak)
