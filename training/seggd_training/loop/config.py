"""The options of a training run, checked when they are made."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from seggd_export.spec import check_intensity_range
from seggd_rt.diffusion import MaskEncoding, NoiseSchedule, Prediction, check_seed
from seggd_rt.engine import check_threads
from seggd_rt.errors import OptionError
from seggd_rt.imaging import Axis


class Precision(StrEnum):
    """What autocast computes in."""

    FP32 = "no"
    BF16 = "bf16"
    FP16 = "fp16"


_FREE = frozenset(
    {
        *("data", "output", "init", "resume", "stop_after", "threads", "licence", "training_data"),
        *("checkpoint_every", "sample_every", "validate_every"),
    }
)
"""Options that a resumed run may change, because no later weight depends on them. `data` is compared by content;
`init` is refused together with `resume`."""


class TrainOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is chosen about a training run.

    Raises
    ------
    OptionError
        A field is outside its range.
    """

    data: Path
    output: Path
    classes: tuple[str, ...] | None = None
    image_size: tuple[int, int] | None = None
    intensity_range: tuple[float, float] | None = None
    axis: Axis | None = None
    segments: dict[str, str] = {}
    threshold: float | None = None
    network: str = "small"
    init: Path | None = None
    encoding: MaskEncoding = MaskEncoding.ONE_HOT
    ablation: bool = True
    empty_subset: float = 0.0
    augment: bool = False
    prediction: Prediction = Prediction.EPSILON
    min_snr: float | None = None
    steps: int = 10_000
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 1e-4
    warmup_steps: int = 500
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.9999
    mixed_precision: Precision = Precision.FP32
    seed: int = 0
    threads: int | None = None
    sample_every: int = 500
    validate_every: int = 200
    checkpoint_every: int = 200
    stop_after: int | None = None
    resume: bool = False
    licence: str | None = None
    training_data: str | None = None

    def __post_init__(self) -> None:
        """Check every field's range."""
        for field, low in {
            "steps": 1, "batch_size": 1, "accumulate": 1, "warmup_steps": 0,
            "sample_every": 0, "validate_every": 0, "checkpoint_every": 1,
        }.items():  # fmt: skip
            if getattr(self, field) < low:
                raise OptionError(f"{_flag(field)} is {getattr(self, field)}; it must be at least {low}")
        if self.stop_after is not None and self.stop_after < 1:
            raise OptionError(f"--stop-after is {self.stop_after}; it must be at least 1")
        check_seed(self.seed)
        check_threads(self.threads, "--threads")
        for field in ("lr", "clip_norm", "min_snr"):
            value = getattr(self, field)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise OptionError(f"{_flag(field)} is {value}; it must be positive and finite")
        if not 0 <= self.ema_decay < 1:
            raise OptionError(f"--ema-decay is {self.ema_decay}; it must lie in [0, 1)")
        if not 0 <= self.weight_decay < math.inf:
            raise OptionError(f"--weight-decay is {self.weight_decay}; it must be 0 or more")
        if not 0 <= self.empty_subset <= 1:
            raise OptionError(f"--empty-subset is {self.empty_subset}; it must lie in [0, 1]")
        if self.init is not None and self.resume:
            raise OptionError("--init and --resume cannot be combined: leave --init out, as a resumed run has weights")
        if self.intensity_range is not None:
            check_intensity_range(self.intensity_range)

    def schedule(self) -> NoiseSchedule:
        """Return the noise schedule to train with."""
        return NoiseSchedule(prediction=self.prediction)

    def learning_rate(self, step: int) -> float:
        """Return the rate of step 0, 1, ...: a linear warm-up, then half a cosine to zero."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))

    def binding(self) -> dict[str, Any]:
        """Return the options that decide the weights, as plain values: those a resumed run must repeat."""
        values: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return {field: value for field, value in values.items() if field not in _FREE}


def check_same_run(saved: dict[str, Any], options: TrainOptions) -> None:
    """Compare a resume state's options with those given now.

    Raises
    ------
    OptionError
        One that decides the weights differs.
    """
    given = options.binding()
    defaults = TrainOptions(data=options.data, output=options.output).binding()  # for options newer than the state
    for field in sorted(saved.keys() | given.keys()):
        old, new = saved.get(field, defaults.get(field)), given.get(field)
        if _plain(old) != _plain(new):
            raise OptionError(
                f"--resume continues a run with {_flag(field)} {old}, now it is {new}: "
                "repeat the run's options, or start another in a new folder"
            )


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
