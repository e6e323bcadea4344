"""`seggd-rt inpaint`: a region of a real image drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seggd_rt.cli import options
from seggd_rt.errors import OptionError


def inpaint(
    bundle: options.BundleFolder,
    mask: options.OneMask,
    real: options.RealImage,
    region: Annotated[Path, typer.Option(help="Where to draw, .png or .npy: white; grey makes a soft edge.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png or .npy.")],
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
    segments: options.SegmentMap = None,
    threshold: options.Threshold = None,
    engine: options.EngineName = "auto",
    precision: options.PrecisionName = "auto",
    device: options.DeviceName = "auto",
    threads: options.Threads = None,
) -> None:
    """Draw a region of a real image anew, so that the whole follows a label map; outside it nothing changes."""
    import seggd_rt
    from seggd_rt.atomic import make_folder, write_file
    from seggd_rt.cli.generate import describe
    from seggd_rt.imaging.grid import png_bytes, render_titled, rgb
    from seggd_rt.imaging.real import read_real, read_region
    from seggd_rt.labels import colorize
    from seggd_rt.plan import read_label_map, refuse_inputs, write_images

    if grid and output.suffix.lower() != ".png":
        raise OptionError(f"{output} must end in .png for a --grid")
    refuse_inputs(output, mask, real, region)
    reading = options.reading(axis, fit, slice_number, segments, threshold)
    with seggd_rt.load(bundle, engine=engine, precision=precision, device=device, threads=threads) as generator:
        typer.echo(describe(generator.engine), err=True)
        label_map = read_label_map(mask, generator.manifest, reading)
        image = read_real(real, generator.manifest, reading)
        where = read_region(region, generator.manifest, reading)
        drawn = generator.inpaint(
            image,
            where,
            label_map,
            seed=seed,
            steps=steps,
            eta=eta,
            sampler=sampler,
            spacing=spacing,
            keep=options.names(keep),
            drop=options.names(drop),
        )
        if grid:
            classes = generator.manifest.classes
            cells = [
                ("mask", colorize(label_map, classes)),
                ("real", rgb(image)),
                ("region", rgb(where)),
                ("drawn anew", rgb(drawn)),
            ]
            make_folder(output.parent)
            write_file(output, png_bytes(render_titled(cells, columns=len(cells), legend=classes)))
        else:
            write_images(output, [drawn])
    typer.echo(str(output))
