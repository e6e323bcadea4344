"""`seggd-rt export`: from a checkpoint to a bundle that has proven itself."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seggd_cli.options import AxisName, SegmentMap, Threshold, axis_of, range_of, size_of
from seggd_cli.strict_command import needs
from seggd_rt import terminal
from seggd_rt.diffusion import BetaCurve, MaskEncoding, Precision, Prediction
from seggd_rt.errors import OptionError
from seggd_rt.files import MAX_JSON_BYTES, decode, read_file
from seggd_rt.optional import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seggd_export import Progress
    from seggd_export.graphs import MakeSegmenter
    from seggd_rt.imaging import Reading


@needs(segmenter="data", data="segmenter", axis="data", threshold="data")
def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Our .pt, a bare state dict, NAME/unet of the reference, or a diffusers pipeline's folder.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The bundle's folder; CKPT.seggd beside the checkpoint by default."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Every label from 0, background first: a,b,c. Needed where the checkpoint has none."),
    ] = None,
    precision: Annotated[str, typer.Option(help="Which graphs to make, of fp32, fp16 and bf16.")] = "fp32,fp16",
    image_size: Annotated[str | None, typer.Option(help="N or HxW, where the checkpoint does not tell.")] = None,
    mask_encoding: Annotated[
        MaskEncoding | None, typer.Option(help="How labels become mask channels, where the checkpoint does not tell.")
    ] = None,
    prediction: Annotated[
        Prediction | None, typer.Option(help="What the network estimates, where the checkpoint does not tell.")
    ] = None,
    beta_schedule: Annotated[
        BetaCurve | None, typer.Option(help="How noise grows, where the checkpoint does not tell.")
    ] = None,
    beta_start: Annotated[float | None, typer.Option(help="The first beta.")] = None,
    beta_end: Annotated[float | None, typer.Option(help="The last beta.")] = None,
    unet_config: Annotated[
        Path | None, typer.Option(help="JSON of UNet2DModel settings that a bare state dict cannot show.")
    ] = None,
    loop: Annotated[
        int | None,
        typer.Option(
            metavar="STEPS",
            help="Also write sampler.onnx: the whole DDIM loop of so many steps as one graph, for ONNX Runtime in any "
            "language.",
        ),
    ] = None,
    segmenter: Annotated[
        Path | None,
        typer.Option(
            metavar="SEGMENTER",
            help="A segmenter.pt of seggd-rt evaluate, to check images by. Needs --data.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="With --segmenter: the real images, a folder or an .npz, whose grey levels are expected."),
    ] = None,
    axis: AxisName = None,
    threshold: Threshold = None,
    training_data: Annotated[str | None, typer.Option(help="What it was trained on, for the manifest.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, for the manifest.")] = None,
    intended_use: Annotated[str | None, typer.Option(help="What the model is meant for, for the manifest.")] = None,
    modality: Annotated[
        str | None,
        typer.Option(help="What made its images, as DICOM's term (CT, MR), for the manifest and DICOM files."),
    ] = None,
    intensity_range: Annotated[
        str | None,
        typer.Option(
            help="LO,HI: the values that are black and white, as Hounsfield units, where the checkpoint does not tell."
        ),
    ] = None,
    segments: SegmentMap = None,
    build: Annotated[
        str | None, typer.Option(help="Then build its plan: tensorrt or tensorrt-rtx, in fp16 if that graph is made.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
) -> None:
    """Export a checkpoint as a bundle, and prove each of its graphs against PyTorch."""
    for module in ("torch", "diffusers", "onnx", "onnxscript"):
        require(module, extra="export", feature="seggd-rt export")
    require("onnxruntime", extra="cpu", feature="seggd-rt export, which proves its graphs,")
    from seggd_rt.imaging import Reading
    from seggd_rt.imaging.dicom import parse_map

    said = None if segments is None else parse_map(segments)
    make_segmenter = _segmenter_to_ship(
        segmenter, data, Reading(axis=axis_of(axis), segments=said or {}, threshold=threshold)
    )
    from seggd_cli.bundles.inspect import graphs_table, segmenter_table
    from seggd_cli.engines.build import build_bundle, choose_flavour, gpu_to_build_on
    from seggd_export import ScheduleOptions, export_bundle
    from seggd_rt.bundle import Bundle
    from seggd_rt.runs import check_apart

    if output is not None:
        check_apart(output, None, checkpoint, unet_config, segmenter, data)
    precisions = _parse_precisions(precision)
    options = None
    if build is not None:
        from seggd_engines.tensorrt import BuildOptions

        options = BuildOptions(choose_flavour(build), Precision.FP16 if Precision.FP16 in precisions else precisions[0])
        gpu_to_build_on(options)  # before the export, which takes minutes
    with _shown_progress() as progress:
        bundle = export_bundle(
            checkpoint,
            output,
            classes=None if classes is None else classes.split(","),
            precisions=precisions,
            image_size=size_of(image_size),
            mask_encoding=mask_encoding,
            unet_config=None if unet_config is None else _read_config(unet_config),
            schedule=ScheduleOptions(
                prediction=prediction, beta_schedule=beta_schedule, beta_start=beta_start, beta_end=beta_end
            ),
            loop=loop,
            segmenter=make_segmenter,
            training_data=training_data,
            licence=licence,
            intended_use=intended_use,
            modality=modality,
            intensity_range=range_of(intensity_range),
            segments=said,
            force=force,
            progress=progress,
        )
    terminal.result(str(bundle))
    console, manifest = terminal.console(), Bundle.open(bundle).manifest
    console.print(graphs_table(manifest))
    if manifest.segmenter is not None:
        console.print(segmenter_table(manifest.segmenter))
    if options is not None:
        terminal.result(str(build_bundle(bundle, options)))


@contextmanager
def _shown_progress() -> Iterator[Callable[[Progress], None]]:
    """Show every step of an export, with a bar for those that can be counted, on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=terminal.console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(progress: Progress) -> None:
            if progress.doing not in tasks:
                for task in bars.tasks:
                    if task.total is None:
                        bars.update(task.id, total=1, completed=1)
                tasks[progress.doing] = bars.add_task(progress.doing, total=progress.total)
            bars.update(tasks[progress.doing], completed=progress.done)

        try:
            yield show
        except BaseException:
            bars.live.transient = True  # an error leaves no bar behind that stands still
            raise


def _segmenter_to_ship(segmenter: Path | None, data: Path | None, reading: Reading) -> MakeSegmenter | None:
    if segmenter is None or data is None:
        return None
    require("monai", extra="eval", feature="seggd-rt export --segmenter")
    from seggd_training.evaluation import segmenter_to_ship

    return segmenter_to_ship(segmenter, data, reading)


def _parse_precisions(text: str) -> tuple[Precision, ...]:
    try:
        return tuple(Precision(name.strip()) for name in text.split(","))
    except ValueError as error:
        raise OptionError(f"--precision is '{text}'; it must list {', '.join(Precision)}") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = decode(read_file(path, MAX_JSON_BYTES))
    except OSError as error:
        raise OptionError(
            f"--unet-config {path} cannot be read ({error.strerror or error}): give a readable JSON file"
        ) from error
    except ValueError as error:
        raise OptionError(
            f'--unet-config {path} is not JSON ({error}): write an object, as in {{"norm_eps": 1e-5}}'
        ) from error
    if not isinstance(config, dict):
        raise OptionError(f"--unet-config {path} must hold a JSON object of UNet2DModel settings")
    return config
