"""What an evaluation says: `report.json`, and the table of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
from rich import box
from rich.table import Table

from seggd_engines.network import EngineInfo
from seggd_rt.errors import OutputError
from seggd_training.ablation_scores import SubsetScores
from seggd_training.dice import Estimate, Scores
from seggd_training.realism import Realism
from seggd_training.segmenter import SegmenterConfig

SCHEMA = "seggd-evaluation/1"


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the report."""


class BundleRecord(_Record, frozen=True):
    """The bundle: its name, and the SHA-256 of its manifest."""

    name: str
    sha256: str


class DataRecord(_Record, frozen=True):
    """The real data: file, its SHA-256 (None of a folder), that of the split's arrays as used, and how many there are.

    Attributes
    ----------
    images
        Masks measured, one generated image each.
    of_images
        Masks in the split: more than `images` under `--limit`.
    empty_masks
        Masks without foreground among those measured.
    patients
        None where the data does not name them: each image then counts as a patient.
    """

    name: str
    sha256: str | None
    content_sha256: str
    split: str
    images: int
    of_images: int
    empty_masks: int
    patients: int | None
    height: int
    width: int


class GenerationRecord(_Record, frozen=True):
    """How images were generated. Image i has the seed `derive_seed(seed, i)`, i its number in the split."""

    sampler: str
    spacing: str
    steps: int
    seed: int
    batch: int
    engine: EngineInfo
    seconds: float
    seconds_per_image: float


class SegmenterRecord(_Record, frozen=True):
    """The segmenter: its configuration, where it comes from, and whether it saw this data's training split."""

    config: SegmenterConfig
    source: str
    data_sha256: str
    trained_on_this_data: bool
    parameters: int
    seconds: float


class Report(_Record, frozen=True):
    """An evaluation.

    Attributes
    ----------
    generated, real
        Scores of the segmenter's label maps of generated and of real images against the same masks.
    realism
        How real generated images look; None of fewer than two.
    ablation
        Dice by size of subset, where it was asked for.
    notes
        What a reader must know to read the figures.
    """

    schema: str
    command: str
    versions: dict[str, str]
    bundle: BundleRecord
    data: DataRecord
    generation: GenerationRecord
    segmenter: SegmenterRecord
    generated: Scores
    real: Scores
    realism: Realism | None
    ablation: tuple[SubsetScores, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return `report.json`'s bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def parse_report(data: bytes) -> Report:
    """Read a report that `to_json` wrote; msgspec.DecodeError if it is none."""
    return msgspec.json.decode(data, type=Report)


def report_table(report: Report) -> Table:
    """Return the Dice of each class, generated beside real, for `rich` to print in 80 columns."""
    who = "patients" if report.data.patients is not None else "images"
    table = Table(
        title=f"Dice against the masks, mean over {report.generated.dice.count} {who} [95 % interval]",
        caption=(
            f"image by image: {report.generated.image_dice:.3f} generated, {report.real.image_dice:.3f} real; "
            f"{report.data.images} images of {report.data.name}, {report.data.split}"
        ),
        box=box.SIMPLE_HEAD,
        min_width=78,
    )
    table.add_column("class")
    table.add_column(f"{report.bundle.name}, generated", justify="right")
    table.add_column("real images", justify="right")
    for drawn, real in zip(report.generated.classes, report.real.classes, strict=True):
        table.add_row(drawn.name, _interval(drawn.dice), _interval(real.dice))
    table.add_section()
    table.add_row("mean", _interval(report.generated.dice), _interval(report.real.dice), style="bold")
    return table


def realism_table(realism: Realism) -> Table:
    """Return how real generated images look, beside the same of real ones, for `rich` to print."""
    table = Table(title="How real they look, beside real images", box=box.SIMPLE_HEAD, min_width=78)
    table.add_column("measure")
    table.add_column("generated", justify="right")
    table.add_column("real images", justify="right")
    frechet, similarity = realism.frechet, realism.similarity
    table.add_row("Frechet distance, segmenter's features", f"{frechet.generated:.3g}", f"{frechet.real:.3g}")
    table.add_row("SSIM of different patients", f"{similarity.generated:.3f}", f"{similarity.real:.3f}")
    for intensity in realism.intensities:
        median = intensity.median
        table.add_row(f"median grey of {intensity.name}", f"{median.generated:.3f}", f"{median.real:.3f}")
    return table


def ablation_table(scores: tuple[SubsetScores, ...]) -> Table:
    """Return the Dice by size of subset, for `rich` to print."""
    table = Table(
        title="Dice of images drawn from some of the classes [95 % interval]", box=box.SIMPLE_HEAD, min_width=78
    )
    table.add_column("classes given")
    table.add_column("of those given", justify="right")
    table.add_column("of the others", justify="right")
    for row in scores:
        table.add_row(str(row.size), _interval(row.given), _interval(row.others))
    return table


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _interval(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
