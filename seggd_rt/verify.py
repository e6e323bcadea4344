"""What a file says of its making, held against the bundle it names: drawn again, and compared."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_rt.drawing import HowToDraw
from seggd_rt.errors import DataError, OptionError
from seggd_rt.generator import Generator
from seggd_rt.imaging.contract import ImageStack, LabelMapFile, Reading, Slice
from seggd_rt.imaging.fit import Fit
from seggd_rt.imaging.folder import LabelMapSet
from seggd_rt.imaging.formats import require_reader, writer_of
from seggd_rt.imaging.geometry import Place
from seggd_rt.imaging.npy import NpyArray
from seggd_rt.imaging.real import ResizedImageWarning, find_real, find_region
from seggd_rt.mask_checks import checked, fitted
from seggd_rt.provenance import Provenance
from seggd_rt.records import digest

ALIKE_DB = 40.0
"""PSNR from which two images are the same one: what `auto` asks of bf16. Other seeds of one mask come to about 20."""

_WORD = 65535.0
"""White in DICOM, of a bundle without an intensity range."""


@dataclass(frozen=True)
class Inputs:
    """What an image was drawn from, beside its seed.

    Attributes
    ----------
    masks
        Its label map, among others if need be: it is known by its hash.
    reading
        How label maps and real images are cut into slices.
    real, region, noise
        The files that were given, which may hold others too; None where there was none.
    """

    masks: Path
    reading: Reading
    real: Path | None = None
    region: Path | None = None
    noise: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """A file's images beside those drawn again.

    Attributes
    ----------
    images
        How many there are.
    max_error
        Largest difference of two pixels, in the file's own values.
    psnr_db
        Of all pixels together, to the range of the file's values; infinite where all are equal.
    """

    images: int
    max_error: float
    psnr_db: float

    @property
    def alike(self) -> bool:
        """Whether they are the same images."""
        return self.psnr_db >= ALIKE_DB


def read_making(path: Path) -> tuple[Provenance, ...]:
    """Return how a file's images were made, in the file's order.

    Raises
    ------
    DataError
        It is not there, cannot be read, carries no record of its making, or one that was changed.
    OptionError
        It is of no format that seggd-rt writes.
    """
    if not path.exists():
        raise DataError(f"{path} is not there: give an image that seggd-rt drew")
    made = writer_of(path).made(path)
    unknown = {each.fit for each in made} - set(Fit)
    if unknown:
        raise DataError(f"{path} states that it was fitted by {min(unknown)}, which is no way to fit: it was changed")
    return made


def compare(path: Path, generator: Generator, inputs: Inputs) -> Comparison:
    """Draw a file's images again and compare.

    Parameters
    ----------
    path
        The file.
    generator
        Of the bundle that the file names; its engine may be another than drew it.
    inputs
        What the images were drawn from.

    Raises
    ------
    DataError
        A label map, real image, region or noise is not the one that the file names by its hash, or cannot be read.
    OptionError
        Something that the images were drawn from was not given, the generator is of another bundle, or the file holds a
        grid, which cannot be taken apart.
    """
    made = read_making(path)
    if any(each.bundle != generator.bundle.sha256 for each in made):
        raise OptionError(
            f"{path} was drawn by the bundle {made[0].bundle[:12]}..., and this one is "
            f"{generator.bundle.sha256[:12]}..."
        )
    writer = writer_of(path)
    if len(made) > 1 and not writer.holds_many:
        raise OptionError(f"{path} is a grid of {len(made)} images: it can be read, and not drawn again")
    old = _pixels(path)
    if not writer.holds_many and old.shape[1:3] != (generator.manifest.image.height, generator.manifest.image.width):
        raise OptionError(f"{path} is a grid, or was resized: it can be read, and not drawn again")
    if not writer.holds_volume and len(old) != len(made):
        raise DataError(f"{path} holds {len(old)} images and states how {len(made)} were made: it was changed")
    places = _find(made, generator, inputs)
    manifest, image = generator.manifest, generator.manifest.image
    source: LabelMapFile | None = None
    if writer.holds_volume:
        source, index = places[0]
        source = source if len(source) == len(made) else Slice(source, index)
    stack = ImageStack(
        len(made),
        image.height,
        image.width,
        image.channels,
        manifest=manifest,
        source=source,
        fit=Fit(made[0].fit),
        mark=made[0].mark is not None,
    )
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / path.name
        with writer.create(again, stack) as file:
            for each, (source_file, index) in zip(made, places, strict=True):
                whole = checked(source_file, index, manifest)
                place = Place(Slice(source_file, index).geometry, (whole.shape[0], whole.shape[1]))
                label_map = fitted(source_file, whole, manifest, Fit(each.fit))
                file.append(_draw(generator, each, label_map, place, inputs), each)
        new = _pixels(again)
    if old.shape != new.shape or old.dtype != new.dtype:
        raise DataError(
            f"{path} holds {old.dtype} {old.shape}, and drawn again {new.dtype} {new.shape}: it was changed"
        )
    if not np.isfinite(old).all():
        raise DataError(f"{path} holds infinities or NaNs: it was changed")
    white = _white(old, generator)
    difference = np.abs(old.astype(np.float64) - new)
    mean_square = float(np.mean(difference**2))
    psnr = math.inf if mean_square == 0 else 10 * math.log10(white**2 / mean_square)
    return Comparison(len(made), float(difference.max()), psnr)


def _find(made: Sequence[Provenance], generator: Generator, inputs: Inputs) -> list[tuple[LabelMapFile, int]]:
    """Return where the label map of each image is."""
    manifest = generator.manifest
    masks = LabelMapSet.open(inputs.masks, inputs.reading.of_bundle(manifest))
    fit, wanted = Fit(made[0].fit), {each.mask_sha256 for each in made}
    found: dict[str, tuple[LabelMapFile, int]] = {}
    for file in masks.files:
        hashes = [digest(fitted(file, checked(file, index, manifest), manifest, fit)) for index in range(len(file))]
        if file.geometry is not None and hashes == [each.mask_sha256 for each in made]:
            return [(file, index) for index in range(len(file))]
        found |= {each: (file, index) for index, each in enumerate(hashes) if each in wanted}
    missing = len(wanted - set(found))
    if missing:
        raise DataError(
            f"{inputs.masks} has no label map of which {missing} of these images were drawn: give theirs, with the "
            "--map, --threshold and --axis that they were read with"
        )
    return [found[each.mask_sha256] for each in made]


def _draw(
    generator: Generator, made: Provenance, label_map: NDArray[np.uint8], place: Place, inputs: Inputs
) -> NDArray[np.float32]:
    """Draw one image again, of a label map that lies at a place."""
    how: HowToDraw = {
        "sampler": made.sampler,
        "steps": made.steps,
        "eta": made.eta,
        "spacing": made.spacing,
        "keep": made.classes,
        "guidance": made.guidance,
        "against": made.against,
    }
    for given, needed, name in (
        (inputs.real, made.real_sha256, "--real"),
        (inputs.region, made.region_sha256, "--region"),
        (inputs.noise, made.noise_sha256, "--noise"),
    ):
        if given is not None and needed is None:
            raise OptionError(f"this image was drawn without {given}: leave {name} out")
    start = _noise(made, inputs)
    if made.real_sha256 is None:
        return generator(label_map, seed=made.seed, noise=start, **how)
    if inputs.real is None:
        raise OptionError("this image was drawn from a real one: give it with --real")
    # A run of many label maps reads its real image once, for all of them: it has no place then.
    beside = None if made.weight is None and made.region_sha256 is None else place
    real = _known(find_real, inputs.real, generator, inputs, beside, made.real_sha256)
    if made.region_sha256 is not None:
        if inputs.region is None:
            raise OptionError("a region of this image was drawn anew: give it with --region")
        find = partial(find_region, classes=made.region_classes)
        region = _known(find, inputs.region, generator, inputs, place, made.region_sha256)
        without = {name: value for name, value in how.items() if name not in ("guidance", "against")}
        return generator.inpaint(real, region, label_map, seed=made.seed, **without)  # type: ignore[arg-type]
    at = 0.6 if made.at is None else made.at
    if made.weight is None:
        return generator.translate(real, label_map, at=at, seed=made.seed, **how)
    return generator.interpolate(
        label_map, real, weight=made.weight, at=at, seed=made.seed, then_keep=made.then_classes, **how
    )


def _noise(made: Provenance, inputs: Inputs) -> NDArray[np.float32] | None:
    """Return the noise that an image was drawn from in its seed's place."""
    if made.noise_sha256 is None:
        return None
    if inputs.noise is None:
        raise OptionError("this image was drawn from given noise: give it with --noise")
    array = NpyArray.open(inputs.noise)
    several = array.shape[0] if len(array.shape) == 4 else 1
    for index in range(several):
        noise = array.read(index if len(array.shape) == 4 else None).astype(np.float32)
        if digest(noise) == made.noise_sha256:
            return noise
    raise DataError(f"{inputs.noise} has not the noise that this image was drawn from")


