"""What a model card takes from an evaluation's `report.json`, which `seggd-rt evaluate` writes.

The report's own record is the training side's. This is a reader's: it knows the figures a card shows, leaves all others
alone, and reads a report that has more of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from seggd_rt.errors import DataError
from seggd_rt.files import decode, read_file
from seggd_rt.reports.page import Picture

SCHEMA = "seggd-evaluation/2"
_ROUNDING = 1e-6
"""How far beyond its range rounding may put a figure."""
MAX_REPORT_BYTES = 64 << 20
MAX_PICTURE_BYTES = 32 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_ALT = {
    "plot-faithfulness": "Dice by class, with 95 % intervals, of generated and of real images",
    "sheet": "masks, generated and real images of the data, and what the segmenter finds in them",
    "plot-realism": "how real generated images look",
    "plot-ablation": "Dice by number of classes given",
    "plot-interpolation": "similarity to the real image, and Dice, by weight",
    "sheet-interpolation": "images between a generation and the mask's own real image",
    "plot-memorisation": "distances to the nearest training image, of generated and of held-out real images",
    "sheet-memorisation": "generated images nearest to a training image, that image, and the difference",
    "plot-use": "Dice of segmenters trained on real and on synthetic pairs",
    "plot-cost": "quality against time",
}
"""What the pictures show that an evaluation of this version writes."""


Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over patients, the bounds of its 95 % interval, and how many patients it is of."""

    mean: float
    low: float
    high: float
    count: Positive

    def __post_init__(self) -> None:
        """Check that the mean lies in its interval."""
        if not self.low <= self.mean <= self.high:
            raise ValueError(f"the mean {self.mean:g} is not in its interval, {self.low:g} to {self.high:g}")

    def __str__(self) -> str:
        """Return "0.839 [0.810, 0.861]"; of one patient, which has no interval, "0.839"."""
        digits = 3 if abs(self.mean) < 10 else 1
        interval = f" [{self.low:.{digits}f}, {self.high:.{digits}f}]" if self.count > 1 else ""
        return f"{self.mean:.{digits}f}{interval}"


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of generated images, and the same of real ones."""

    generated: Estimate
    real: Estimate

    @property
    def both(self) -> tuple[Estimate, Estimate]:
        """The two estimates."""
        return self.generated, self.real


def _check_range(name: str, estimates: Iterable[Estimate | None], low: float, high: float = math.inf) -> None:
    """Raise ValueError where a figure is outside its measure's range."""
    for each in estimates:
        if each is not None and not low - _ROUNDING <= each.low <= each.high <= high + _ROUNDING:
            within = f"be at least {low:g}" if high == math.inf else f"lie in [{low:g}, {high:g}]"
            raise ValueError(f"{name} is {each.mean:g}, {each.low:g} to {each.high:g}; it must {within}")


class ClassFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The Dice of one class; None where nothing shows it."""

    name: str
    dice: Estimate | None = None

    def __post_init__(self) -> None:
        """Check that Dice lies in [0, 1]."""
        _check_range("Dice", [self.dice], 0, 1)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The Dice of every class, and their mean."""

    classes: tuple[ClassFigures, ...]
    dice: Estimate

    def __post_init__(self) -> None:
        """Check that Dice lies in [0, 1]."""
        _check_range("mean Dice", [self.dice], 0, 1)


class OtherDistance(msgspec.Struct, frozen=True, kw_only=True):
    """A Frechet distance in the features of a given graph."""

    graph: str
    frechet: Beside

    def __post_init__(self) -> None:
        """Check that no distance is negative."""
        _check_range("Frechet distance", self.frechet.both, 0)


class RealismFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How real images look: Frechet distances, and the SSIM of different patients."""

    frechet: Beside
    similarity: Beside | None = None
    other: OtherDistance | None = None

    def __post_init__(self) -> None:
        """Check that no distance is negative, and that SSIM lies in [-1, 1]."""
        _check_range("Frechet distance", self.frechet.both, 0)
        if self.similarity is not None:
            _check_range("SSIM", self.similarity.both, -1, 1)


class SubsetFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Dice of images drawn from so many of the classes: of those given, and of the others."""

    size: Count
    given: Estimate | None = None
    others: Estimate | None = None

    def __post_init__(self) -> None:
        """Check that Dice lies in [0, 1]."""
        _check_range("Dice", [self.given, self.others], 0, 1)


class DistanceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How far the nearest training images are: see the report's own record.

    Attributes
    ----------
    ratio
        The generated images' median distance over that of held-out real ones; None where that is 0.
    nearer_than_near, nearer_than_all
        Parts, in [0, 1], of the generated images that are nearer than the nearest 5 % of the real ones, and than all.
    """

    ratio: Estimate | None
    nearer_than_near: Estimate
    nearer_than_all: Estimate

    def __post_init__(self) -> None:
        """Check that the ratio is not negative, and that parts lie in [0, 1]."""
        _check_range("ratio of distances", [self.ratio], 0)
        _check_range("part of the images", [self.nearer_than_near, self.nearer_than_all], 0, 1)


class MemorisationFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Whether generated images are copies: distances in pixels and in features, and how many are taken for copies."""

    pixels: DistanceFigures
    features: DistanceFigures
    copies: Count
    real_copies: Count
    images: Positive


class ReportBundle(msgspec.Struct, frozen=True, kw_only=True):
    """Which bundle was evaluated, and from which checkpoint it was exported; None in reports that do not state it."""

    name: str
    sha256: str
    checkpoint_sha256: str | None = None


class ReportData(msgspec.Struct, frozen=True, kw_only=True):
    """On what."""

    name: str
    split: str
    images: Positive
    patients: Positive | None = None


class ReportEngine(msgspec.Struct, frozen=True, kw_only=True):
    """By what engine."""

    engine: str
    version: str
    precision: str
    device_name: str


class ReportGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """How images were drawn."""

    sampler: str
    steps: Positive
    seed: int
    engine: ReportEngine


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a card shows of a report; None and () for what was not measured."""

    schema: Literal["seggd-evaluation/2"]
    bundle: ReportBundle
    data: ReportData
    generation: ReportGeneration
    generated: Figures
    real: Figures
    realism: RealismFigures | None = None
    ablation: tuple[SubsetFigures, ...] = ()
    memorisation: MemorisationFigures | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that generated and real figures are of the same classes."""
        if [c.name for c in self.generated.classes] != [c.name for c in self.real.classes]:
            raise ValueError("generated and real figures are of different classes")


def read_evaluation(path: Path) -> EvaluationReport:
    """Read a report.

    Raises
    ------
    DataError
        It cannot be read, is not a report of this version, or states figures that cannot be.
    """
    data = _read(path, MAX_REPORT_BYTES)
    try:
        return decode(data, EvaluationReport)
    except msgspec.DecodeError as error:
        raise DataError(
            f"{path} is no report that this version reads, {SCHEMA} ({error}): give a report.json of seggd-rt evaluate"
        ) from error


def pictures_beside(path: Path) -> tuple[Picture, ...]:
    """Return the plots and sheets that lie beside a report, each with the part that it belongs to.

    Raises
    ------
    DataError
        One cannot be read, is no PNG, or is a link that leaves the report's folder.
    """
    files = sorted(file for kind in ("plot", "sheet") for file in path.parent.glob(f"{kind}*.png"))
    return tuple(
        Picture(file.stem.partition("-")[2] or "faithfulness", _ALT.get(file.stem, file.stem), _png(file))
        for file in files
    )


def _png(path: Path) -> bytes:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a link to nothing, or to itself
        raise DataError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): remove it") from error
    if not target.is_relative_to(path.parent.resolve()):
        raise DataError(f"{path} is a link that leaves the report's folder: copy the picture there, or remove the link")
    data = _read(target, MAX_PICTURE_BYTES)
    if not data.startswith(_PNG):
        raise DataError(f"{path} is no PNG: remove it, or run seggd-rt evaluate again")
    return data


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_file(path, limit)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
