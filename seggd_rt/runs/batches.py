"""A plan's images, drawn in batches across label maps, and checked where that is asked for.

Label maps are read while the network draws others, and do not get far ahead.
"""

from __future__ import annotations

import warnings
from collections import abc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seggd_rt.diffusion import OneHotWarning
from seggd_rt.engine import OnStep, Step
from seggd_rt.errors import OptionError
from seggd_rt.imaging import CheckResult, read_real
from seggd_rt.inference import AblationWarning, EmptyMaskWarning, Generator, HowToDraw
from seggd_rt.runs.output_check import OutputCheck
from seggd_rt.runs.plan import Item, Plan
from seggd_rt.runs.retry import draw_checked


@dataclass(frozen=True)
class Progress:
    """How far a run is: images drawn of all to draw, and the step that the batch in work has finished."""

    done: int
    total: int
    batch: int
    step: Step


OnProgress = Callable[[Progress], None]
Maps = NDArray[np.uint8]
Starts = NDArray[np.floating] | None
Images = NDArray[np.float32]
Draw = Callable[[Sequence[Item], Maps, Starts, OnStep | None], Images]
"""Draws a batch: its items, label maps, (N, H, W), and given noise, (N, C, H, W); told what to call after a step."""
_Batch = tuple[Sequence[Item], Maps, Starts]


@dataclass(frozen=True)
class Checking:
    """How images are checked.

    Attributes
    ----------
    check
        The bundle's segmenter.
    min_dice
        The mean Dice, in [0, 1], from which an image is kept; of a volume's slices the mean of theirs.
    retries
        How often an image that misses it is drawn again, from another seed, at most.
    """

    check: OutputCheck
    min_dice: float = 0.0
    retries: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.min_dice <= 1:
            raise OptionError(f"min_dice is {self.min_dice}; it must lie in [0, 1]")
        if self.retries < 0:
            raise OptionError(f"retries is {self.retries}; it must not be negative")


@dataclass(frozen=True)
class Made:
    """An image, (H, W[, C]) float32 in [0, 1], with its label map, its seed and the size of its batch."""

    item: Item
    label_map: NDArray[np.uint8]
    image: NDArray[np.float32]
    seed: int
    batch: int
    result: CheckResult | None = None


def settings_of(plan: Plan) -> HowToDraw:
    """Return what every image of a plan is drawn with, but for its classes."""
    settings = plan.settings
    return HowToDraw(
        sampler=settings.sampler,
        steps=settings.steps,
        eta=settings.eta,
        spacing=settings.spacing,
        guidance=settings.guidance,
        against=settings.against,
    )


class Drawer:
    """Draws images of a plan, batch after batch."""

    def __init__(
        self,
        plan: Plan,
        generator: Generator,
        batch: int,
        on_progress: OnProgress | None,
        draw: Draw | None,
        checking: Checking | None,
    ) -> None:
        self._plan, self._batch, self._on_progress, self._checking = plan, batch, on_progress, checking
        self._draw = draw or _by_generator(plan, generator)
        # A GPU draws a batch in one launch, unless it has to stop after every step to tell of it.
        self._stepwise = generator.engine.device == "cpu"

    def __call__(self, wanted: Sequence[Item]) -> abc.Generator[Made]:
        """Yield the images of these items, in their order."""
        done = 0
        last = Step(self._plan.settings.steps - 1, self._plan.settings.steps, 0)
        for items, label_maps, starts in _loaded(self._plan, wanted, self._batch):
            reporter = _reporter(self._on_progress, done, len(wanted), len(items))
            with warnings.catch_warnings():
                for said in (EmptyMaskWarning, OneHotWarning, AblationWarning):  # by the plan, once for all images
                    warnings.simplefilter("ignore", said)
                made = self._made(items, label_maps, starts, reporter if self._stepwise else None)
            if reporter is not None and not self._stepwise:
                reporter(last)
            yield from made
            done += len(items)

    def _made(self, items: Sequence[Item], label_maps: Maps, starts: Starts, on_step: OnStep | None) -> list[Made]:
        """Draw a batch, and with a check those of it again that are rejected."""
        checking = self._checking
        if checking is None:
            images = self._draw(items, label_maps, starts, on_step)
            return [Made(*each, each[0].seed, len(items)) for each in zip(items, label_maps, images, strict=True)]

        def again(places: Sequence[int], seeds: Sequence[int]) -> Images:
            tried = [replace(items[place], seed=seed) for place, seed in zip(places, seeds, strict=True)]
            return self._draw(
                tried, label_maps[list(places)], None if starts is None else starts[list(places)], on_step
            )

        def check(places: Sequence[int], images: Images) -> Sequence[CheckResult]:
            return checking.check(images, label_maps[list(places)], [items[place].classes for place in places])

        drawn = draw_checked(
            again,
            check,
            [item.seed for item in items],
            accept=lambda result: result.reaches(checking.min_dice),
            retries=checking.retries,
        )
        return [
            Made(item, label_map, each.image, each.seed, each.batch, each.result)
            for item, label_map, each in zip(items, label_maps, drawn, strict=True)
        ]


def _by_generator(plan: Plan, generator: Generator) -> Draw:
    """Return what draws a batch by the generator: from noise, or from the plan's real image."""
    settings, how = plan.settings, settings_of(plan)
    real = None if settings.real is None else read_real(settings.real, plan.bundle.manifest, plan.reading)

    def draw(items: Sequence[Item], label_maps: Maps, starts: Starts, on_step: OnStep | None) -> Images:
        each, seeds = [item.classes for item in items], [item.seed for item in items]
        if real is None or settings.at is None:  # the plan has both or neither
            return generator(label_maps, seeds=seeds, noise=starts, on_step=on_step, keep_each=each, **how)
        return generator.translate(
            real, label_maps, at=settings.at, seeds=seeds, on_step=on_step, keep_each=each, **how
        )

    return draw


def _loaded(plan: Plan, wanted: Sequence[Item], batch: int) -> Iterator[_Batch]:
    """Yield batches of items with their label maps and given starts; the next is read while one is drawn."""

    def load(start: int) -> _Batch:
        items = wanted[start : start + batch]
        starts = [given for given in map(plan.start, items) if given is not None]
        return items, np.stack([plan.label_map(item) for item in items]), np.stack(starts) if starts else None

    with ThreadPoolExecutor(1, "seggd-read") as reader:
        following: Future[_Batch] | None = None
        for start in range(0, len(wanted), batch):
            loaded = load(start) if following is None else following.result()
            following = reader.submit(load, start + batch) if start + batch < len(wanted) else None
            yield loaded


def _reporter(on_progress: OnProgress | None, done: int, total: int, batch: int) -> OnStep | None:
    """Return what reports a batch's steps; None where nobody listens, so that an engine may run them as one."""
    if on_progress is None:
        return None
    return lambda step: on_progress(Progress(done, total, batch, step))
