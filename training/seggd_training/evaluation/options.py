"""What is chosen about an evaluation, checked when it is made."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from seggd_rt.diffusion import check_seed
from seggd_rt.engine import check_threads
from seggd_rt.errors import OptionError
from seggd_rt.imaging import Axis
from seggd_training.data import Split
from seggd_training.evaluation.measures import parse_grid


class Part(StrEnum):
    """What may be measured beside faithfulness and realism."""

    ABLATION = "ablation"
    INTERPOLATION = "interpolation"
    MEMORISATION = "memorisation"
    COST = "cost"
    USE = "use"


class EvaluateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is chosen about an evaluation.

    Raises
    ------
    OptionError
        A field is outside its range, or two exclude each other.
    """

    bundle: Path
    data: Path
    output: Path
    split: Split = Split.VAL
    axis: Axis | None = None
    segments: dict[str, str] = {}
    threshold: float | None = None
    parts: frozenset[Part] = frozenset()
    segmenter: Path | None = None
    segmenter_steps: int | None = None
    feature_graph: Path | None = None
    sampler: str | None = None
    spacing: str | None = None
    steps: int | None = None
    grid: str | None = None
    seed: int = 0
    batch: int = 8
    limit: int | None = None
    engine: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    require_signature: Path | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Check every field's range."""
        for field in ("segmenter_steps", "batch", "limit"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise OptionError(f"--{field.replace('_', '-')} is {value}; it must be at least 1")
        check_threads(self.threads, "--threads")
        if self.segmenter is not None and self.segmenter_steps is not None:
            raise OptionError("--segmenter and --segmenter-steps exclude each other: a given segmenter is not trained")
        if self.split is Split.TRAIN:
            raise OptionError("--split is train, which the segmenter is trained on: evaluate val or test")
        if self.grid is not None:
            parse_grid(self.grid)
        check_seed(self.seed)
