"""The policy of tries: which seeds are drawn, in which batches, and what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import derive_seed
from seggd_rt.errors import OptionError
from seggd_rt.runs import OutputCheck
from seggd_rt.runs.output_check import CheckResult
from seggd_rt.runs.retry import Drawn, draw_checked, try_seed
from tests.bundles import TINY_CHECKED


@dataclass
class Scripted:
    """Draws an image that tells its seed, and gives each place the Dice of a list, try after try."""

    dices: Sequence[Sequence[float | None]]
    calls: list[tuple[list[int], list[int]]] = field(default_factory=list)

    def draw(self, places: Sequence[int], seeds: Sequence[int]) -> NDArray[np.float32]:
        self.calls.append((list(places), list(seeds)))
        return np.array(seeds, np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)

    def check(self, places: Sequence[int], images: NDArray[np.float32]) -> list[CheckResult]:
        number = len(self.calls) - 1
        found = [self.dices[place][number] for place in places]
        return [CheckResult(dice={}, mean_dice=dice, outside=()) for dice in found]

    def run(self, retries: int, seeds: Sequence[int] = (5, 6, 7)) -> tuple[Drawn, ...]:
        return draw_checked(self.draw, self.check, seeds, accept=lambda result: result.reaches(0.8), retries=retries)


def test_the_rejected_are_drawn_again_as_one_batch() -> None:
    scripted = Scripted([[0.9], [0.1, 0.2, 0.8], [0.5, 0.85]])
    first, second, third = scripted.run(4)
    assert scripted.calls == [
        ([0, 1, 2], [5, 6, 7]),
        ([1, 2], [derive_seed(6, 1), derive_seed(7, 1)]),
        ([1], [derive_seed(6, 2)]),
    ]
    assert [(drawn.number, drawn.seed, drawn.accepted) for drawn in (first, second, third)] == [
        (0, 5, True),
        (2, derive_seed(6, 2), True),
        (1, derive_seed(7, 1), True),
    ]
    assert second.image[0, 0] == np.float32(derive_seed(6, 2)) and second.result.mean_dice == 0.8


def test_of_a_rejected_image_the_best_try_is_kept() -> None:
    drawn = Scripted([[0.3, 0.7, 0.7, 0.2], [0.6, 0.1, 0.0, 0.5]]).run(3, (5, 6))
    assert [(d.number, d.result.mean_dice, d.accepted) for d in drawn] == [(1, 0.7, False), (0, 0.6, False)]
    assert [d.seed for d in drawn] == [derive_seed(5, 1), 6]


def test_without_retries_nothing_is_drawn_again() -> None:
    scripted = Scripted([[0.3], [0.9], [None]])
    assert [drawn.accepted for drawn in scripted.run(0)] == [False, True, True]
    assert len(scripted.calls) == 1


def test_what_cannot_be_judged_is_not_drawn_again() -> None:
    scripted = Scripted([[None], [None], [None]])
    assert all(drawn.accepted and drawn.number == 0 for drawn in scripted.run(5))
    assert len(scripted.calls) == 1


def test_an_empty_batch_draws_nothing() -> None:
    scripted = Scripted([])
    assert scripted.run(2, ()) == () and scripted.calls == []


def test_seeds_of_tries() -> None:
    seeds = [try_seed(7, number) for number in range(6)]
    assert seeds[0] == 7 and len(set(seeds)) == 6 and all(0 <= seed < 1 << 53 for seed in seeds)
    assert seeds != [try_seed(8, number) for number in range(6)]


@pytest.mark.parametrize("change", [{"retries": -1}, {"seeds": (-1,)}])
def test_what_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        Scripted([[0.1] * 3] * 3).run(**{"retries": 1, **change})  # type: ignore[arg-type]


def test_a_run_depends_on_each_images_seed_alone(needs_onnxruntime: None, golden_mask: NDArray[np.uint8]) -> None:
    """The same images are kept, tried in one batch or one by one."""
    check = OutputCheck.open(Bundle.open(TINY_CHECKED), threads=1)
    seeds = [1, 2, 3, 4, 5, 6]
    with seggd_rt.load(TINY_CHECKED, engine="onnxruntime", precision="fp32", threads=1) as generator:

        def run(seeds: Sequence[int]) -> tuple[Drawn, ...]:
            return draw_checked(
                lambda places, tried: generator(np.stack([golden_mask] * len(places)), seeds=tried, steps=4),
                lambda places, images: check(images, np.stack([golden_mask] * len(places))),
                seeds,
                accept=lambda result: result.reaches(0.8),
                retries=3,
            )

        together, alone = run(seeds), [run([seed])[0] for seed in seeds]
    assert {drawn.number for drawn in together} > {0}, "some had to be drawn again"
    for one, other in zip(together, alone, strict=True):
        assert (one.seed, one.number, one.accepted) == (other.seed, other.number, other.accepted)
        np.testing.assert_allclose(one.image, other.image, atol=1e-4)
