"""What fewer steps, other samplers, other precisions and other engines cost in quality, and save in time.

Every setting draws every mask from the same seed. Its Dice and its Frechet distance stand beside their changes from the
base's, the bundle's own sampler and steps on the engine in use: differences of the same resampled patients, so that
what all settings share drops out. PSNR is to the images of DDIM with all training steps; samplers that add noise have
none. Times are taken in turn with the base's, batch by batch, so that a machine that slows down does so for both.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_rt.diffusion import Sampler
from seggd_rt.engine import EngineInfo
from seggd_rt.errors import OptionError
from seggd_training.evaluation.measures.bootstrap import Estimate, estimate_change, estimate_images, estimate_mean
from seggd_training.evaluation.measures.cases import Cases, DrawImages, OnImages, draw_images
from seggd_training.evaluation.measures.frechet import Distance, FeatureSet, measure_distance
from seggd_training.evaluation.measures.scores import patient_dice
from seggd_training.evaluation.measures.similarity import psnr
from seggd_training.evaluation.segmenter import Segmenter, segmenter_features

_GRID = {
    Sampler.DDIM: (250, 100, 50, 25, 15, 10),
    Sampler.DPM_SOLVER: (25, 20, 15, 12, 10, 8, 5),
    Sampler.DDPM: (),
}
"""What is compared unless told otherwise; DDIM and DDPM also with all training steps."""
_EXAMPLE = "ddim:50,25 dpm-solver++:20"
_ROUNDS = 5
"""Batches that are timed in turn with the base's."""
_NO_NOISE = frozenset({Sampler.DDIM, Sampler.DPM_SOLVER})
"""Samplers whose image the start noise decides."""


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How images are drawn."""

    sampler: Sampler
    steps: int
    engine: EngineInfo

    def __str__(self) -> str:
        """Return "ddim, 50 steps"."""
        return f"{self.sampler}, {self.steps} steps"


class CostRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a setting gives.

    Attributes
    ----------
    dice, frechet
        Against the masks, and to the real images.
    dice_change, frechet_change
        From the base's.
    psnr_db
        To DDIM with all training steps; None where that was not drawn or the sampler adds noise.
    seconds_per_image
        Median over batches.
    time_ratio
        To the base's, median over batches in turn.
    """

    setting: Setting
    dice: Estimate | None
    dice_change: Estimate | None
    frechet: Estimate
    frechet_change: Estimate
    psnr_db: Estimate | None
    seconds_per_image: float
    time_ratio: float

    def is_complete(self, *, has_reference: bool) -> bool:
        """Whether it has every figure that it can have, where there is, or is not, something to compare images with."""
        return self.psnr_db is not None or not has_reference or self.setting.sampler not in _NO_NOISE

    @property
    def as_good(self) -> bool:
        """Whether neither figure is worse than the base's beyond its interval."""
        return self.dice_change is not None and self.dice_change.high >= 0 and self.frechet_change.low <= 0


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows, and the setting that their changes are from."""

    base: Setting
    rows: tuple[CostRow, ...] = ()

    def find(self, setting: Setting) -> CostRow | None:
        """Return a setting's row, if it was measured."""
        return next((row for row in self.rows if row.setting == setting), None)

    def enough(self) -> dict[Sampler, int]:
        """Return, of each sampler, the fewest steps from which on every measured number is as good as the base.

        Of the base's own sampler up to the base's steps: more of them may be better or worse, and are no matter here.
        """
        found: dict[Sampler, int] = {}
        for sampler in Sampler:
            rows = [r for r in self.rows if r.setting.sampler == sampler and r.setting.engine == self.base.engine]
            if sampler is self.base.sampler:
                rows = [row for row in rows if row.setting.steps <= self.base.steps]
            for row in sorted(rows, key=lambda row: -row.setting.steps):
                if not row.as_good:
                    break
                found[sampler] = row.setting.steps
        return found


def default_grid(train_steps: int) -> str:
    """Return what is compared unless told otherwise, for a model of so many training steps."""
    words = []
    for sampler, counts in _GRID.items():
        whole = () if sampler is Sampler.DPM_SOLVER else (train_steps,)
        words.append(f"{sampler}:{','.join(map(str, (*whole, *(n for n in counts if n < train_steps))))}")
    return " ".join(words)


