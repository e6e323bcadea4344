"""External data that an ONNX file names, found in its bytes: whole files, hostile ones, and any bytes at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from bundles import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from seggd_rt.errors import IntegrityError
from seggd_rt.onnx_data import external_locations

GRAPH = (TINY / "unet.fp32.onnx").read_bytes()


def varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def field(number: int, content: bytes, tag_bits: int = 0) -> bytes:
    """Return a length-delimited field; `tag_bits` are set in its tag above the number."""
    return varint(number << 3 | 2 | tag_bits) + varint(len(content)) + content


def entry(key: bytes, value: bytes) -> bytes:
    return field(1, key) + field(2, value)


def tensor(location: bytes) -> bytes:
    return field(13, entry(b"offset", b"0")) + field(13, entry(b"location", location))


def locations(data: bytes) -> frozenset[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(data)
        return external_locations(path)


def test_a_graph_that_is_whole() -> None:
    assert locations(GRAPH) == frozenset()


@pytest.mark.parametrize(
    "place",
    [
        field(7, field(5, tensor(b"w.bin"))),  # graph.initializer
        field(7, field(15, field(1, tensor(b"w.bin")))),  # graph.sparse_initializer.values
        field(7, field(1, field(5, field(5, tensor(b"w.bin"))))),  # graph.node.attribute.t
        field(7, field(1, field(5, field(6, field(5, tensor(b"w.bin")))))),  # graph.node.attribute.g.initializer
        field(25, field(7, field(5, field(10, tensor(b"w.bin"))))),  # functions.node.attribute.tensors
        field(20, field(1, field(5, tensor(b"w.bin")))),  # training_info.initialization.initializer
        field(7, field(5, field(13, field(2, b"w.bin") + field(1, b"location")))),  # the value before the key
    ],
)
def test_every_place_of_a_tensor(place: bytes) -> None:
    assert locations(GRAPH + place) == {"w.bin"}


def test_a_tag_of_more_than_32_bits_hides_nothing() -> None:
    # ONNX Runtime and OpenVINO read such a field: their protobuf drops the bits above 32.
    hidden = field(13, entry(b"location", b"/etc/passwd"), tag_bits=1 << 32)
    with pytest.raises(IntegrityError, match="not a whole ONNX file"):
        locations(GRAPH + field(7, field(5, hidden)))


@pytest.mark.parametrize("depth", [10, 1000])
def test_nesting_is_bounded(depth: int) -> None:
    graph = field(5, tensor(b"w.bin"))
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))  # node.attribute.g
    if depth == 10:
        assert locations(field(7, graph)) == {"w.bin"}
    else:
        with pytest.raises(IntegrityError, match="not a whole ONNX file"):
            locations(field(7, graph))


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=60), st.integers(0, len(GRAPH)))
def test_any_bytes_are_refused_in_words_or_name_files(data: bytes, at: int) -> None:
    for damaged in (data, GRAPH[:at] + data + GRAPH[at:], GRAPH[:at] + data + GRAPH[at + len(data) :]):
        try:
            assert all(isinstance(location, str) for location in locations(damaged))
        except IntegrityError as error:
            assert "export the bundle again" in str(error)
