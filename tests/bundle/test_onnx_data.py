"""What an ONNX file is and names, read from its bytes: plain graphs, other formats, hostile ones, and any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seggd_rt.bundle.onnx_data import external_data
from seggd_rt.errors import IntegrityError
from tests.bundles import TINY

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
NO_NUMBERS = [b"", b"-1", b"+0", b" 0", b"1_0", "\u0660".encode(), b"0x10", b"0.5", b"1" * 20]
EXTERNAL = b"\x70\x01"
"""`TensorProto.data_location`."""


def tensor(location: bytes, offset: bytes = b"0", length: bytes = b"4", name: bytes = b"w") -> bytes:
    stated = [(b"offset", offset), (b"location", location), (b"length", length)]
    return field(8, name) + b"".join(field(13, entry(key, value)) for key, value in stated) + EXTERNAL


def node(operator: bytes, inputs: list[bytes], outputs: list[bytes], more: bytes = b"") -> bytes:
    """Return a field of a graph: a node."""
    names = [*(field(1, name) for name in inputs), *(field(2, name) for name in outputs)]
    return field(1, b"".join(names) + field(4, operator) + more)


def values(inputs: list[bytes], outputs: list[bytes]) -> bytes:
    """Return fields of a graph: its inputs and outputs."""
    return b"".join([*(field(11, field(1, name)) for name in inputs), *(field(12, field(1, name)) for name in outputs)])


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
        field(
            5,
            field(8, b"w") + field(13, field(2, b"w.bin") + field(1, b"location")) + field(13, entry(b"length", b"4")),
        ),
    ],
)
def test_every_place_of_a_tensor(graph: bytes) -> None:
    assert read(model(graph)) == {"w.bin": 4}


def test_how_much_external_data_is_needed() -> None:
    parts = [tensor(b"w", b"8", name=b"a"), tensor(b"w", b"16", name=b"b"), tensor(b"v", name=b"c")]
    assert read(model(b"".join(field(5, part) for part in parts))) == {"w": 20, "v": 4}


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
        *((model(field(5, tensor(b"w", text))), "not a whole ONNX file") for text in NO_NUMBERS),
        *((model(field(5, tensor(b"w", length=text))), "not a whole ONNX file") for text in NO_NUMBERS),
        (model(field(5, field(8, b"w") + b"\x70" + varint(1 << 32 | 1))), "not a whole ONNX file"),  # data_location
        (model(b"", b"\x28" + b"\xff" * 9 + b"\x7f"), "not a whole ONNX file"),  # 70 bits of a number
        (model(field(5, tensor(b"w") + field(13, entry(b"location", b"v")))), "not a whole ONNX file"),
        (model(b"", field(7, NODE)), "field 7 of ModelProto twice"),
        (model(b"", field(20, b"")), "field 20 of ModelProto"),  # training
        (model(b"", field(25, b"")), "field 25 of ModelProto"),  # functions
        (model(b"", field(12, b"")), "field 12 of ModelProto"),
        (model(field(15, b"")), "field 15 of GraphProto"),  # sparse tensors
        (model(b"", field(8, field(1, b"com.microsoft"))), "operators of the domain 'com.microsoft'"),
        (model(b"", field(8, b"\x10" + varint(1025))), "operator set 1025"),  # OpenVINO counts down from it
        (model(b"", field(8, b"\x10" + varint(2**64 - 1))), "operator set 18446744073709551615"),
        (
            model(field(1, field(4, b"EPContext") + field(7, b"com.microsoft"))),
            "operators of the domain 'com.microsoft'",
        ),
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


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (values([b"s"], [b"o"]) + node(b"Add", [b"s", b"q"], [b"o"]) + node(b"Relu", [b"o"], [b"q"]), "input 'q'"),
        (values([b"s"], [b"o"]) + node(b"Relu", [b"q"], [b"o"]) + node(b"Relu", [b"s"], [b"q"]), "input 'q'"),
        (values([b"s"], [b"o"]) + node(b"Add", [b"s", b"o"], [b"o"]), "input 'o'"),
        (values([b"s"], [b"o"]) + node(b"Add", [b"s", b"nope"], [b"o"]), "input 'nope'"),
        (values([b"s"], [b"o"]) + node(b"Neg", [b"s"], [b"o"]) + node(b"Relu", [b"s"], [b"o"]), "two values named 'o'"),
        (values([b"s"], [b"o"]) + node(b"Split", [b"s"], [b"o", b"o"]), "two values named 'o'"),
        (values([b"s"], [b"s"]) + node(b"Neg", [b"s"], [b"s"]), "two values named 's'"),
        (values([b"s", b"s"], [b"o"]) + node(b"Neg", [b"s"], [b"o"]), "two values named 's'"),
        (values([b"s"], [b"o", b"o"]) + node(b"Neg", [b"s"], [b"o"]), "two values named 'o'"),
        (field(5, field(8, b"w")) * 2, "two values named 'w'"),
        (field(5, b""), "a value without name"),
        (values([b"s"], [b"o"]) + node(b"Neg", [b"s"], [b"p"]), "the output 'o', which no node makes"),
    ],
)
def test_every_value_is_made_once_and_before_its_use(graph: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=f"it has .*{message}.*: export it again"):
        read(model(graph))


@pytest.mark.parametrize(
    "graph",
    [
        node(b"Resize", [b"s", b"", b"w"], [b"o"]) + values([b"s"], [b"o"]) + field(5, field(8, b"w")),  # in any order
        node(b"Dropout", [b"s"], [b"o", b""]) + node(b"Dropout", [b"s"], [b"p", b""]) + values([b"s"], [b"o", b"p"]),
        values([b"s", b"w"], [b"o"]) + field(5, field(8, b"w")) + node(b"Add", [b"s", b"w"], [b"o"]),  # a default
    ],
)
def test_inputs_and_outputs_that_are_left_out_and_defaults(graph: bytes) -> None:
    assert read(model(graph)) == {}


@pytest.mark.parametrize(
    ("body", "fine"),
    [
        (values([b"i"], [b"j"]) + node(b"Add", [b"i", b"s"], [b"j"]), True),  # s is of the graph around it
        (values([b"i"], [b"j"]) + node(b"Add", [b"i", b"o"], [b"j"]), False),  # o is the loop's own output
        (values([b"i"], [b"j"]) + node(b"Add", [b"i", b"j"], [b"j"]), False),
        (values([b"i"], [b"s"]) + node(b"Neg", [b"i"], [b"k"]), False),
        (values([b"i"], [b"s"]) + node(b"Neg", [b"i"], [b"s"]), False),
        (values([b"s"], [b"j"]) + node(b"Neg", [b"s"], [b"j"]), False),
    ],
)
def test_values_in_the_body_of_a_loop(body: bytes, fine: bool) -> None:
    loop = node(b"Loop", [b"", b"", b"s"], [b"o"], field(5, field(6, body)))
    data = model(values([b"s"], [b"o"]) + loop)
    if fine:
        assert external_data(data, "sampler.onnx", control_flow=True) == {}
        return
    with pytest.raises(IntegrityError, match="not a plain ONNX graph"):
        external_data(data, "sampler.onnx", control_flow=True)


NOT_UTF_8 = b"\xff\xfe"


@pytest.mark.parametrize(
    "data",
    [
        model(b"", field(2, NOT_UTF_8)),  # model.producer_name
        model(b"", field(14, entry(b"key", NOT_UTF_8))),  # model.metadata_props
        model(field(2, NOT_UTF_8)),  # graph.name
        model(values([NOT_UTF_8], [])),
        model(values([], [NOT_UTF_8])),
        model(field(13, field(1, NOT_UTF_8))),
        model(field(11, field(1, b"s") + field(2, field(1, field(2, field(1, field(2, NOT_UTF_8))))))),  # dim_param
        model(field(5, field(8, NOT_UTF_8))),
        model(field(1, field(4, NOT_UTF_8))),
        model(node(b"Neg", [], [NOT_UTF_8])),
        model(node(b"Neg", [], [], field(3, NOT_UTF_8))),
        model(node(b"Neg", [], [], field(5, field(1, NOT_UTF_8)))),
        model(field(1, field(4, b"\xed\xa0\x80"))),  # a surrogate
    ],
)
def test_texts_are_utf_8(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="a text that is not UTF-8"):
        read(data)


def test_bytes_of_attributes_and_tensors_need_not_be_utf_8() -> None:
    attributes = field(5, field(4, NOT_UTF_8) + field(9, NOT_UTF_8)) + field(5, field(5, field(9, NOT_UTF_8)))
    assert read(model(node(b"Constant", [], [b"c"], attributes))) == {}


def test_the_number_of_fields_is_bounded() -> None:
    read(model(field(2, b"") + field(1, field(4, b"Neg") + b"\x0a\x00" * 250_000)))  # inputs that are left out
    with pytest.raises(IntegrityError, match="more than 262,144 fields"):
        read(model(field(1, field(4, b"Neg") + b"\x0a\x00" * 270_000)))


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
