"""Numbers and lists in messages."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 3


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: "1 image", "2 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def either(count: int, one: str, many: str) -> str:
    """Return the word that agrees with a number: "is" or "are"."""
    return one if count == 1 else many


def printable(text: str) -> str:
    """Return text of others for a terminal: what would steer it, or turn the order of words, is replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def some_of(names: Sequence[str], total: int | None = None) -> str:
    """Return the first few names, and dots where there are more; `total` counts those not given."""
    total = len(names) if total is None else total
    return ", ".join(names[:_SHOWN]) + (", ..." if total > _SHOWN else "")
