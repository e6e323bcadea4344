"""How images are drawn: sampler, steps, which classes stay, and guidance; checked against what a bundle states."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Manifest
from seggd_rt.diffusion import (
    Column,
    RowTable,
    Sampler,
    Spacing,
    ablate,
    encode_table,
    sampler_rows,
    select_classes,
    usual_steps,
)
from seggd_rt.errors import OptionError
from seggd_rt.inference.request import is_whole

_Kind = TypeVar("_Kind", bound=StrEnum)


class AblationWarning(UserWarning):
    """Classes are left out of masks for a network that was trained without that."""


_OUTSIDE = 4
"""Frames from a warning here to the caller of a generator."""


class HowToDraw(TypedDict, total=False):
    """The settings that every way of drawing takes; each may be left out, or None.

    Attributes
    ----------
    sampler
        "ddim", "ddpm", "dpm-solver++" or "dpm-solver++-sde"; the bundle's default.
    steps
        In [1, the model's training steps]; the bundle's default with its default sampler, with another what
        `samplers.USUAL_STEPS` says.
    eta
        In [0, 1], of DDIM: how much noise each step adds; 0.
    spacing
        "leading", "trailing" or "linspace"; the schedule's own.
    keep, drop
        Names of the classes to keep, or to leave out of the mask; a string is one name.
    guidance
        How far to go on from the prediction without the classes `against` to that with them: 0 is off and costs
        nothing; anything else evaluates the network twice a step.
    against
        Names of the classes to guide away from their absence; all of them, which needs a bundle that was trained with
        the empty mask, if left out.
    """

    sampler: str | None
    steps: int | None
    eta: float
    spacing: str | None
    keep: Iterable[str] | None
    drop: Iterable[str] | None
    guidance: float
    against: Iterable[str] | None


@dataclass(frozen=True)
class Drawing:
    """Settings, resolved for a bundle.

    Attributes
    ----------
    table
        The sampler's rows; those that guide do so already.
    kept
        Ids of the classes that stay.
    encode_tables
        (lanes, labels, mask_channels) float32: of the mask, and with guidance of the mask to guide away from.
    """

    sampler: Sampler
    table: RowTable
    kept: tuple[int, ...]
    encode_tables: NDArray[np.float32]

    @classmethod
    def resolve(cls, manifest: Manifest, how: HowToDraw) -> Drawing:
        """Check settings and fill in what is left out.

        Raises
        ------
        OptionError
            One is unknown or outside its range.
        """
        unknown = sorted(set(how) - set(HowToDraw.__annotations__))
        if unknown:
            raise OptionError(f"there is no setting '{unknown[0]}': there are {', '.join(HowToDraw.__annotations__)}")
        named = how.get("sampler")
        sampler = manifest.defaults.sampler if named is None else _named(named, Sampler, "sampler")
        steps = how.get("steps")
        if steps is None:
            own = sampler is manifest.defaults.sampler
            steps = manifest.defaults.steps if own else usual_steps(sampler, manifest.schedule)
        if not is_whole(steps):
            raise OptionError(f"steps is {steps!r}; it must be a whole number")
        spacing = how.get("spacing")
        table = sampler_rows(
            sampler,
            manifest.schedule,
            int(steps),
            eta=_number(how.get("eta"), "eta"),
            spacing=None if spacing is None else _named(spacing, Spacing, "spacing"),
        )
        kept = select_classes(manifest.classes, keep=how.get("keep"), drop=how.get("drop"))
        if len(kept) < len(manifest.classes) - 1 and manifest.mask.trained_with_ablation is False:
            message = "this network was trained on whole masks: what it draws where classes are left out is a guess"
            warnings.warn(message, AblationWarning, stacklevel=_OUTSIDE)
        full = encode_table(manifest.mask.encoding, len(manifest.classes))
        drawing = cls(sampler, table, kept, ablate(full, kept)[None])
        guidance = _number(how.get("guidance"), "guidance")
        if not np.isfinite(guidance):
            raise OptionError(f"guidance is {guidance}; it must be finite, and 0 for none")
        against = how.get("against")
        if guidance:
            return drawing._guided(manifest, guidance, against)
        if against is not None:
            raise OptionError("against names classes to guide with, and guidance is 0: give it too")
        return drawing

    def _guided(self, manifest: Manifest, guidance: float, against: Iterable[str] | None) -> Drawing:
        if manifest.mask.trained_with_ablation is False:
            raise OptionError(
                "guidance compares masks with and without classes, and this model never saw one without: train it with "
                "--ablation"
            )
        if against is None:
            if not manifest.mask.trained_with_empty_mask:
                raise OptionError(
                    "guidance against the empty mask needs a model that was trained with it (train --empty-subset); "
                    "this one was not: name classes with against"
                )
            without: tuple[int, ...] = ()
        else:
            named = select_classes(manifest.classes, keep=against)
            without = tuple(kept for kept in self.kept if kept not in named)
            if without == self.kept:
                raise OptionError("against names only classes that are left out of the mask already")
            if not without and not manifest.mask.trained_with_empty_mask:
                raise OptionError(
                    "against names every class of the mask, and this model was not trained with the empty mask: "
                    "name fewer"
                )
        rows = self.table.rows.copy()
        rows[:, Column.G] = guidance
        tables = np.concatenate([self.encode_tables, ablate(self.encode_tables[0], without)[None]])
        return replace(self, table=RowTable(self.table.timesteps, rows), encode_tables=tables)

    def of(self, count: int) -> NDArray[np.float32]:
        """Return the encode tables of a batch, (lanes, count, labels, mask_channels)."""
        lanes, *table = self.encode_tables.shape
        return np.broadcast_to(self.encode_tables[:, None], (lanes, count, *table))


def _number(value: object, what: str) -> float:
    """Return a number, 0 for None, or raise OptionError."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise OptionError(f"{what} is invalid ({value!r}): give a number")
    return float(value)


def _named(name: str, kinds: type[_Kind], what: str) -> _Kind:
    """Return the member of a name, or raise OptionError that suggests the nearest."""
    if name not in list(kinds):
        near = difflib.get_close_matches(name, list(kinds), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(kinds)}"
        raise OptionError(f"there is no {what} '{name}': {hint}")
    return kinds(name)
