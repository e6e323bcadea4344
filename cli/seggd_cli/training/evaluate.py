"""`seggd-rt evaluate`: how well a bundle's images show their masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seggd_cli.command_line import portable_command
from seggd_cli.options import (
    AxisName,
    BundleFolder,
    DeviceName,
    EngineName,
    PrecisionName,
    RequireSignature,
    SamplerName,
    SegmentMap,
    SpacingName,
    Steps,
    Threads,
    Threshold,
    axis_of,
)
from seggd_cli.strict_command import needs
from seggd_rt import terminal
from seggd_rt.errors import OptionError
from seggd_rt.optional import require
from seggd_rt.wording import printable


@needs(grid=("cost", "everything"))
def evaluate(
    bundle: BundleFolder,
    data: Annotated[
        Path, typer.Option(help="A folder with images/{train,val} and masks/all/{train,val}, or an .npz: real images.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report, sheet and segmenter.")],
    split: Annotated[str, typer.Option(help="Whose masks are drawn: val or test.")] = "val",
    axis: AxisName = None,
    segments: SegmentMap = None,
    threshold: Threshold = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="A segmenter of an earlier run, in place of training one.")
    ] = None,
    segmenter_steps: Annotated[int | None, typer.Option(help="Steps to train the segmenter for.")] = None,
    sampler: SamplerName = None,
    spacing: SpacingName = None,
    steps: Steps = None,
    seed: Annotated[int, typer.Option(help="Of the run: image i has a seed derived from it and i.")] = 0,
    batch: Annotated[int, typer.Option(help="Images drawn at a time.")] = 8,
    limit: Annotated[int | None, typer.Option(help="A quick look: only so many masks, evenly spread.")] = None,
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    device: DeviceName = "auto",
    threads: Threads = None,
    require_signature: RequireSignature = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also draw every mask from subsets of its classes, of every size.")
    ] = False,
    interpolation: Annotated[
        bool, typer.Option("--interpolation", help="Also mix every mask's real image in, by several weights.")
    ] = False,
    memorisation: Annotated[
        bool,
        typer.Option("--memorisation", help="Also look for copies of training images, beside held-out real ones."),
    ] = False,
    use: Annotated[
        bool, typer.Option("--use", help="Also train segmenters on synthetic pairs and on both, and test them.")
    ] = False,
    cost: Annotated[
        bool, typer.Option("--cost", help="Also compare samplers, steps and engines, as --grid says.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also all five of these.")] = False,
    grid: Annotated[
        str | None, typer.Option(help="What --cost compares: SAMPLER:STEPS,STEPS ...  [default: 15 settings]")
    ] = None,
    feature_graph: Annotated[
        Path | None, typer.Option(help="An ONNX graph, such as InceptionV3, for a second Frechet distance.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a report and a segmenter of other settings.")] = False,
) -> None:
    """Draw one image for every real mask, segment it, and compare; the segmenter has seen real images only."""
    for module in ("torch", "monai", "scipy", "jinja2", "matplotlib"):
        require(module, extra="eval", feature="seggd-rt evaluate")
    from seggd_rt.imaging.dicom import parse_map
    from seggd_training.data import Split
    from seggd_training.evaluation import EvaluateOptions, Part
    from seggd_training.evaluation import evaluate as run
    from seggd_training.evaluation.report import for_terminal, tables

    if split not in list(Split):
        raise OptionError(f"--split is '{split}'; it must be val or test")
    asked = {
        Part.ABLATION: ablation,
        Part.INTERPOLATION: interpolation,
        Part.MEMORISATION: memorisation,
        Part.USE: use,
        Part.COST: cost,
    }
    options = EvaluateOptions(
        bundle=bundle,
        data=data,
        output=output,
        split=Split(split),
        axis=axis_of(axis),
        segments=parse_map(segments or ()),
        threshold=threshold,
        segmenter=segmenter,
        segmenter_steps=segmenter_steps,
        sampler=sampler,
        spacing=spacing,
        steps=steps,
        seed=seed,
        batch=batch,
        limit=limit,
        engine=engine,
        precision=precision,
        device=device,
        threads=threads,
        require_signature=require_signature,
        parts=frozenset(part for part, wanted in asked.items() if wanted or everything),
        grid=grid,
        feature_graph=feature_graph,
        force=force,
    )
    report = run(
        options,
        command=portable_command(),
        say=terminal.say,
    )
    if as_json:
        terminal.result_lines(report.to_json().decode())
        return
    console = terminal.console()
    for table in tables(report):
        console.print(for_terminal(table, console.width))
    for note in report.notes:
        console.print(printable(f"note: {note}"))
    for name in ("report.html", "report.json", "sheet.png", "segmenter.pt"):
        if (output / name).exists():
            terminal.result(str(output / name))
