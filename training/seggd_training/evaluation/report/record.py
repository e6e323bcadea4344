"""What an evaluation says: `report.json`."""

from __future__ import annotations

from typing import Literal

import msgspec

from seggd_rt.engine import EngineInfo
from seggd_rt.files import decode
from seggd_training.evaluation.measures import (
    Cost,
    InterpolationScores,
    Memorisation,
    Realism,
    Scores,
    SubsetScores,
    UseScores,
)
from seggd_training.evaluation.segmenter import SegmenterConfig

Schema = Literal["seggd-evaluation/2"]
SCHEMA: Schema = "seggd-evaluation/2"


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the report."""


class BundleRecord(_Record, frozen=True):
    """The bundle, and what of its training bears on the figures.

    Attributes
    ----------
    name
        The bundle's name.
    sha256
        SHA-256 of its manifest, which another export of the same checkpoint changes.
    mask_encoding, trained_with_ablation
        See `seggd_rt.bundle.manifest.MaskSpec`.
    checkpoint_sha256
        SHA-256 of the checkpoint that it was exported from; None in reports that do not state it.
    """

    name: str
    sha256: str
    mask_encoding: str
    trained_with_ablation: bool | None
    checkpoint_sha256: str | None = None


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
    patients, patients_sha256
        How many there are, and the SHA-256 of whose image each is. None where the data does not name them: each image
        then counts as a patient.
    """

    name: str
    sha256: str | None
    content_sha256: str
    split: str
    images: int
    of_images: int
    empty_masks: int
    patients: int | None
    patients_sha256: str | None
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
    """The segmenter: configuration, SHA-256 of its weights, where it comes from, what it was trained on."""

    config: SegmenterConfig
    sha256: str
    source: str
    data_sha256: str
    trained_on_this_data: bool
    parameters: int
    seconds: float


class Report(_Record, frozen=True):
    """An evaluation.

    Attributes
    ----------
    commands
        What measured each part; several where a part was added to.
    generated, real
        Scores of the segmenter's label maps of generated and of real images against the same masks.
    realism
        How real generated images look; None of fewer than two.
    ablation
        Dice by size of subset.
    interpolation
        Similarity to real images, and Dice, by weight.
    memorisation
        How near generated images come to training images.
    use
        Of segmenters trained on synthetic pairs.
    cost
        Quality and time by sampler, steps and engine.
    notes
        What a reader must know to read the figures.
    """

    schema: Schema
    commands: dict[str, tuple[str, ...]]
    versions: dict[str, str]
    bundle: BundleRecord
    data: DataRecord
    generation: GenerationRecord
    segmenter: SegmenterRecord
    generated: Scores
    real: Scores
    realism: Realism | None
    ablation: tuple[SubsetScores, ...] = ()
    interpolation: tuple[InterpolationScores, ...] = ()
    memorisation: Memorisation | None = None
    use: UseScores | None = None
    cost: Cost | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return `report.json`'s bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def parse_report(data: bytes) -> Report:
    """Read a report that `to_json` wrote; msgspec.DecodeError if it is none."""
    return decode(data, Report)
