"""`seggd-rt verify`: how an image was made, and whether it is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seggd_cli import options
from seggd_cli.strict_command import needs
from seggd_rt import terminal
from seggd_rt.wording import counted, printable, some_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seggd_rt.bundle import Bundle
    from seggd_rt.imaging import CheckResult, Provenance
    from seggd_rt.runs import Comparison


@needs(
    mask="bundle",
    require_signature="bundle",
    **dict.fromkeys(
        (
            "real",
            "region",
            "noise",
            "axis",
            "segments",
            "threshold",
            "engine",
            "precision",
            "device",
            "threads",
            "batch",
        ),
        "mask",
    ),
)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An image that seggd-rt wrote.")],
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="The bundle that drew it, to see whether it did.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", "-m", help="Its label map, or a folder with it, to draw it again and compare."),
    ] = None,
    real: Annotated[Path | None, typer.Option(help="The real image that it was drawn from.")] = None,
    region: Annotated[Path | None, typer.Option(help="The region that was drawn anew.")] = None,
    noise: Annotated[Path | None, typer.Option(help="The .npy of noise that it was drawn from.")] = None,
    axis: options.AxisName = None,
    segments: options.SegmentMap = None,
    threshold: options.Threshold = None,
    engine: Annotated[
        str | None, typer.Option(help="auto, or one that seggd-rt doctor lists.  [default: the recorded one]")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, bf16 or auto.  [default: the recorded one]")
    ] = None,
    device: options.DeviceName = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.  [default: as recorded]")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per batch.  [default: as recorded]")] = None,
    require_signature: options.RequireSignature = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print how each image was made, as JSON.")] = False,
) -> None:
    """Tell how an image was made; with a bundle, whether that drew it; with its label map, whether it draws it again.

    Ends with 1 if the image does not match its record, or if only another machine can tell.
    """
    from seggd_rt.runs import making_as_json, read_making

    made = read_making(file)
    if as_json:
        terminal.result(making_as_json(made))
    else:
        for line in _lines(made):
            terminal.result(line)
    if bundle is not None:
        from seggd_rt.bundle import Bundle

        opened = Bundle.open(bundle, require_signature=require_signature)
        _hold_against(file, made, opened)
    if bundle is not None and mask is not None:
        from seggd_cli.images.generate import describe
        from seggd_rt.runs import Inputs, compare, load_as_recorded

        reading = options.reading(axis, made[0].fit, None, segments, threshold)
        with load_as_recorded(
            opened,
            made[0],
            engine=engine,
            precision=precision,
            device=device,
            threads=threads,
            on_unavailable=terminal.say,
        ) as generator:
            terminal.say(f"{describe(generator.engine)}, {batch or made[0].batch or 1} at a time")
            found = compare(file, generator, Inputs(mask, reading, real, region, noise), batch=batch)
        for line in _verdict(file, made[0], found):
            terminal.say(line)
        if not found.alike:
            raise typer.Exit(1)


def _verdict(file: Path, made: Provenance, found: Comparison) -> list[str]:
    """Return what was found, a line for each thing."""
    if found.problems:
        return [f"{file} does not match its record: {problem}" for problem in found.problems]
    if found.max_error == 0:
        return [f"drawn again: {counted(found.images, 'image')}, equal in every pixel"]
    where = "" if found.images == 1 else f" in slice {found.worst}"
    differs = f"differs by up to {found.max_error:.4g}{where}, and {found.allowed:.4g} is allowed"
    if found.unlike:
        differs += f"; not on the recorded machine settings ({', '.join(found.unlike)})"
    if found.alike:
        return [f"drawn again: {counted(found.images, 'image')}, the same: the worst {differs}"]
    if found.is_undecided:
        return [
            f"{file} is not confirmed: the regenerated image {differs}; in a lower precision than fp32 another CPU may "
            f"differ by {found.possible:.4g}: verify it on {printable(made.device or 'the machine that generated it')}"
        ]
    if found.max_error <= found.possible:
        differs += f"; the RMS difference is {found.rms_error:.4g}, and precision explains {found.possible_rms:.4g}"
    return [f"{file} does not match its record: the regenerated image {differs}"]


def _hold_against(file: Path, made: Sequence[Provenance], bundle: Bundle) -> None:
    """End with 1 unless a bundle drew a file."""
    bundle.verify()
    if any(each.bundle != bundle.sha256 for each in made):
        terminal.say(f"{file} is not from {bundle.path} (SHA-256 {bundle.sha256}): give the bundle {made[0].bundle}")
        raise typer.Exit(1)
    terminal.say(f"drawn by {bundle.path}: its SHA-256 is the one that the file names")


def _lines(made: Sequence[Provenance]) -> list[str]:
    """Return how images were made, a line for each thing; of several images, what differs is listed."""
    lines = [f"images         {len(made)}, synthetic"]
    for name in made[0].__struct_fields__:
        values = list(dict.fromkeys(_shown(getattr(each, name)) for each in made))
        if values != ["-"]:
            lines.append(f"{name.replace('_', ' '):<15}{values[0] if len(values) == 1 else some_of(values)}")
    return lines


def _shown(value: object) -> str:
    from seggd_rt.imaging import CheckResult

    if value is None:
        return "-"
    if isinstance(value, CheckResult):
        return _check_line(value)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_line(check: CheckResult) -> str:
    if check.mean_dice is None:
        return "no class to look for"
    dice = ", ".join(f"{name} {value:.3f}" for name, value in check.dice.items())
    outside = f"; unlike training images: {', '.join(check.outside)}" if check.outside else ""
    return f"mean Dice {check.mean_dice:.3f} ({dice}){outside}"
