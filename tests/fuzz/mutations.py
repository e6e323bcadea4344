"""Changes to valid bytes, drawn from a seeded generator: the same inputs on every machine, without a fuzzer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_TELLING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
)
_TEXTS = (b"-1", b"1e999", b"null", b"{}", b"[]", b'""', b"18446744073709551616", b"\xed\xa0\x80", b"[" * 2000, b"()")


def mutated(seeds: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield the seeds, and then `count` inputs of one to four changes to one of them."""
    yield from seeds
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = seeds[rng.integers(len(seeds))]
        for _ in range(rng.integers(1, 5)):
            data = _CHANGES[rng.integers(len(_CHANGES))](data, seeds, rng)
        yield data


def _flipped(data: bytes, seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes(byte ^ (1 << int(rng.integers(8))) for byte in data[at : at + 1]) + data[at + 1 :]


def _overwritten(data: bytes, seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    at, new = _place(data, rng), _TELLING[rng.integers(len(_TELLING))]
    return data[:at] + new + data[at + len(new) :]


def _replaced(data: bytes, seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    at, end = sorted((_place(data, rng), _place(data, rng)))
    return data[:at] + _TEXTS[rng.integers(len(_TEXTS))] + data[min(end, at + int(rng.integers(40))) :]


def _cut(data: bytes, seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    return data[: _place(data, rng)]


def _without(data: bytes, seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + int(rng.integers(1, 64)) :]


def _repeated(data: bytes, seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at : at + int(rng.integers(1, 64))] * int(rng.integers(1, 8)) + data[at:]


def _spliced(data: bytes, seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    other = seeds[rng.integers(len(seeds))]
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def _place(data: bytes, rng: np.random.Generator) -> int:
    """Return a place, half of them in the first 400 bytes, where headers are."""
    return int(rng.integers(min(len(data), 400 if rng.integers(2) else len(data)) + 1))


_CHANGES = (_flipped, _flipped, _overwritten, _overwritten, _replaced, _cut, _without, _repeated, _spliced)
