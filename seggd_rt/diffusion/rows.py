"""The update row: every sampler is a table of these, and every engine executes them.

One row turns `x`, the network's output `o`, the last `x0` and a normal draw `z` into the next `x`:

    o  = o_full + g * (o_full - o_ablated)          guidance: two network lanes an image; absent when g = 0
    x0 = clip(kx * x + ko * o, -clip, clip)
    x  = cx * x + co * o + c0 * x0 + cp * x0_last + sigma * z
    x  = (1 - m) * x + m * (a * real + b * z')      m = the row's weight times an optional pixel map

Rows are computed in float64 and stored in float32. `advance` is the reference that the CUDA kernel and the C++
code agree with: float32, summed from left to right, no fused multiply-add.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Column(IntEnum):
    """Where each coefficient stands in a row."""

    KX = 0
    KO = 1
    CLIP = 2
    """Bound of |x0|; infinite where the schedule does not clip."""
    CX = 3
    CO = 4
    C0 = 5
    CP = 6
    SIGMA = 7
    G = 8
    M = 9
    A = 10
    B = 11


@dataclass(frozen=True)
class RowTable:
    """What a whole sampling run does, step by step.

    Attributes
    ----------
    timesteps
        (steps,) int64: the training timestep the network is given at each step.
    rows
        (steps, len(Column)) float32: the update after it; (N, steps, len(Column)) where a batch's images differ.
    """

    timesteps: NDArray[np.int64]
    rows: Array

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.timesteps)

    @property
    def draws_noise(self) -> bool:
        """Whether any step adds noise."""
        return bool(self.rows[..., Column.SIGMA].any())

    @property
    def guides(self) -> bool:
        """Whether any step guides, and so needs two network lanes."""
        return bool(self.rows[..., Column.G].any())

    @property
    def blends(self) -> bool:
        """Whether any step mixes in a real image."""
        return bool(self.rows[..., Column.M].any())


def empty_rows(steps: int) -> NDArray[np.float64]:
    """Return (steps, len(Column)) float64 rows that only lack their sampler: no clip, every coefficient 0."""
    rows = np.zeros((steps, len(Column)))
    rows[:, Column.CLIP] = np.inf
    return rows


@dataclass(frozen=True)
class Blend:
    """What a row's blend term mixes in.

    Attributes
    ----------
    real
        (..., C, H, W) float32 in [-1, 1]: the real image.
    noise
        Same shape: the normal draw z' that noises it.
    pixel_map
        (..., 1, H, W) float32 in [0, 1]: the weight's factor in each pixel, or None for 1.
    """

    real: Array
    noise: Array
    pixel_map: Array | None = None

    def __getitem__(self, images: slice) -> Blend:
        """Return that of some of a batch's images."""
        return Blend(self.real[images], self.noise[images], None if self.pixel_map is None else self.pixel_map[images])


def guide(o_full: Array, o_ablated: Array, row: Array) -> Array:
    """Return the guided output of a full and an ablated network lane, all of one shape."""
    guided: Array = o_full + row[Column.G] * (o_full - o_ablated)
    return guided


def advance(
    x: Array,
    o: Array,
    x0: Array,
    row: Array,
    *,
    z: Array | None = None,
    blend: Blend | None = None,
    scratch: Array | None = None,
) -> None:
    """Do one update in place.

    Parameters
    ----------
    x
        (..., C, H, W) float32, overwritten by the next x.
    o
        Same shape: the network's output.
    x0
        Same shape: the last estimate of x0, overwritten by this step's.
    row
        (len(Column),) float32.
    z
        Same shape as x: needed where the row's sigma is not 0.
    blend
        Needed where the row's m is not 0.
    scratch
        Same shape as x: overwritten. With one, nothing is allocated; between two network calls, with caches cold, that
        halves the time.
    """
    kx, ko, clip, cx, co, c0, cp, sigma, _, m, _, _ = row.tolist()
    term = np.empty_like(x) if scratch is None else scratch
    estimate = np.empty_like(x0) if cp else x0

    np.multiply(x, kx, out=estimate)
    estimate += np.multiply(o, ko, out=term)
    if clip < np.inf:
        estimate.clip(-clip, clip, out=estimate)

    x *= cx
    x += np.multiply(o, co, out=term)
    x += np.multiply(estimate, c0, out=term)
    if cp:
        x += np.multiply(x0, cp, out=term)
        x0[...] = estimate
    if sigma:
        if z is None:
            raise ValueError("the row adds noise: z is needed")
        x += np.multiply(z, sigma, out=term)
    if m:
        if blend is None:
            raise ValueError("the row blends: a Blend is needed")
        mix(x, row, blend)


def mix(x: Array, row: Array, blend: Blend) -> None:
    """Mix a noised real image into x, (..., C, H, W), in place: the blend of a row alone."""
    m, a, b = row[Column.M], row[Column.A], row[Column.B]
    weight = m if blend.pixel_map is None else m * blend.pixel_map
    noised = a * blend.real + b * blend.noise
    x *= np.float32(1) - weight
    x += weight * noised
