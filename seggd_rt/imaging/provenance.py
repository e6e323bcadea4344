"""How an image was made: what every output carries with it, so that it can be told from a patient's for ever.

It names no file and no person: a file's name may be a patient's.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from seggd_rt.errors import DataError
from seggd_rt.files import decode

KEY = "seggd-rt"
"""Under which formats that name their texts keep it."""
_DRAWN = "Synthetic image, drawn by a network: it shows no patient."
_MIXED = "Synthetic image, drawn by a network from a real image: parts of it may show a patient."
MAX_BYTES = 64 << 20
"""Of the record that a file carries."""
_MAX_UNPACKED = 1 << 28
"""Bytes of a record whose images each have what they share."""
_FORMAT = "seggd-provenance/1"


class CheckResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the segmenter says of one image.

    Attributes
    ----------
    dice
        In [0, 1], by name, of each class that was kept and that the label map shows.
    mean_dice
        Their mean; None where there is none.
    outside
        Names of those of them whose median intensity lies outside the range of training images.
    """

    dice: dict[str, float]
    mean_dice: float | None
    outside: tuple[str, ...]

    def reaches(self, min_dice: float) -> bool:
        """Say whether the mean Dice is at least so much; without any Dice it is."""
        return self.mean_dice is None or self.mean_dice >= min_dice


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one image was made: with its mask, enough to make it again.

    Attributes
    ----------
    seed
        The image's own seed.
    first_seed
        The seed that it was to have, where that was rejected and another was taken; None elsewhere.
    classes
        Names of the classes that were kept.
    mask_sha256
        Of the label map as it was drawn from: (H, W) uint8 in the bundle's size.
    noise_sha256
        Of the starting noise that was given in the seed's place, (C, H, W) float32; None without one.
    sampler, steps, eta, spacing, guidance, against
        How it was drawn: see `seggd_rt.inference.sampling_params.HowToDraw`.
    real_sha256, at
        Of the real image it was drawn from, float32 in [0, 1] in the bundle's size, and how far that was noised; None
        without one.
    weight, then_classes
        Of the real image in an interpolation, and the classes kept after the mixing; None elsewhere.
    region_sha256
        Of the region drawn anew, (H, W) float32 in the bundle's size; None where all was drawn.
    region_classes
        Names of the classes of a label map that were the region; None where the region was given as such.
    fit
        How the label map was fitted: see `seggd_rt.imaging.fit.Fit`.
    mark
        What is written into a corner of its pixels; None without.
    check, min_dice, retries
        What the bundle's segmenter said, the mean Dice that was asked for, and how often at most it was drawn again;
        None where it was not checked.
    keep_patient
        Whether the file names the patient of its label map; without, a patient is made up.
    engine, precision
        What computed it.
    engine_version, device, threads, cores, batch
        The engine's version, the CPU with what it multiplies in (or the GPU), the CPU threads that were asked for, None
        for the engine's own choice, the cores which that choice depends on, and how many images the network drew at a
        time. None in records of before they were kept, and where they do not apply.
    bundle
        SHA-256 of the bundle.
    version
        Of seggd-rt.
    """

    seed: int
    first_seed: int | None = None
    classes: tuple[str, ...]
    mask_sha256: str
    noise_sha256: str | None = None
    sampler: str
    steps: int
    eta: float
    spacing: str
    guidance: float
    against: tuple[str, ...] | None
    real_sha256: str | None = None
    at: float | None
    weight: float | None = None
    then_classes: tuple[str, ...] | None = None
    region_sha256: str | None = None
    region_classes: tuple[str, ...] | None = None
    fit: str = "resize"
    mark: str | None = None
    check: CheckResult | None = None
    min_dice: float | None = None
    retries: int | None = None
    keep_patient: bool = False
    engine: str
    precision: str
    engine_version: str | None = None
    device: str | None = None
    threads: int | None = None
    cores: int | None = None
    batch: int | None = None
    bundle: str
    version: str


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one file carries: of each image what differs, and once what all share."""

    format: str
    note: str
    all: dict[str, msgspec.Raw]
    images: tuple[dict[str, msgspec.Raw], ...]


def note(made: Sequence[Provenance]) -> str:
    """Return in a sentence what images are, for people who read it in a file."""
    return _DRAWN if all(each.real_sha256 is None for each in made) else _MIXED


def dump(made: Sequence[Provenance]) -> bytes:
    """Return the JSON that a file of these images carries: the same bytes for the same images.

    Parameters
    ----------
    made
        At least one, in the file's order.
    """
    rows = [{name: msgspec.json.encode(getattr(each, name)) for name in Provenance.__struct_fields__} for each in made]
    shared = {name: value for name, value in rows[0].items() if all(row[name] == value for row in rows)}
    images = tuple({n: msgspec.Raw(v) for n, v in row.items() if n not in shared} for row in rows)
    alike = {name: msgspec.Raw(value) for name, value in shared.items()}
    return msgspec.json.encode(_Document(format=_FORMAT, note=note(made), all=alike, images=images))


def parse(data: bytes, where: str) -> tuple[Provenance, ...]:
    """Read what `dump` wrote; `where` names it in errors.

    Raises
    ------
    DataError
        It is of another form, or of a newer seggd-rt's, or too long.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"{where} has a record of its making over {MAX_BYTES >> 20} MiB: it was changed")
    try:
        document = decode(data, _Document)
        if document.format != _FORMAT:
            raise DataError(f"{where} states its making as {document.format}: a newer seggd-rt may read it")
        if not document.images:
            raise DataError(f"{where} states the making of no image: it was changed")
        if len(document.images) * sum(map(len, document.all.values())) > _MAX_UNPACKED:
            raise DataError(f"{where} states the making of too many images, {len(document.images)}: it was changed")
        return tuple(
            msgspec.json.decode(msgspec.json.encode({**document.all, **image}), type=Provenance)
            for image in document.images
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{where} has a record of its making that cannot be read ({error}): it was changed") from error
