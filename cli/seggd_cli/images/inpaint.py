"""`seggd-rt inpaint`: a region of a real image drawn anew."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seggd_cli import options
from seggd_rt import terminal

if TYPE_CHECKING:
    from seggd_rt.inference import HowToDraw


def inpaint(
    bundle: options.BundleFolder,
    mask: options.OneMask,
    real: options.RealImage,
    region: Annotated[Path, typer.Option(help="The pixels to regenerate: booleans, 0/1 or 0/255.")],
    output: Annotated[str, typer.Option("--output", "-o", help="A .png, .npy, .nii.gz, .nii or .dcm.")],
    region_classes: Annotated[
        str | None, typer.Option(help="Read --region as a label map; regenerate classes a,b.")
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Write a labelled grid of real image, mask and image.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the image and of the real image's noise.")] = 0,
    steps: options.Steps = None,
    eta: options.Eta = 0.0,
    sampler: options.SamplerName = None,
    spacing: options.SpacingName = None,
    keep: options.Keep = None,
    drop: options.Drop = None,
    axis: options.AxisName = None,
    fit: options.FitName = "resize",
    slice_number: options.SliceNumber = None,
    real_slice: options.RealSlice = None,
    segments: options.SegmentMap = None,
    threshold: options.Threshold = None,
    engine: options.EngineName = "auto",
    precision: options.PrecisionName = "auto",
    device: options.DeviceName = "auto",
    threads: options.Threads = None,
    require_signature: options.RequireSignature = None,
    force: options.Force = False,
) -> None:
    """Regenerate a region of a real image under a new mask.

    Outside the region nothing changes, unless the image is resized to the bundle's size.
    """
    from seggd_cli.images.generate import describe
    from seggd_rt.bundle import Bundle
    from seggd_rt.diffusion import colorize, find_classes
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
        record_making,
    )

    check_apart(Path(output), bundle, mask, real, region, require_signature)
    # All that is read is read before an engine is made ready, which takes longer.
    reading = options.reading(axis, fit, slice_number, segments, threshold)
    opened = Bundle.open(bundle, require_signature=require_signature)
    one = OneMask.read(mask, opened.manifest, reading)
    files = [grid_file(output)] if grid else one.files(output, [f"{one.name}_{seed}"], None, [real, region])
    image = one.read_real(real, real_slice)
    named = options.names(region_classes)
    inside = None if named is None else tuple(c.name for c in find_classes(opened.manifest.classes, named))
    where = one.read_region(region, real_slice, inside)
    with load_bundle(opened, engine=engine, precision=precision, device=device, threads=threads) as generator:
        terminal.say(describe(generator.engine))
        how: HowToDraw = {
            "steps": steps,
            "eta": eta,
            "sampler": sampler,
            "spacing": spacing,
            "keep": options.names(keep),
            "drop": options.names(drop),
        }
        settings = Settings.resolve(generator.manifest, how)
        made = record_making(
            generator,
            settings,
            one.label_map,
            seed=seed,
            fit=reading.fit,
            real=image,
            region=where,
            region_classes=inside,
            batch=1,
        )
        check_all_replaceable(files, [made], force=force)
        drawn = generator.inpaint(image, where, one.label_map, seed=seed, **how)
        if grid:
            classes = generator.manifest.classes
            cells = [
                ("mask", colorize(one.label_map, classes)),
                ("real", rgb(image)),
                ("region", rgb(where)),
                ("drawn anew", rgb(drawn)),
            ]
            make_folder(files[0].parent)
            may_replace = partial(check_replaceable, files[0], [made], force=force)
            page = png_bytes(render_titled(cells, columns=len(cells), legend=classes), [made])
            write_file(files[0], page, may_replace=may_replace)
        else:
            one.write(files, [drawn], [made], force=force)
    terminal.result(str(files[0]))