def _known(
    find: Callable[..., NDArray[np.float32] | None],
    path: Path,
    generator: Generator,
    inputs: Inputs,
    place: Place | None,
    expected: str,
) -> NDArray[np.float32]:
    """Return the real image, or region, of a hash."""
    with warnings.catch_warnings(action="ignore", category=ResizedImageWarning):
        image = find(path, generator.manifest, inputs.reading, place, lambda image: digest(image) == expected)
    if image is None:
        raise DataError(f"{path} is not what this image was drawn from: its SHA-256 in the bundle's size is another")
    return image


def _pixels(path: Path) -> NDArray[Any]:
    """Return all pixels of a file, in its own values."""
    if path.name.lower().endswith(".npy"):  # of many images, which is no real image
        array = NpyArray.open(path)
        if not array.shape:
            raise DataError(f"{path} holds one number, and no images: it was changed")
        return array.read()
    file = require_reader(path).open_real(path, Reading())
    return np.stack([file.read(index) for index in range(len(file))])


def _white(pixels: NDArray[Any], generator: Generator) -> float:
    """Return the range of a file's values."""
    if pixels.dtype.kind in "iu":
        return float(np.iinfo(pixels.dtype).max)
    if generator.manifest.intensity_range is None:
        return 1.0 if pixels.max() <= 1 else _WORD
    black, white = generator.manifest.intensity_range
    return white - black


def making_as_json(made: Sequence[Provenance]) -> str:
    """Return how images were made, as one line of JSON."""
    return msgspec.json.encode(list(made)).decode()
