"""JSON of others, decoded strictly, so that every reader sees the same in it.

A key that stands twice in an object is refused: one reader would take its first value, another its last. So is a whole
number of more than 64 bits, which some readers round.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar, overload

import msgspec

from seggd_rt.wording import printable

Form = TypeVar("Form")


@overload
def decode(data: bytes | str) -> Any: ...
@overload
def decode(data: bytes | str, form: type[Form]) -> Form: ...
def decode(data: bytes | str, form: Any = Any) -> Any:
    """Return what JSON holds.

    Parameters
    ----------
    data
        The JSON, in UTF-8.
    form
        A type that msgspec decodes.

    Raises
    ------
    msgspec.DecodeError
        It is not JSON, is nested too deeply, has a key twice in one object or a whole number of more than 64 bits, or
        is not of this form. It is a ValueError.
    """
    check_keys(data)
    try:
        return msgspec.json.decode(data, type=form)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def schema_of(data: bytes) -> str:
    """Return the schema that a JSON object states: "" where it states none, or is no JSON object."""
    try:
        found = decode(data, dict[str, Any]).get("schema")
    except msgspec.DecodeError:
        return ""
    return found if isinstance(found, str) else ""


def check_keys(data: bytes | str) -> None:
    """Check that every object in JSON has each of its keys once, and every whole number at most 64 bits.

    Raises
    ------
    msgspec.DecodeError
        One does not; or this is not JSON, or it is nested too deeply.
    """
    try:
        _KEYS.decode(data if isinstance(data, str) else data.decode())
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def count_values(value: Any) -> int:
    """Return how many values decoded JSON has: objects, lists and what they hold; keys are none."""
    count, waiting = 0, [value]
    while waiting:
        count += 1
        inner = waiting.pop()
        if isinstance(inner, dict):
            waiting.extend(inner.values())
        elif isinstance(inner, list):
            waiting.extend(inner)
    return count


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) == len(pairs):
        return
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"an object has the key '{printable(key)}' twice")
        seen.add(key)


def _whole(digits: str) -> None:
    # Its length first: Python takes long to convert many digits.
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 64:
        raise ValueError(f"a whole number has more than 64 bits ({digits[:40]})")


# Other numbers stay texts, and objects leave nothing behind: only their keys matter, and a file may be large.
_KEYS = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_whole, parse_float=str, parse_constant=str)
