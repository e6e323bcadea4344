"""What a bundle is to be: what its checkpoint tells, completed by the caller; what is missing is asked for by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from seggd_export.forms import Source
from seggd_rt.diffusion import (
    BetaCurve,
    LabelClass,
    MaskEncoding,
    NoiseSchedule,
    Prediction,
    check_classes,
    mask_channels,
    name_classes,
)
from seggd_rt.errors import CheckpointError, OptionError


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """What the caller says of the noise schedule that a checkpoint does not tell; None is the reference's."""

    prediction: Prediction | None = None
    beta_schedule: BetaCurve | None = None
    beta_start: float | None = None
    beta_end: float | None = None


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The facts about image, mask and noise schedule that every part of an export needs.

    `guessed` says in words what neither checkpoint nor caller told.
    """

    image_channels: int
    height: int
    width: int
    classes: tuple[LabelClass, ...]
    encoding: MaskEncoding
    schedule: NoiseSchedule
    intensity_range: tuple[float, float] | None
    guessed: tuple[str, ...] = ()

    @property
    def mask_channels(self) -> int:
        """How many mask channels the network takes."""
        return mask_channels(self.encoding, len(self.classes))


def settle(
    source: Source,
    *,
    classes: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    encoding: MaskEncoding | None = None,
    schedule: ScheduleOptions | None = None,
    intensity_range: tuple[float, float] | None = None,
) -> Spec:
    """Complete a checkpoint by what the caller says.

    Raises
    ------
    OptionError
        Something is missing, contradicts the checkpoint, or does not fit the network's channels.
    CheckpointError
        The network takes no mask.
    """
    image_channels, in_channels = source.unet.get("out_channels"), source.unet.get("in_channels")
    if not isinstance(image_channels, int) or not isinstance(in_channels, int) or in_channels <= image_channels:
        raise CheckpointError(
            f"{source.path} takes {in_channels} channels and draws {image_channels}: a segmentation-guided network "
            "takes at least one mask channel more than it draws"
        )
    named = _classes(source, classes)
    settled, guessed = _schedule(source, schedule or ScheduleOptions())
    if encoding is None and source.encoding is not None and source.encoding_is_guess:
        guessed = (*guessed, f"masks as {source.encoding}")
    spec = Spec(
        image_channels=image_channels,
        height=(size := _size(source, image_size))[0],
        width=size[1],
        classes=named,
        encoding=_encoding(source, encoding, in_channels - image_channels, len(named)),
        schedule=settled,
        intensity_range=_intensity_range(source, intensity_range),
        guessed=guessed,
    )
    if spec.mask_channels != in_channels - image_channels:
        raise OptionError(
            f"the network takes {in_channels - image_channels} mask channels; {spec.encoding} of {len(named)} classes "
            f"makes {spec.mask_channels}: check --classes (background first) and --mask-encoding"
        )
    return spec


def _classes(source: Source, names: Sequence[str] | None) -> tuple[LabelClass, ...]:
    if names is None:
        if source.classes is None:
            raise OptionError(
                f"{source.path} does not name its classes: list every label from 0, background first, "
                "as in --classes background,liver,spleen"
            )
        return source.classes
    stripped = [name.strip() for name in names]
    try:
        named = name_classes(stripped)
        check_classes(named)
    except ValueError as error:
        raise OptionError(f"--classes: {error}") from error
    if source.classes is not None and stripped != [known.name for known in source.classes]:
        known = ",".join(c.name for c in source.classes)
        raise OptionError(f"{source.path} has the classes {known}: leave --classes out")
    return source.classes or named


def _size(source: Source, given: tuple[int, int] | None) -> tuple[int, int]:
    known = source.image_size
    size = given or known
    if size is None:
        raise OptionError(f"{source.path} does not tell its image size: give it, as in --image-size 256 or 256x192")
    if known is not None and known != size and not source.image_size_is_hint:
        raise OptionError(f"{source.path} draws {known[0]}x{known[1]}: leave --image-size out")
    step = 2 ** (_levels(source.unet) - 1)
    if min(size) < 1 or size[0] % step or size[1] % step:
        raise OptionError(f"the image size is {size[0]}x{size[1]}; this network needs multiples of {step}")
    return size


def _encoding(source: Source, given: MaskEncoding | None, channels: int, num_classes: int) -> MaskEncoding:
    if given is not None and source.encoding is not None and given is not source.encoding and source.classes:
        raise OptionError(f"{source.path} has masks in {source.encoding}: leave --mask-encoding out")
    found = given or source.encoding
    if found is None and channels > 1:
        return MaskEncoding.ONE_HOT  # the only encoding of more than one channel
    if found is None:
        raise OptionError(
            f"{source.path} does not tell how masks are encoded: give --mask-encoding "
            f"{' or '.join(MaskEncoding)} (the SegGuidedDiff reference trains {MaskEncoding.LABEL_OVER_255})"
        )
    return found


def check_intensity_range(ends: tuple[float, float]) -> None:
    """Raise OptionError unless black is less than white, and both are finite."""
    low, high = ends
    if not (low < high and math.isfinite(high - low)):
        raise OptionError(
            f"--intensity-range is {low:g},{high:g}; it must be LO,HI, two finite numbers, the first less than the "
            "second"
        )


def _intensity_range(source: Source, given: tuple[float, float] | None) -> tuple[float, float] | None:
    if given is None:
        return source.intensity_range
    check_intensity_range(given)
    if source.intensity_range is not None and source.intensity_range != given:
        low, high = source.intensity_range
        raise OptionError(
            f"{source.path} was trained with black at {low:g} and white at {high:g}: leave --intensity-range out"
        )
    return given


def _schedule(source: Source, given: ScheduleOptions) -> tuple[NoiseSchedule, tuple[str, ...]]:
    """Return the noise schedule, and what of it is a guess."""
    known = source.schedule
    start = known or NoiseSchedule()
    try:
        schedule = msgspec.structs.replace(
            start,
            prediction=given.prediction or start.prediction,
            beta_curve=given.beta_schedule or start.beta_curve,
            beta_start=start.beta_start if given.beta_start is None else given.beta_start,
            beta_end=start.beta_end if given.beta_end is None else given.beta_end,
        )
    except ValueError as error:
        raise OptionError(f"--beta-start, --beta-end: {error}") from error
    if known is not None:
        if schedule != known:
            raise OptionError(
                f"{source.path} states its noise schedule ({known.prediction} prediction, {known.beta_curve} betas "
                f"from {known.beta_start:g} to {known.beta_end:g}): leave --prediction and --beta-... out"
            )
        return known, ()
    guessed = []
    if given.prediction is None:
        guessed.append(f"{schedule.prediction} prediction")
    if given.beta_schedule is None:
        guessed.append(f"{schedule.beta_curve} betas")
    if given.beta_start is None or given.beta_end is None:
        guessed.append(f"betas from {schedule.beta_start:g} to {schedule.beta_end:g}")
    return schedule, tuple(guessed)


def _levels(unet: Mapping[str, object]) -> int:
    channels = unet.get("block_out_channels")
    return len(channels) if isinstance(channels, list | tuple) else 4  # diffusers' default has four
