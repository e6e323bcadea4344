"""Images that are drawn, checked, and drawn again by another seed where they are rejected.

Try 0 has the image's own seed, try t the seed `derive_seed(seed, t)`. So what is drawn depends on the image's seed
alone, never on its batch or on where a run was interrupted, and any try can be drawn again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seggd_rt.diffusion import check_seed, derive_seed
from seggd_rt.errors import OptionError
from seggd_rt.imaging import CheckResult

Draw = Callable[[Sequence[int], Sequence[int]], NDArray[np.float32]]
"""Draws images, (n, H, W[, C]), from n places in the batch and a seed for each."""
Check = Callable[[Sequence[int], NDArray[np.float32]], Sequence[CheckResult]]
"""Checks what was drawn of these places."""
Accept = Callable[[CheckResult], bool]


@dataclass(frozen=True)
class Drawn:
    """The image that was kept of a place: the first that was accepted, else the best of those that were not.

    Attributes
    ----------
    image
        (H, W[, C]) float32.
    seed
        What it was drawn from.
    number
        Which try it is, from 0.
    result
        What the check said of it.
    accepted
        Whether it is good enough.
    batch
        How many images were drawn with it at a time.
    """

    image: NDArray[np.float32]
    seed: int
    number: int
    result: CheckResult
    accepted: bool
    batch: int


def try_seed(seed: int, number: int) -> int:
    """Return the seed of an image's try: its own for try 0."""
    return check_seed(seed) if number == 0 else derive_seed(seed, number)


def draw_checked(draw: Draw, check: Check, seeds: Sequence[int], *, accept: Accept, retries: int) -> tuple[Drawn, ...]:
    """Draw a batch, and those of it that are rejected again, all of them as one batch a try.

    Parameters
    ----------
    draw, check
        What draws images of places in the batch, 0 to N - 1, and what checks them.
    seeds
        N: each image's own.
    accept
        Says of a result whether it is good enough.
    retries
        How often an image is drawn again at most.

    Returns
    -------
    tuple
        One for each seed. Of an image whose every try was rejected, that of the highest mean Dice, the first of equals.

    Raises
    ------
    OptionError
        `retries` is negative, or a seed none.
    """
    if retries < 0:
        raise OptionError(f"retries is {retries}; it must not be negative")
    best: dict[int, Drawn] = {}
    places: Sequence[int] = range(len(seeds))
    for number in range(retries + 1):
        if not places:
            break
        tried = [try_seed(seeds[place], number) for place in places]
        images = draw(places, tried)
        for place, seed, image, result in zip(places, tried, images, check(places, images), strict=True):
            drawn = Drawn(image.copy(), seed, number, result, accept(result), len(places))
            if place not in best or drawn.accepted or _mean(drawn) > _mean(best[place]):
                best[place] = drawn
        places = [place for place in places if not best[place].accepted]
    return tuple(best[place] for place in range(len(seeds)))


def _mean(drawn: Drawn) -> float:
    """Return the mean Dice; without one, less than any."""
    return -1.0 if drawn.result.mean_dice is None else drawn.result.mean_dice