def parse_grid(text: str) -> tuple[tuple[Sampler, int], ...]:
    """Return the samplers and steps of "ddim:50,25 dpm-solver++:20".

    Raises
    ------
    OptionError
        The text is not of this form.
    """
    found: list[tuple[Sampler, int]] = []
    for word in text.split():
        name, colon, counts = word.rpartition(":")
        if name not in list(Sampler) or not colon or not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", counts):
            raise OptionError(
                f"--grid has '{word}': write SAMPLER:STEPS,STEPS of {', '.join(Sampler)}, as in '{_EXAMPLE}'"
            )
        found += [(Sampler(name), int(count)) for count in counts.split(",")]
    if not found:
        raise OptionError(f"--grid is empty: write SAMPLER:STEPS,STEPS, as in '{_EXAMPLE}'")
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Contender:
    """A setting, and what draws with it, given its steps."""

    setting: Setting
    draw: DrawImages


@dataclass(frozen=True)
class CostStudy:
    """Measures settings, one at a time, against a base that is drawn once."""

    segmenter: Segmenter
    cases: Cases
    base: Contender
    base_images: NDArray[np.float32]
    seed: int
    batch: int

    @cached_property
    def _real(self) -> FeatureSet:
        return FeatureSet(segmenter_features(self.segmenter, self.cases.images), self.cases.patients)

    @cached_property
    def _base_dice(self) -> NDArray[np.float64]:
        return self._dice(self.base_images)

    @cached_property
    def _base_distance(self) -> Distance:
        return self._distance(self.base_images)

    def measure(
        self, contender: Contender, reference: NDArray[np.float32] | None, on_images: OnImages | None = None
    ) -> tuple[CostRow, NDArray[np.float32]]:
        """Draw every mask with a setting, and score what comes out.

        Parameters
        ----------
        contender
            The setting.
        reference
            (N, H, W, C) float32 in [0, 1]: the images of DDIM with all training steps, if they were drawn.
        on_images
            Told how many images are done.

        Returns
        -------
        tuple
            The row, and the images, (N, H, W, C) float32 in [0, 1].
        """
        clock = _InTurn(contender, self.base)
        images = draw_images(clock, self.cases, seed=self.seed, batch=self.batch, on_images=on_images)
        dice, distance = self._dice(images), self._distance(images)
        fidelity = None
        if reference is not None and contender.setting.sampler in _NO_NOISE:
            decibels = psnr(images, reference)
            fidelity = estimate_images(
                np.where(np.isinf(decibels), np.nan, decibels), self.cases.patients, seed=self.seed
            )
        row = CostRow(
            setting=contender.setting,
            dice=estimate_mean(dice, seed=self.seed),
            dice_change=estimate_change(dice, self._base_dice, seed=self.seed),
            frechet=distance.estimate(),
            frechet_change=distance.less(self._base_distance),
            psnr_db=fidelity,
            seconds_per_image=clock.seconds_per_image(),
            time_ratio=clock.ratio(),
        )
        return row, images

    def _dice(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        cases = self.cases
        return patient_dice(self.segmenter(images), cases.label_maps, cases.patients, len(cases.class_names))[1]

    def _distance(self, images: NDArray[np.float32]) -> Distance:
        drawn = FeatureSet(segmenter_features(self.segmenter, images), self.cases.patients)
        return measure_distance(drawn, self._real, seed=self.seed)


class _InTurn:
    """Draws with one setting, and for its first batches times the base on the same masks right after it."""

    def __init__(self, contender: Contender, base: Contender) -> None:
        self._contender, self._base = contender, base
        self._seconds: list[float] = []
        self._base_seconds: list[float] = []

    def __call__(self, mask: NDArray[np.uint8], /, *, seeds: Sequence[int], steps: int | None) -> NDArray[np.float32]:
        images, seconds = _timed(self._contender, mask, seeds)
        self._seconds.append(seconds)
        if len(self._base_seconds) < _ROUNDS:
            self._base_seconds.append(_timed(self._base, mask, seeds)[1])
        return images

    def seconds_per_image(self) -> float:
        return float(np.median(self._seconds))

    def ratio(self) -> float:
        return float(np.median([a / b for a, b in zip(self._seconds, self._base_seconds, strict=False)]))


def _timed(contender: Contender, mask: NDArray[np.uint8], seeds: Sequence[int]) -> tuple[NDArray[np.float32], float]:
    """Return images, and the seconds each of them took."""
    began = time.perf_counter()
    images = contender.draw(mask, seeds=seeds, steps=contender.setting.steps)
    return images, (time.perf_counter() - began) / len(mask)
