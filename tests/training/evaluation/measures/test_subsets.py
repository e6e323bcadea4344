"""Dice by size of subset, with stand-ins whose answers are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("monai", reason="monai is not installed: pip install 'seggd-rt[eval]'")

from seggd_rt.diffusion import derive_seed
from seggd_training.evaluation.measures import Cases, measure_ablation

NAMES = ("background", "a", "b", "c")


def make_cases(count: int = 30) -> Cases:
    label_maps = np.zeros((count, 8, 8), np.uint8)
    label_maps[:, :4, :4], label_maps[:, 4:, :4], label_maps[:, :4, 4:] = 1, 2, 3
    return Cases(
        indices=np.arange(count),
        label_maps=label_maps,
        images=np.zeros((count, 8, 8, 1), np.float32),
        patients=np.arange(count) // 5,
        titles=tuple(map(str, range(count))),
        class_names=NAMES,
    )


class Painter:
    """Paints the classes it is given, and guesses the others where it was told to."""

    def __init__(self, *, guesses: bool) -> None:
        self.guesses = guesses
        self.calls: list[tuple[tuple[int, ...], tuple[tuple[str, ...], ...]]] = []

    def __call__(
        self,
        mask: NDArray[np.uint8],
        /,
        *,
        seeds: Sequence[int],
        keep_each: Sequence[Iterable[str]],
        steps: int | None,
    ) -> NDArray[np.float32]:
        kept = tuple(tuple(names) for names in keep_each)
        self.calls.append((tuple(seeds), kept))
        if self.guesses:
            return mask / np.float32(10)
        ids = [[NAMES.index(name) for name in names] for names in kept]
        shown = [np.where(np.isin(labels, some), labels, 0) for labels, some in zip(mask, ids, strict=True)]
        return np.stack(shown) / np.float32(10)


def read(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(images[..., 0] * 10).astype(np.uint8)


@pytest.mark.parametrize("guesses", [False, True])
def test_given_classes_and_the_others_are_told_apart(guesses: bool) -> None:
    done: list[int] = []
    scores = measure_ablation(Painter(guesses=guesses), read, make_cases(), seed=0, batch=7, on_images=done.append)
    assert [row.size for row in scores] == [1, 2, 3]
    assert all(row.given and row.given.mean == 1 for row in scores)
    assert [row.others and row.others.mean for row in scores] == [float(guesses), float(guesses), None]
    assert (done[-1], done == sorted(done)) == (90, True)


def test_subsets_are_of_each_size_and_seeds_the_masks_own() -> None:
    painter = Painter(guesses=True)
    measure_ablation(painter, read, make_cases(), seed=3, batch=30)
    for size, (seeds, kept) in enumerate(painter.calls, start=1):
        assert seeds == tuple(derive_seed(3, index) for index in range(30))
        assert {len(names) for names in kept} == {size}
        assert len(set(kept)) == (3, 3, 1)[size - 1]
    again = Painter(guesses=True)
    measure_ablation(again, read, make_cases(), seed=3, batch=30)
    assert again.calls == painter.calls


def test_masks_that_show_none_of_the_classes_given_are_counted() -> None:
    cases = make_cases(30)
    cases.label_maps[:10] = 0
    cases.label_maps[10:][cases.label_maps[10:] == 3] = 0
    rows = measure_ablation(Painter(guesses=False), read, cases, seed=0)
    painter = Painter(guesses=False)
    measure_ablation(painter, read, cases, seed=0, batch=30)
    alone = painter.calls[0][1]  # one class each
    assert [row.empty for row in rows] == [10 + sum(names == ("c",) for names in alone[10:]), 10, 10]
