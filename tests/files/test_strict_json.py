"""JSON of others: each key of an object once, in every file that is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seggd_rt.bundle import MANIFEST, Bundle
from seggd_rt.bundle.signing import parse_signature
from seggd_rt.errors import SeggdError
from seggd_rt.files import check_keys, decode
from seggd_rt.imaging import dump, parse
from seggd_rt.reports.evaluation_report import read_evaluation
from seggd_rt.runs.records import ManifestFile
from tests.bundles import TINY, copy_bundle
from tests.making import MADE
from tests.paths import EXAMPLES


class Point(msgspec.Struct):
    x: int
    y: dict[str, Any] = {}


def test_json_of_a_form_and_of_any() -> None:
    text = '{"x": 1, "y": {"x": [1.5, null, {"x": "\\u00e9"}]}}'
    assert decode(text) == decode(text.encode()) == {"x": 1, "y": {"x": [1.5, None, {"x": "é"}]}}
    assert decode(text, Point) == Point(1, {"x": [1.5, None, {"x": "é"}]})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"x": 1, "x": 1}', "x"),
        ('{"x": 1, "\\u0078": 2}', "x"),
        ('{"x": 1, "y": {"a": [{"é": 1, "b": 1, "é": 2}]}}', "é"),
        ('{"x": 1, "none": {"a": 0, "a": 0}}', "a"),
        ('[[], {"\\u001b": 1, "\\u001b": 1}]', r"\u001b"),
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str, key: str) -> None:
    for read in (check_keys, decode, lambda data: decode(data, Point)):
        for data in (text, text.encode()):
            with pytest.raises(msgspec.DecodeError, match=re.escape(f"an object has the key '{key}' twice")):
                read(data)


@pytest.mark.parametrize("digits", ["18446744073709551616", "-9223372036854775809", "9" * 10_000])
def test_a_whole_number_has_64_bits(digits: str) -> None:
    """As `Json.AWholeNumberHas64Bits` of the C++ SDK."""
    for text in (digits, f'{{"x": [{digits}]}}'):
        with pytest.raises(
            msgspec.DecodeError, match=re.escape(f"a whole number has more than 64 bits ({digits[:40]})")
        ):
            decode(text)
    assert decode("[18446744073709551615, -9223372036854775808]") == [(1 << 64) - 1, -(1 << 63)]
    assert decode("[1e30, 18446744073709551616.0]") == [1e30, float(1 << 64)]


NOT_JSON = (b"", b"{", b"\xff", b'{"x": NaN}', b'{"x": "1"}', b"[" * 100_000, b'{"\xed\xa0\x80": 1}', b"1" * 10_000)


@pytest.mark.parametrize("data", NOT_JSON)
def test_what_is_not_json_of_the_form(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(data, Point)


def twice(data: bytes) -> bytes:
    """Return JSON of an object with its first key again at its end, of another value."""
    first = next(iter(json.loads(data)))
    return data.rstrip()[:-1] + f', "{first}": 0}}'.encode()


def _bundle(folder: Path) -> None:
    path = copy_bundle(TINY, folder) / MANIFEST
    path.write_bytes(twice(path.read_bytes()))
    Bundle.open(path.parent)


def _record(folder: Path) -> None:
    parse(twice(dump([MADE])), "a.png")


def _signature(folder: Path) -> None:
    parse_signature(b'{"schema": "seggd-signature/1", "schema": "seggd-signature/1"}')


def _report(folder: Path) -> None:
    shipped = EXAMPLES / "cardiac" / "evaluation" / "report.json"
    (folder / "report.json").write_bytes(twice(shipped.read_bytes()))
    read_evaluation(folder / "report.json")


def _line(folder: Path) -> None:
    (folder / "manifest.jsonl").write_bytes(b'{"file": "a.png", "file": "b.png"}\n')
    ManifestFile(folder).records()


@pytest.mark.parametrize("read", [_bundle, _record, _signature, _report, _line])
def test_every_reader_refuses_it(tmp_path: Path, read: Callable[[Path], None]) -> None:
    with pytest.raises(SeggdError, match=r"an object has the key '[a-z_]+' twice"):
        read(tmp_path)
