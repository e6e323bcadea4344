"""Numbers, lists and texts of files in messages."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence

_SHOWN = 3


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: "1 image", "2 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def either(count: int, one: str, many: str) -> str:
    """Return the word that agrees with a number: "is" or "are"."""
    return one if count == 1 else many


def printable(text: str) -> str:
    r"""Escape what would steer a terminal, turn the order of words or end a line.

    Control characters of C0 and C1, line ends, surrogates and invisible format characters, such as bidirectional marks,
    become JSON's escapes, such as \u001b: a JSON text keeps its values.
    """
    return text if text.isprintable() else "".join(c if _is_shown(c) else escaped(c) for c in text)


def escaped(character: str) -> str:
    """Return the escape that JSON has for a character outside printable ASCII."""
    return json.dumps(character)[1:-1]


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"  # spaces, such as the ideographic one


def some_of(names: Sequence[str], total: int | None = None) -> str:
    """Return the first few names, and dots where there are more; `total` counts those not given."""
    total = len(names) if total is None else total
    return ", ".join(names[:_SHOWN]) + (", ..." if total > _SHOWN else "")
