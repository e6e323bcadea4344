"""What an ONNX file is and names, read from its bytes: plain graphs, other formats, hostile ones, and any bytes."""

from __future__ import annotations

import pytest
from bundles import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from seggd_rt.errors import IntegrityError
from seggd_rt.onnx_data import external_data

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


VERSION = b"\x08\x0a"
OPSET = field(8, b"\x10\x14")
NODE = field(1, field(4, b"Neg"))
EXTERNAL = b"\x70\x01"
"""`TensorProto.data_location`."""


def tensor(location: bytes, offset: int = 0, length: int = 4) -> bytes:
    stated = [(b"offset", b"%d" % offset), (b"location", location), (b"length", b"%d" % length)]
    return b"".join(field(13, entry(key, value)) for key, value in stated) + EXTERNAL


def model(graph: bytes, more: bytes = b"") -> bytes:
    """Return a model of one node and what a graph is to have beside it."""
    return VERSION + field(7, NODE + graph) + OPSET + more


def read(data: bytes) -> dict[str, int]:
    return external_data(data, "unet.onnx")


def test_a_graph_that_is_whole() -> None:
    assert read(GRAPH) == {}
    assert read(model(b"")) == {}


@pytest.mark.parametrize(
    "graph",
    [
        field(5, tensor(b"w.bin")),  # initializer
        field(1, field(4, b"Constant") + field(5, field(5, tensor(b"w.bin")))),  # node.attribute.t
        field(1, field(4, b"Constant") + field(5, field(10, tensor(b"w.bin")))),  # node.attribute.tensors
        field(5, field(13, field(2, b"w.bin") + field(1, b"location")) + field(13, entry(b"length", b"4"))),
    ],
)
def test_every_place_of_a_tensor(graph: bytes) -> None:
    assert read(model(graph)) == {"w.bin": 4}


def test_how_much_external_data_is_needed() -> None:
    assert read(model(field(5, tensor(b"w", 8, 4)) + field(5, tensor(b"w", 16, 4)) + field(5, tensor(b"v")))) == {
        "w": 20,
        "v": 4,
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (GRAPH[:1500], "not a whole ONNX file"),
        (field(7, NODE) + OPSET, "not a whole ONNX file"),  # no version
        (VERSION + OPSET, "not a whole ONNX file"),  # no graph
        (VERSION + field(7, NODE), "not a whole ONNX file"),  # no operator set
        (VERSION + field(7, b"") + OPSET, "not a whole ONNX file"),  # no node
        (VERSION + field(7, field(1, b"")) + OPSET, "not a whole ONNX file"),  # a node without operator
        (field(1, b"\n") + field(7, NODE) + OPSET, "not a whole ONNX file"),  # a version that is a text
        (model(field(5, EXTERNAL)), "not a whole ONNX file"),  # external data that is nowhere
        (model(field(5, tensor(b"w", -1))), "not a whole ONNX file"),
        (model(field(5, tensor(b"w") + field(13, entry(b"location", b"v")))), "not a whole ONNX file"),
        (model(b"", field(7, NODE)), "field 7 of ModelProto twice"),
        (model(b"", field(20, b"")), "field 20 of ModelProto"),  # training
        (model(b"", field(25, b"")), "field 25 of ModelProto"),  # functions
        (model(b"", field(12, b"")), "field 12 of ModelProto"),
        (model(field(15, b"")), "field 15 of GraphProto"),  # sparse tensors
        (model(b"", field(8, field(1, b"com.microsoft"))), "operators of 'com.microsoft'"),
        (model(field(1, field(4, b"EPContext") + field(7, b"com.microsoft"))), "operators of 'com.microsoft'"),
        (model(field(1, field(4, b"Neg") + field(5, field(21, b"x")))), "field 21 of AttributeProto"),
        (model(field(1, field(4, b"If"))), "control flow, 'If'"),
        (model(field(1, field(4, b"Loop"))), "control flow, 'Loop'"),
        (model(field(1, field(4, b"Scan"))), "control flow, 'Scan'"),
        (model(field(1, field(4, b"SequenceMap"))), "control flow, 'SequenceMap'"),
        (model(field(1, field(4, b"Unheard") + field(5, field(6, NODE)))), "control flow"),
        (model(field(1, field(4, b"Unheard") + field(5, field(11, NODE)))), "field 11 of AttributeProto"),
    ],
)
def test_what_is_no_plain_graph(data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=rf"unet\.onnx is .*{message}.*: export it again"):
        read(data)


def test_a_graph_in_a_format_of_openvino_too() -> None:
    """XML in fields that protobuf's readers skip: OpenVINO takes it for its own format and opens the .bin beside it."""
    head = b'<?xml version="1.0"?>' + b" " * 7 + b"<!--"
    xml = b'--><net name="n" version="11"><layers/><edges/></net>'
    polyglot = b"\n" + bytes([len(head)]) + head + field(12, xml) + model(b"")
    assert polyglot[:8].split() == [b"<?xml"]
    with pytest.raises(IntegrityError):
        read(polyglot)


def test_a_tag_of_more_than_32_bits_hides_nothing() -> None:
    # ONNX Runtime and OpenVINO read such a field: their protobuf drops the bits above 32.
    hidden = field(13, entry(b"location", b"/etc/passwd"), tag_bits=1 << 32)
    with pytest.raises(IntegrityError, match="not a plain ONNX graph"):
        read(model(field(5, hidden)))


@pytest.mark.parametrize("depth", [3, 1000])
def test_nesting_is_bounded(depth: int) -> None:
    graph = field(5, tensor(b"w.bin"))
    for _ in range(depth):
        graph = field(1, field(4, b"Loop") + field(5, field(6, NODE + graph)))  # node.attribute.g
    if depth == 3:
        assert external_data(model(graph), "sampler.onnx", control_flow=True) == {"w.bin": 4}
    else:
        with pytest.raises(IntegrityError, match="nested more than 32 levels deep"):
            external_data(model(graph), "sampler.onnx", control_flow=True)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=60), st.integers(0, len(GRAPH)))
def test_any_bytes_are_refused_in_words_or_name_files(data: bytes, at: int) -> None:
    for damaged in (data, GRAPH[:at] + data + GRAPH[at:], GRAPH[:at] + data + GRAPH[at + len(data) :]):
        try:
            assert all(isinstance(location, str) for location in read(damaged))
        except IntegrityError as error:
            assert "export it again" in str(error)
