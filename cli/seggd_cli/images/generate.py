"""`seggd-rt generate`: images from label maps."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from seggd_cli import options
from seggd_cli.strict_command import needs
from seggd_rt import terminal
from seggd_rt.bundle import Bundle
from seggd_rt.errors import OptionError

_LONGEST_SHARD = 40
"""Characters of --shard: Python refuses to read numbers of thousands of digits."""

if TYPE_CHECKING:
    from seggd_cli.images.run_progress import RunProgress
    from seggd_rt import Generator
    from seggd_rt.engine import EngineInfo
    from seggd_rt.runs import Checking, Draw, Plan, Record, Shard


@needs(
    at="real",
    from_slice="real",
    against="guidance",
    every=("preview", "gif"),
    min_dice="check",
    retries="min_dice",
)
def generate(
    bundle: options.BundleFolder,
    mask: Annotated[
        Path, typer.Option("--mask", "-m", help=f"A label map ({options.MASK_FORMATS}), or a folder of them.")
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="A .png, .npy, .nii.gz, a .dcm of one slice, or a folder for a file each."),
    ],
    seed: Annotated[int, typer.Option(help="Seed of the only image; of several, each gets its own from it.")] = 0,
    count: Annotated[int, typer.Option(help="Images of every label map.")] = 1,
    steps: options.Steps = None,
    eta: options.Eta = 0.0,
    sampler: options.SamplerName = None,
    spacing: options.SpacingName = None,
    keep: Annotated[
        str | None, typer.Option(help="The classes to keep in the label maps: a,b; or random, as training drew them.")
    ] = None,
    drop: options.Drop = None,
    guidance: options.Guidance = 0.0,
    against: options.Against = None,
    noise: Annotated[
        Path | None, typer.Option(help="A .npy of (N, C, H, W) float32 to start from, one for each image.")
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option("--from", help=f"A real image ({options.MASK_FORMATS}) to draw all from, noised up to --at."),
    ] = None,
    at: Annotated[float | None, typer.Option(help="In (0, 1]: how far --from is noised.  [default: 0.6]")] = None,
    axis: options.AxisName = None,
    fit: options.FitName = "resize",
    from_slice: Annotated[int | None, typer.Option(help="The slice of a --from that is a volume, from 0.")] = None,
    slice_noise: Annotated[
        str, typer.Option("--slice-noise", help="Of a volume's slices: independent, or shared, which keeps them alike.")
    ] = "independent",
    images_as: options.ImageFormat = None,
    segments: options.SegmentMap = None,
    threshold: options.Threshold = None,
    keep_patient: Annotated[
        bool, typer.Option("--keep-patient", help="Copy patient and study of a DICOM mask into the images.")
    ] = False,
    mark: Annotated[
        bool, typer.Option("--mark", help="Write SYNTHETIC into a corner of each DICOM image's pixels.")
    ] = False,
    engine: options.EngineName = "auto",
    precision: options.PrecisionName = "auto",
    device: Annotated[
        str, typer.Option(help="cpu, cuda:0 (and so on), auto; or several, cuda:0,cuda:1, a process for each.")
    ] = "auto",
    threads: options.Threads = None,
    require_signature: options.RequireSignature = None,
    batch: options.Batch = 1,
    shard: Annotated[str, typer.Option(help="Draw part i of n alone, i/n; all parts make the whole run.")] = "1/1",
    check: Annotated[
        bool, typer.Option("--check", help="Look for the mask in each image with the bundle's segmenter.")
    ] = False,
    min_dice: Annotated[float, typer.Option(help="With --check: the mean Dice from which an image is kept.")] = 0.0,
    retries: Annotated[int, typer.Option(help="With --check: how often one that misses it is drawn again.")] = 0,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the only image in the terminal as it emerges.")
    ] = False,
    gif: Annotated[Path | None, typer.Option(help="A .gif of how the only image emerges.")] = None,
    every: Annotated[
        int | None, typer.Option(help="Steps between two looks of --preview and --gif.  [default: 2]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for every image.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Draw all again, also in place of images made with other settings.")
    ] = False,
) -> None:
    """Draw images that follow label maps.

    A folder gets a file an image, or a volume, named after label map and seed, and manifest.jsonl with how each was
    made. A run that is started again draws what is missing.
    """
    from seggd_cli.images.live_image import LiveImage, check_gif_replaceable, draw_watched, gif_bytes
    from seggd_cli.images.run_progress import RunProgress
    from seggd_cli.images.several_devices import run_on_each
    from seggd_rt.files import check_output, make_folder, write_file
    from seggd_rt.imaging import dump
    from seggd_rt.inference import load_bundle
    from seggd_rt.runs import Checking, OutputCheck, SliceNoise, check_apart, plan_run, planned_records, require_kept

    if batch < 1:
        raise OptionError(f"--batch is {batch}; it must be at least 1")
    if every is not None and every < 1:
        raise OptionError(f"--every is {every}; it must be at least 1")
    if retries and not min_dice:
        raise OptionError("--retries draws what misses --min-dice again: give that too")
    if "," in device:
        code = run_on_each([name.strip() for name in device.split(",")], sys.argv[1:])
        if check and not code:
            require_kept(Path(output))
        raise typer.Exit(code)
    is_random = keep is not None and keep.strip().casefold() == "random"
    plan = plan_run(
        Bundle.open(bundle, require_signature=require_signature),
        mask,
        output,
        seed=seed,
        count=count,
        noise=noise,
        real=real,
        at=at,
        shard=_shard(shard),
        random_classes=is_random,
        reading=options.reading(axis, fit, from_slice, segments, threshold),
        slice_noise=options.member(SliceNoise, slice_noise, "--slice-noise"),
        images_as=options.format_of(images_as),
        keep_patient=keep_patient,
        mark=mark,
        steps=steps,
        eta=eta,
        sampler=sampler,
        spacing=spacing,
        keep=None if is_random else options.names(keep),
        drop=options.names(drop),
        guidance=guidance,
        against=options.names(against),
    )
    if (gif is not None or preview) and (len(plan) != 1 or real is not None):
        raise OptionError("--preview and --gif show one image that is drawn from noise: give one label map, count 1")
    if gif is not None and gif.suffix.lower() != ".gif":
        raise OptionError(f"{gif} must end in .gif")
    for output_file in (Path(output), gif):
        if output_file is not None:
            check_apart(output_file, bundle, mask, noise, real, require_signature)
    if gif is not None:
        check_output(gif)
    checking = None
    if check:
        checking = Checking(OutputCheck.open(plan.bundle, threads=threads), min_dice=min_dice, retries=retries)
    with load_bundle(plan.bundle, engine=engine, precision=precision, device=device, threads=threads) as generator:
        if gif is not None and gif.exists():
            check_gif_replaceable(gif, list(planned_records(plan, generator, checking)), force=force)
        if gif is not None or preview:
            terminal.say(describe(generator.engine))
            live = LiveImage(preview)
            if preview and not live.can_show:
                terminal.say("--preview has no effect (it needs a terminal with 256 colors): use --gif instead")
            with live, RunProgress(len(plan), hidden=live.can_show) as progress:
                draw = draw_watched(plan, generator, every or 2, live)
                drawn = _draw(
                    plan, generator, batch, progress, as_json=as_json, force=force, draw=draw, checking=checking
                )
            if gif is not None and not live.frames:
                raise OptionError(f"the image is there already, so {gif} has nothing to show: --force draws it again")
            if gif is not None:
                make_folder(gif.parent)
                made = [record.provenance for record in drawn]
                may_replace = partial(check_gif_replaceable, gif, made, force=force)
                write_file(gif, gif_bytes(live.frames, dump(made)), may_replace=may_replace)
            return
        with RunProgress(len(plan)) as progress:
            progress.say(describe(generator.engine))
            _draw(plan, generator, batch, progress, as_json=as_json, force=force, checking=checking)


def _draw(
    plan: Plan,
    generator: Generator,
    batch: int,
    progress: RunProgress,
    *,
    as_json: bool,
    force: bool,
    draw: Draw | None = None,
    checking: Checking | None = None,
) -> deque[Record]:
    """Draw a plan's images, and return the record of the last."""
    from seggd_rt.runs import require_kept, run

    started, finished = time.perf_counter(), 0
    last: deque[Record] = deque(maxlen=1)
    dice: list[float] = []
    try:
        # Closed at once when anything ends the loop, so that nothing unfinished is left in the output.
        records = run(
            plan, generator, batch=batch, force=force, on_progress=progress.show, draw=draw, checking=checking
        )
        with closing(records):
            for record in records:
                finished += 1
                last.append(record)
                if record.check is not None and record.check.mean_dice is not None:
                    dice.append(record.check.mean_dice)
                path = plan.output.path / record.file if plan.output.is_folder else plan.output.path
                if as_json:
                    progress.result(replace(record, file=str(path)).to_json())
                elif not record.file_index:  # of a volume once
                    progress.result(str(path))
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C; a request to terminate
        progress.say(f"interrupted: {finished} of {len(plan)} images are finished and kept")
        raise
    progress.say(f"{finished} image{'s' * (finished != 1)} in {time.perf_counter() - started:.1f} s")
    if dice:
        progress.say(f"checked: mean Dice {sum(dice) / len(dice):.3f}, lowest {min(dice):.3f} of {len(dice)}")
    if checking is not None and plan.output.is_folder and plan.shard.of == 1:
        require_kept(plan.output.path)
    return last


def describe(info: EngineInfo) -> str:
    """Say in one line what really runs."""
    threads = "" if info.threads is None else f", {info.threads} thread{'s' * (info.threads > 1)}"
    notes = f" (passed over: {'; '.join(info.notes)})" if info.notes else ""
    return f"{info.engine} {info.version} in {info.precision} on {info.device}: {info.device_name}{threads}{notes}"


def _shard(text: str) -> Shard:
    from seggd_rt.runs import Shard

    index, slash, of = text.partition("/")
    if not (slash and index.isdecimal() and of.isdecimal()) or len(text) > _LONGEST_SHARD:
        raise OptionError(f"--shard is {text}; it must be i/n, as 2/4")
    return Shard(int(index), int(of))
