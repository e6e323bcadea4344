"""Options that several commands share, each written once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from seggd_rt.errors import OptionError

if TYPE_CHECKING:
    from seggd_rt.imaging import Axis, Format, Reading

_Kind = TypeVar("_Kind", bound=StrEnum)
_DIGITS = 10
"""More digits than a side of an image has: Python does not read a number of thousands."""
_SHOWN = 40
MASK_FORMATS = ".png, .npy, .nii.gz, .nii, .dcm, or the folder of a DICOM series"
BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder, NAME.seggd.")]
OneMask = Annotated[Path, typer.Option("--mask", "-m", help=f"A label map: {MASK_FORMATS}.")]
RealImage = Annotated[Path, typer.Option("--real", help=f"The real image: {MASK_FORMATS}.")]
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
Force = Annotated[bool, typer.Option("--force", help="Replace images made with other settings.")]
Batch = Annotated[int, typer.Option(help="Images drawn at a time; they are the same with any.")]

AxisName = Annotated[
    str | None, typer.Option("--axis", help="Cut volumes along: axial, coronal, sagittal, 0, 1 or 2.  [default: axial]")
]
SliceNumber = Annotated[int | None, typer.Option("--slice", help="The slice of a volume, from 0.")]
RealSlice = Annotated[
    int | None,
    typer.Option(help="The slice of a --real volume, from 0.  [default: the one at the mask's place, or --slice]"),
]
FitName = Annotated[
    str, typer.Option("--fit", help="Masks of another size: resize, letterbox (keeps shapes) or crop-pad.")
]
ImageFormat = Annotated[
    str | None,
    typer.Option("--format", help="Of images in a folder: png, npy, nifti, dicom.  [default: the masks', or png]"),
]
SegmentMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help='Classes of segments in DICOM, "Liver=liver,Spleen=background"; else by name. May be repeated.'
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(help="In (0, 1]: from which share on pixels of fractional DICOM segments belong to them."),
]


def reading(
    axis: str | None,
    fit: str,
    index: int | None = None,
    segments: list[str] | None = None,
    threshold: float | None = None,
) -> Reading:
    """Return how files are read, as options say."""
    from seggd_rt.imaging import Fit, Reading
    from seggd_rt.imaging.dicom import parse_map

    if threshold is not None and not 0 < threshold <= 1:
        raise OptionError(f"--threshold is {threshold:g}; it must lie in (0, 1]")
    return Reading(
        axis=axis_of(axis),
        index=index,
        fit=member(Fit, fit, "--fit"),
        segments=parse_map(segments or ()),
        threshold=threshold,
    )


def axis_of(name: str | None) -> Axis | None:
    """Return the axis of a name, None for None."""
    from seggd_rt.imaging import Axis

    return None if name is None else member(Axis, name, "--axis")


def format_of(name: str | None) -> Format | None:
    """Return the format of a name, None for None."""
    from seggd_rt.imaging import Format

    return None if name is None else member(Format, name, "--format")


def format_in_folder(name: str | None, output: str) -> Format | None:
    """Return the format of a name, where the output is a folder.

    Raises
    ------
    OptionError
        It is a file, whose own suffix says its format.
    """
    from seggd_rt.runs import is_folder

    if name is not None and not is_folder(output):
        raise OptionError("--format says what images in a folder are: give a folder with -o, or leave it out")
    return format_of(name)


def member(kinds: type[_Kind], name: str, option: str) -> _Kind:
    """Return the member of a name.

    Raises
    ------
    OptionError
        There is none.
    """
    if name not in list(kinds):
        raise OptionError(f"{option} is {name}; it must be one of {', '.join(kinds)}")
    return kinds(name)


def names(text: str | None) -> list[str] | None:
    """Return the names of a list, a,b; None for None.

    Raises
    ------
    OptionError
        A name is empty, or is there twice.
    """
    if text is None:
        return None
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise OptionError(f"the list of classes '{text}' has an empty name: write it as a,b")
    folded = [name.casefold() for name in found]
    if repeated := [name for name, key in zip(found, folded, strict=True) if folded.count(key) > 1]:
        raise OptionError(f"the list of classes '{text}' has {repeated[0]} twice: give each class once")
    return found


def size_of(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of an image size, N or HxW; None for None."""
    from seggd_rt.bundle import MAX_PIXELS

    if text is None:
        return None
    numbers = text.lower().split("x")
    is_size = len(numbers) <= 2 and all(number.isdecimal() and len(number) < _DIGITS for number in numbers)
    height, width = (int(numbers[0]), int(numbers[-1])) if is_size else (0, 0)
    if not 1 <= height * width <= MAX_PIXELS:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise OptionError(
            f"--image-size is invalid ('{shown}'): give N or HxW, such as 128 or 96x128, at most {MAX_PIXELS} pixels"
        )
    return height, width


def range_of(text: str | None) -> tuple[float, float] | None:
    """Return the two numbers of an intensity range, LO,HI; None for None."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise OptionError(f"--intensity-range is '{text}'; give LO,HI, as 0,4095 or -1000,1000") from error
    return low, high
