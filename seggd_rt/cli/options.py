"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder, NAME.seggd.")]
OneMask = Annotated[Path, typer.Option("--mask", "-m", help="A label map, .png or .npy.")]
RealImage = Annotated[Path, typer.Option("--real", help="The real image, .png or .npy.")]
Steps = Annotated[
    int | None, typer.Option(help="Steps of the sampler.  [default: the bundle's, or the usual of another sampler]")
]
Eta = Annotated[float, typer.Option(help="In [0, 1], of ddim: how much noise each step adds.")]
SamplerName = Annotated[
    str | None, typer.Option("--sampler", help="ddim, ddpm, dpm-solver++ or dpm-solver++-sde.  [default: the bundle's]")
]
SpacingName = Annotated[
    str | None, typer.Option("--spacing", help="leading, trailing or linspace.  [default: the model's]")
]
Keep = Annotated[str | None, typer.Option(help="The classes to keep in the label maps: a,b.")]
Drop = Annotated[str | None, typer.Option(help="The classes to leave out of the label maps: a,b.")]
Guidance = Annotated[float, typer.Option(help="How far to go on from the prediction without --against's classes.")]
Against = Annotated[str | None, typer.Option(help="The classes to guide with: a,b.  [default: all, if trained so]")]
EngineName = Annotated[str, typer.Option("--engine", help="auto, or one that seggd-rt doctor lists.")]
PrecisionName = Annotated[str, typer.Option("--precision", help="fp32, fp16, bf16 or auto.")]
DeviceName = Annotated[str, typer.Option("--device", help="cpu, cuda:0 (and so on), or auto.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.  [default: the engine's choice]")]
RequireSignature = Annotated[
    Path | None,
    typer.Option(
        "--require-signature",
        metavar="KEY.pub",
        help="Refuse a bundle that this Ed25519 public key did not sign, or that was changed since.",
    ),
]
Batch = Annotated[int, typer.Option(help="Images drawn at a time; they are the same with any.")]


def names(text: str | None) -> list[str] | None:
    """Return the names of a list, a,b; None for None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
