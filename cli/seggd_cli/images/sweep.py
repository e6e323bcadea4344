"""`seggd-rt sweep`: one image for every subset of the classes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seggd_cli import options
from seggd_rt import terminal
from seggd_rt.errors import OptionError, OutputError
from seggd_rt.files import decode, read_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from seggd_rt import Generator
    from seggd_rt.imaging import Provenance
    from seggd_rt.inference import HowToDraw

_COLUMNS = 4
_LONGEST_LIST = 1 << 26
"""Bytes of the list of classes beside the images."""


def sweep(
    bundle: options.BundleFolder,
    mask: options.OneMask,
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="A labelled grid, .png, the images, .npy, or a folder."),
    ],
    seed: Annotated[int, typer.Option(help="Seed of the noise that all start from.")] = 0,
    steps: options.Steps = None,
    eta: options.Eta = 0.0,
    sampler: options.SamplerName = None,
    spacing: options.SpacingName = None,
    axis: options.AxisName = None,
    fit: options.FitName = "resize",
    slice_number: options.SliceNumber = None,
    images_as: options.ImageFormat = None,
    segments: options.SegmentMap = None,
    threshold: options.Threshold = None,
    engine: options.EngineName = "auto",
    precision: options.PrecisionName = "auto",
    device: options.DeviceName = "auto",
    threads: options.Threads = None,
    require_signature: options.RequireSignature = None,
    batch: options.Batch = 4,
    force: options.Force = False,
) -> None:
    """Draw one image for every non-empty subset of the classes, all from the same noise.

    Beside them lies a .json with the classes of each image.
    """
    from seggd_cli.images.generate import describe
    from seggd_rt.bundle import Bundle
    from seggd_rt.diffusion import foreground_subsets
    from seggd_rt.files import NewFile, check_output, make_folder, write_file
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

    to_folder = is_folder(output)
    grid = not to_folder and Path(output).suffix.lower() == ".png"
    format_wanted = options.format_in_folder(images_as, output)
    if batch < 1:
        raise OptionError(f"--batch is {batch}; it must be at least 1")
    check_apart(Path(output), bundle, mask, require_signature)
    # All that is read is read before an engine is made ready, which takes longer.
    reading = options.reading(axis, fit, slice_number, segments, threshold)
    opened = Bundle.open(bundle, require_signature=require_signature)
    manifest = opened.manifest
    one = OneMask.read(mask, manifest, reading)
    subsets = (1 << len(manifest.classes[1:])) - 1
    numbers = [f"{number:0{len(str(subsets))}}" for number in range(1, subsets + 1)]
    names = [f"{one.name}_{number}" for number in numbers]
    files = [grid_file(output)] if grid else one.files(output, names, format_wanted)
    beside = files[0].with_name(f"{one.name}.json") if to_folder else files[0].with_suffix(".json")
    check_output(beside)
    check_apart(beside, bundle, mask, require_signature)
    with load_bundle(opened, engine=engine, precision=precision, device=device, threads=threads) as generator:
        terminal.say(describe(generator.engine))
        shown = len(set(one.label_map.ravel().tolist()) - {0})
        if shown < len(generator.manifest.classes) - 1:
            terminal.say(
                f"the mask shows {shown} of {len(generator.manifest.classes) - 1} classes: the {subsets} images are of "
                f"{1 << shown} different masks, one of them empty"
            )
        how: HowToDraw = {"steps": steps, "eta": eta, "sampler": sampler, "spacing": spacing}
        settings = Settings.resolve(generator.manifest, how)
        kept_each = foreground_subsets(generator.manifest.classes)
        made = [
            record_making(
                generator,
                settings,
                one.label_map,
                seed=seed,
                classes=kept,
                fit=reading.fit,
                batch=min(batch, subsets - place // batch * batch),
            )
            for place, kept in enumerate(kept_each)
        ]
        about = {
            "bundle": generator.bundle.sha256,
            "mask": mask.name,
            "seed": seed,
            "engine": generator.engine.engine,
            "precision": generator.engine.precision,
            "classes": [list(kept) for kept in kept_each],
        }
        listed = (json.dumps(about, indent=2) + "\n").encode()
        may_replace_list = partial(_check_list, beside, about, force=force)
        if beside.exists():
            may_replace_list()
        check_all_replaceable(files * len(made) if grid else files, made, force=force)
        images = generator.sweep(one.label_map, seed=seed, batch=batch, **how)
        if grid:
            make_folder(files[0].parent)

            def may_replace() -> None:
                check_replaceable(files[0], made, force=force)

            with NewFile(files[0], may_replace=may_replace) as file:
                file.write(_grid(generator, one.label_map, images, made))
                file.write_beside(beside, listed, may_replace=may_replace_list)
        else:
            one.write(files, list(images.values()), made, force=force)
            write_file(beside, listed, may_replace=may_replace_list)
    for path in (*dict.fromkeys(files), beside):
        terminal.result(str(path))


def _check_list(path: Path, about: dict[str, object], *, force: bool) -> None:
    """Refuse to replace a list of classes that seggd-rt did not write or, without `force`, that is of another sweep."""
    try:
        before = decode(read_file(path, _LONGEST_LIST))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict) or before.keys() != about.keys():
        raise OutputError(
            f"{path} already exists and was not written by seggd-rt: delete it or choose another place with -o"
        )
    if before != about and not force:
        raise OptionError(f"{path} belongs to another sweep: choose another place with -o, or replace it with --force")


def _grid(
    generator: Generator,
    label_map: NDArray[np.uint8],
    images: dict[tuple[str, ...], NDArray[np.float32]],
    made: list[Provenance],
) -> bytes:
    """Return a PNG: under each subset's names its mask above its image."""
    import numpy as np

    from seggd_rt.diffusion import colorize
    from seggd_rt.imaging import png_bytes, render_titled, rgb

    classes = generator.manifest.classes
    ids = {c.name: c.id for c in classes}
    cells = [
        (
            "\n".join(kept),
            np.concatenate(
                [
                    colorize(np.where(np.isin(label_map, [ids[name] for name in kept]), label_map, 0), classes),
                    rgb(image),
                ]
            ),
        )
        for kept, image in images.items()
    ]
    return png_bytes(render_titled(cells, columns=_COLUMNS, legend=classes), made)
