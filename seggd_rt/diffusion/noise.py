"""Counter-based normal noise: the same image for the same seed, in any batch, on any engine, in any language.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a 64-bit key and a
128-bit counter into four 32-bit words; Box-Muller turns each pair of words into two normal numbers:

    key      = the image's seed, low word first
    counter  = (element index // 4, step, stream, 0)      element index: position in the flat (C, H, W) image
    u        = (word + 1/2) / 2^32                          in (0, 1), float64
    z[0], z[1] = r cos(2 pi u1), r sin(2 pi u1)             r = sqrt(-2 ln u0), words 0 and 1
    z[2], z[3]                                              likewise, words 2 and 3

The arithmetic is float64 and rounds to float32 once, because float32 logarithms differ between languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import OptionError

_Word = TypeVar("_Word", int, NDArray[np.integer])
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_SEED_BITS = 53
"""Derived seeds stay below 2^53, which every JSON reader keeps exactly."""


class Stream(IntEnum):
    """What a draw is for: streams of one seed never share a number. A real image is noised by `START` too."""

    START = 0
    STEP = 1
    SEED = 3
    SUBSET = 4


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Return the four Philox4x32-10 words of each counter.

    Parameters
    ----------
    counter
        (N, 4) uint32.
    key
        Two 32-bit words, low word first.

    Returns
    -------
    NDArray
        (N, 4) uint32.
    """
    columns = counter.T.astype(np.uint64)
    words = _rounds(columns[0], columns[1], columns[2], columns[3], key)
    return np.stack(words, axis=1).astype(np.uint32)


def _rounds(c0: _Word, c1: _Word, c2: _Word, c3: _Word, key: tuple[int, int]) -> tuple[_Word, _Word, _Word, _Word]:
    """Return the words of one counter as integers, or of many as arrays: for one, arrays take twenty times as long."""
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & _WORD, p0 >> 32 ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def normal(seed: int, shape: Sequence[int], *, stream: Stream = Stream.START, step: int = 0) -> NDArray[np.float32]:
    """Draw the normal noise of one image.

    Parameters
    ----------
    seed
        The image's seed, in [0, 2^64).
    shape
        Shape of the image, usually (C, H, W).
    stream, step
        What the draw is for, and the index of the sampling step it belongs to.

    Returns
    -------
    NDArray
        float32 of that shape, mean 0 and variance 1.
    """
    size = int(np.prod(shape))
    counter = np.zeros(((size + 3) // 4, 4), np.uint32)
    counter[:, 0] = np.arange(len(counter), dtype=np.uint32)
    counter[:, 1] = step
    counter[:, 2] = stream
    words = philox4x32(counter, _key(seed))
    u = (words.astype(np.float64) + 0.5) * 2.0**-32
    radius = np.sqrt(-2.0 * np.log(u[:, 0::2]))
    angle = 2.0 * np.pi * u[:, 1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return pairs.reshape(-1)[:size].astype(np.float32).reshape(shape)


def derive_seed(run_seed: int, index: int, copy: int = 0) -> int:
    """Return the seed of copy `copy` of the mask at `index` of a run's sorted list, in [0, 2^53)."""
    low, high, _, _ = _rounds(int(index), int(copy), int(Stream.SEED), 0, _key(run_seed))
    return (high << 32 | low) & ((1 << _SEED_BITS) - 1)


def draw_subset(seed: int, size: int) -> tuple[int, ...]:
    """Draw one of the 2^size - 1 non-empty subsets of 1, ..., size with equal probability, as mask ablation does.

    Parameters
    ----------
    seed
        The image's seed.
    size
        At most 31.
    """
    word, _, _, _ = _rounds(0, 0, int(Stream.SUBSET), 0, _key(seed))
    chosen = 1 + (word * ((1 << size) - 1) >> 32)
    return tuple(i + 1 for i in range(size) if chosen >> i & 1)


def check_seed(seed: int) -> int:
    """Return `seed` as an int.

    Raises
    ------
    OptionError
        It is not a whole number in [0, 2^64).
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 64:
        raise OptionError(f"seed is {seed!r}; it must be a whole number in [0, 2^64)")
    return int(seed)


def _key(seed: int) -> tuple[int, int]:
    seed = check_seed(seed)
    return seed & _WORD, seed >> 32
