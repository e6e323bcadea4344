"""`seggd-rt interpolate`: images between a generation and a real image."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seggd_cli import options
from seggd_rt import terminal
from seggd_rt.errors import OptionError

if TYPE_CHECKING:
    from seggd_rt.inference import HowToDraw


def interpolate(
    bundle: options.BundleFolder,
    mask: options.OneMask,
    real: options.RealImage,
    output: Annotated[
        str,
        typer.Option("--output", "-o", help=".png, .nii.gz or .dcm of the only image, .npy of all, or a folder."),
    ],
    weight: Annotated[str, typer.Option(help="Of the real image, in [0, 1]; several, 0,0.5,1, make several.")] = "0.5",
    at: Annotated[float, typer.Option(help="In (0, 1]: how noisy both are when they are mixed.")] = 0.6,
    grid: Annotated[bool, typer.Option("--grid", help="Write a labelled grid of real image, mask and images.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the generation and of the real image's noise.")] = 0,
    steps: options.Steps = None,
    eta: options.Eta = 0.0,
    sampler: options.SamplerName = None,
    spacing: options.SpacingName = None,
    keep: options.Keep = None,
    drop: options.Drop = None,
    then_keep: Annotated[str | None, typer.Option(help="The classes to keep after the mixing.")] = None,
    then_drop: Annotated[str | None, typer.Option(help="The classes to leave out after the mixing.")] = None,
    axis: options.AxisName = None,
    fit: options.FitName = "resize",
    slice_number: options.SliceNumber = None,
    real_slice: options.RealSlice = None,
    images_as: options.ImageFormat = None,
    segments: options.SegmentMap = None,
    threshold: options.Threshold = None,
    engine: options.EngineName = "auto",
    precision: options.PrecisionName = "auto",
    device: options.DeviceName = "auto",
    threads: options.Threads = None,
    require_signature: options.RequireSignature = None,
    force: options.Force = False,
) -> None:
    """Draw images that resemble a real one, as much as the weight says, and follow a label map."""
    from seggd_cli.images.generate import describe
    from seggd_rt.bundle import Bundle
    from seggd_rt.diffusion import colorize
    from seggd_rt.files import make_folder, write_file
    from seggd_rt.imaging import png_bytes, render_titled, rgb
    from seggd_rt.inference import load_bundle
    from seggd_rt.runs import (
        OneMask,
        Settings,
        check_all_replaceable,
        check_apart,
        check_replaceable,
        grid_file,
        is_folder,
        record_making,
    )

    weights = _weights(weight)
    if not 0 < at <= 1:
        raise OptionError(f"--at is {at:g}; it must lie in (0, 1]")
    to_folder = is_folder(output)
    if not (grid or to_folder) and len(weights) > 1 and Path(output).suffix.lower() != ".npy":
        raise OptionError(f"{output} cannot hold {len(weights)} images: give an .npy or a folder, or add --grid")
    if to_folder and len({f"{value:g}" for value in weights}) < len(weights):
        raise OptionError(f"--weight is {weight}: say each but once, as files are named after them")
    format_wanted = options.format_in_folder(images_as, output)
    check_apart(Path(output), bundle, mask, real, require_signature)
    # All that is read is read before an engine is made ready, which takes longer.
    reading = options.reading(axis, fit, slice_number, segments, threshold)
    opened = Bundle.open(bundle, require_signature=require_signature)
    one = OneMask.read(mask, opened.manifest, reading)
    names = [f"{one.name}_{value:g}" for value in weights]
    files = [grid_file(output)] if grid else one.files(output, names, format_wanted, [real])
    image = one.read_real(real, real_slice)
    with load_bundle(opened, engine=engine, precision=precision, device=device, threads=threads) as generator:
        terminal.say(describe(generator.engine))
        how: HowToDraw = {"steps": steps, "eta": eta, "sampler": sampler, "spacing": spacing}
        first: HowToDraw = {**how, "keep": options.names(keep), "drop": options.names(drop)}
        then: HowToDraw = {"keep": options.names(then_keep), "drop": options.names(then_drop)}
        settings = Settings.resolve(generator.manifest, first)
        then_classes = (
            None if then == {"keep": None, "drop": None} else Settings.resolve(generator.manifest, then).classes
        )
        made = [
            record_making(
                generator,
                settings,
                one.label_map,
                seed=seed,
                fit=reading.fit,
                real=image,
                at=at,
                weight=value,
                then_classes=then_classes,
                batch=len(weights),
            )
            for value in weights
        ]
        check_all_replaceable(files * len(made) if grid else files, made, force=force)
        images = generator.interpolate(
            one.label_map,
            image,
            weight=weights,
            at=at,
            seed=seed,
            then_keep=then["keep"],
            then_drop=then["drop"],
            **first,
        )
        if grid:
            classes = generator.manifest.classes
            cells = [("mask", colorize(one.label_map, classes)), ("real", rgb(image))]
            cells += [(f"weight {value:g}", rgb(drawn)) for value, drawn in zip(weights, images, strict=True)]
            make_folder(files[0].parent)
            may_replace = partial(check_replaceable, files[0], made, force=force)
            page = png_bytes(render_titled(cells, columns=len(cells), legend=classes), made)
            write_file(files[0], page, may_replace=may_replace)
        else:
            one.write(files, list(images), made, force=force)
    for path in dict.fromkeys(files):
        terminal.result(str(path))


def _weights(text: str) -> list[float]:
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise OptionError(f"--weight is {text}; it must be a number in [0, 1], or several: 0,0.5,1") from error
    if not all(0 <= weight <= 1 for weight in weights):
        raise OptionError(f"--weight is {text}; it, or each of several, must lie in [0, 1]")
    return weights
