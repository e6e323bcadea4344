"""A strict, small reading of an ONNX file's structure, before any engine sees it.

Engines find out by its content what a file is, and graphs can name other files: an engine that took a file for another
format, or followed such a name, would read any file of this machine. So a graph must be plain: a whole message of
onnx.proto3 in which every field is known and nothing but the one network is stated. It has the default operators alone
and no control flow, which could run for ever. Each value is made once, and before it is used: engines rely on that, and
OpenVINO does not end where nodes form a cycle. The reader knows protobuf's wire format and the fields of plain graphs,
so that it needs no ONNX package; whether types and sizes fit is left to the engines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from seggd_rt.errors import IntegrityError

_MAX_DEPTH = 32
_MAX_TAG = 0xFFFFFFFF
_MAX_FIELDS = 1 << 18
"""In a whole file. A large network of this project has about 20,000."""
_DOMAINS = (b"", b"ai.onnx")
_MAX_OPSET = 1 << 10
"""ONNX has 26 operator sets. OpenVINO counts down from an unknown one to those it knows, one by one, for hours."""
_CONTROL_FLOW = (b"If", b"Loop", b"Scan", b"SequenceMap")
_EXTERNAL = 1
"""`TensorProto.DataLocation`."""
_NUMBER = re.compile(rb"[0-9]{1,19}")
"""A count of bytes in external data, as every engine reads it."""


class _Wire(Enum):
    """What a field holds, and its wire types; a packed one holds many numbers, which may also stand one by one."""

    VARINT = "number", (0,)
    FIXED32 = "float", (5,)
    BYTES = "bytes", (2,)
    TEXT = "text", (2,)
    VARINTS = "numbers", (0, 2)
    FIXED32S = "floats", (5, 2)
    FIXED64S = "doubles", (1, 2)

    @property
    def kinds(self) -> tuple[int, ...]:
        """Protobuf's wire types."""
        kinds: tuple[int, ...] = self.value[1]
        return kinds


class _Message(Enum):
    """A message of onnx.proto3 that is read."""

    MODEL = "ModelProto"
    GRAPH = "GraphProto"
    NODE = "NodeProto"
    ATTRIBUTE = "AttributeProto"
    TENSOR = "TensorProto"
    OPSET = "OperatorSetIdProto"
    ENTRY = "StringStringEntryProto"
    VALUE = "ValueInfoProto"
    TYPE = "TypeProto"
    TENSOR_TYPE = "TypeProto.Tensor"
    SHAPE = "TensorShapeProto"
    DIMENSION = "TensorShapeProto.Dimension"


_ONE, _MANY = False, True
_FIELDS: dict[_Message, dict[int, tuple[_Wire | _Message, bool]]] = {
    _Message.MODEL: {
        1: (_Wire.VARINT, _ONE),
        2: (_Wire.TEXT, _ONE),
        3: (_Wire.TEXT, _ONE),
        4: (_Wire.TEXT, _ONE),
        5: (_Wire.VARINT, _ONE),
        6: (_Wire.TEXT, _ONE),
        7: (_Message.GRAPH, _ONE),
        8: (_Message.OPSET, _MANY),
        14: (_Message.ENTRY, _MANY),
    },
    _Message.OPSET: {1: (_Wire.TEXT, _ONE), 2: (_Wire.VARINT, _ONE)},
    _Message.GRAPH: {
        1: (_Message.NODE, _MANY),
        2: (_Wire.TEXT, _ONE),
        5: (_Message.TENSOR, _MANY),
        10: (_Wire.TEXT, _ONE),
        **dict.fromkeys((11, 12, 13), (_Message.VALUE, _MANY)),  # inputs, outputs and types of values
        16: (_Message.ENTRY, _MANY),
    },
    _Message.NODE: {
        1: (_Wire.TEXT, _MANY),
        2: (_Wire.TEXT, _MANY),
        3: (_Wire.TEXT, _ONE),
        4: (_Wire.TEXT, _ONE),
        5: (_Message.ATTRIBUTE, _MANY),
        6: (_Wire.TEXT, _ONE),
        7: (_Wire.TEXT, _ONE),
        9: (_Message.ENTRY, _MANY),
    },
    _Message.ATTRIBUTE: {
        1: (_Wire.TEXT, _ONE),
        2: (_Wire.FIXED32, _ONE),
        3: (_Wire.VARINT, _ONE),
        4: (_Wire.BYTES, _ONE),
        5: (_Message.TENSOR, _ONE),
        6: (_Message.GRAPH, _ONE),
        7: (_Wire.FIXED32S, _MANY),
        8: (_Wire.VARINTS, _MANY),
        9: (_Wire.BYTES, _MANY),
        10: (_Message.TENSOR, _MANY),
        13: (_Wire.TEXT, _ONE),
        20: (_Wire.VARINT, _ONE),
    },
    _Message.TENSOR: {
        1: (_Wire.VARINTS, _MANY),
        2: (_Wire.VARINT, _ONE),
        4: (_Wire.FIXED32S, _MANY),
        5: (_Wire.VARINTS, _MANY),
        6: (_Wire.BYTES, _MANY),
        7: (_Wire.VARINTS, _MANY),
        8: (_Wire.TEXT, _ONE),
        9: (_Wire.BYTES, _ONE),
        10: (_Wire.FIXED64S, _MANY),
        11: (_Wire.VARINTS, _MANY),
        12: (_Wire.TEXT, _ONE),
        13: (_Message.ENTRY, _MANY),
        14: (_Wire.VARINT, _ONE),
        16: (_Message.ENTRY, _MANY),
    },
    _Message.ENTRY: {1: (_Wire.TEXT, _ONE), 2: (_Wire.TEXT, _ONE)},
    _Message.VALUE: {
        1: (_Wire.TEXT, _ONE),
        2: (_Message.TYPE, _ONE),
        3: (_Wire.TEXT, _ONE),
        4: (_Message.ENTRY, _MANY),
    },
    _Message.TYPE: {1: (_Message.TENSOR_TYPE, _ONE), 6: (_Wire.TEXT, _ONE)},
    _Message.TENSOR_TYPE: {1: (_Wire.VARINT, _ONE), 2: (_Message.SHAPE, _ONE)},
    _Message.SHAPE: {1: (_Message.DIMENSION, _MANY)},
    _Message.DIMENSION: {1: (_Wire.VARINT, _ONE), 2: (_Wire.TEXT, _ONE), 3: (_Wire.TEXT, _ONE)},
}
"""What plain graphs have. Functions, training, sparse tensors, lists of graphs, parts for devices and values other than
tensors are left out."""


@dataclass(frozen=True)
class _Field:
    """A field of a message: its number, and its content, or the number that it holds."""

    number: int
    start: int
    end: int
    value: int = 0


def external_data(data: bytes, name: str, *, control_flow: bool = False) -> dict[str, int]:
    """Check that bytes are one plain ONNX graph, and return the external data that it names.

    Parameters
    ----------
    data
        The ONNX file.
    name
        What messages call it.
    control_flow
        Whether it may have loops and branches: a graph for engines of others, as `sampler.onnx`.

    Returns
    -------
    dict
        How many bytes of each location, relative to the file, are needed.

    Raises
    ------
    IntegrityError
        It is another format, damaged, or no plain graph.
    """
    if not data:
        raise IntegrityError(f"{name} is empty: export it again")
    reader = _Reader(data, name, control_flow)
    try:
        model = reader.read(_Message.MODEL, 0, len(data), 0)
        reader.check_values(model[7])
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        raise IntegrityError(f"{name} is not a whole ONNX file: export it again") from error
    return reader.external


class _Reader:
    def __init__(self, data: bytes, name: str, control_flow: bool) -> None:
        self._data, self._name, self._control_flow = data, name, control_flow
        self._fields_read = 0
        self.external: dict[str, int] = {}

    def read(self, message: _Message, start: int, end: int, depth: int) -> dict[int, _Field]:
        """Read a message and all in it, and return its fields by number: the last of each."""
        if depth > _MAX_DEPTH:
            raise self._refused(f"messages nested more than {_MAX_DEPTH} levels deep")
        found: dict[int, _Field] = {}
        entries: list[tuple[bytes, bytes]] = []
        for field in self._fields(message, start, end):
            self._fields_read += 1
            if self._fields_read > _MAX_FIELDS:
                raise self._refused(f"more than {_MAX_FIELDS:,} fields")
            content, many = _FIELDS[message][field.number]
            if field.number in found and not many:
                raise self._refused(f"field {field.number} of {message.value} twice")
            found[field.number] = field
            if isinstance(content, _Message):
                if content is _Message.GRAPH and message is not _Message.MODEL and not self._control_flow:
                    raise self._refused("control flow")
                inner = self.read(content, field.start, field.end, depth + 1)
                if (message, field.number) == (_Message.TENSOR, 13):
                    entries.append((self._bytes(inner, 1), self._bytes(inner, 2)))
            elif content is _Wire.TEXT:
                self._check_text(field)
        self._check(message, found)
        if message is _Message.TENSOR:
            self._note_external(entries, found)
        return found

    def check_values(self, graph: _Field, outer: tuple[set[bytes], ...] = ()) -> None:
        """Refuse a graph in which a value is made twice, or used before it is made, or an output is not made.

        Parameters
        ----------
        graph
            It was read before.
        outer
            The names of values of the graphs around it, known where it stands.
        """
        parts: dict[int, list[_Field]] = {}
        for field in self._fields(_Message.GRAPH, graph.start, graph.end):
            parts.setdefault(field.number, []).append(field)
        initializers = self._names(_Message.TENSOR, 8, parts.get(5, []))
        inputs, outputs = (self._names(_Message.VALUE, 1, parts.get(number, [])) for number in (11, 12))
        known: set[bytes] = set()
        scopes = (*outer, known)
        for names in (initializers, inputs, outputs):  # an initializer may be the default of an input
            for name, count in Counter(names).items():
                if not name or count > 1:
                    raise self._refused("a value without name" if not name else f"two values named {_shown(name)}")
        for name in initializers + inputs:
            if any(name in scope for scope in outer):
                raise self._refused(f"two values named {_shown(name)}")
            known.add(name)
        for node in parts[1]:
            used, made, graphs = self._node(node)
            for name in filter(None, used):  # an input that is left out has no name
                if not any(name in scope for scope in scopes):
                    raise self._refused(f"a node before the one that makes its input {_shown(name)}")
            for inner in graphs:
                self.check_values(inner, scopes)
            for name in filter(None, made):
                if any(name in scope for scope in scopes):
                    raise self._refused(f"two values named {_shown(name)}")
                known.add(name)
        for name in outputs:
            if name not in known:
                raise self._refused(f"the output {_shown(name)}, which no node makes")

    def _names(self, message: _Message, number: int, fields: Iterable[_Field]) -> list[bytes]:
        """Return the name of each message in some fields: its field `number`."""
        found = ({each.number: each for each in self._fields(message, field.start, field.end)} for field in fields)
        return [self._bytes(each, number) for each in found]

    def _node(self, node: _Field) -> tuple[list[bytes], list[bytes], list[_Field]]:
        """Return the names of a node's inputs and outputs, and the graphs in its attributes."""
        fields = list(self._fields(_Message.NODE, node.start, node.end))
        used, made = ([self._data[each.start : each.end] for each in fields if each.number == k] for k in (1, 2))
        attributes = (self._fields(_Message.ATTRIBUTE, each.start, each.end) for each in fields if each.number == 5)
        return used, made, [each for attribute in attributes for each in attribute if each.number == 6]

    def _check_text(self, field: _Field) -> None:
        try:
            self._data[field.start : field.end].decode()
        except UnicodeDecodeError as error:
            raise self._refused(f"a text that is not UTF-8, {_shown(self._data[field.start : field.end])}") from error

    def _check(self, message: _Message, found: dict[int, _Field]) -> None:
        """Refuse a message that lacks what it must have, or has operators that are not ONNX's own."""
        if message is _Message.MODEL and not {1, 7, 8} <= found.keys():
            raise ValueError("no version, graph or operator set")
        if message is _Message.GRAPH and 1 not in found:
            raise ValueError("no node")
        if message is _Message.OPSET:
            if self._bytes(found, 1) not in _DOMAINS:
                raise self._refused(f"operators of the domain {_shown(self._bytes(found, 1))}")
            if 2 in found and found[2].value > _MAX_OPSET:
                raise self._refused(f"operator set {found[2].value}")
        if message is _Message.NODE:
            if 4 not in found:
                raise ValueError("no operator")
            if self._bytes(found, 7) not in _DOMAINS:
                raise self._refused(f"operators of the domain {_shown(self._bytes(found, 7))}")
            if self._bytes(found, 4) in _CONTROL_FLOW and not self._control_flow:
                raise self._refused(f"control flow, {_shown(self._bytes(found, 4))}")

    def _note_external(self, entries: list[tuple[bytes, bytes]], tensor: dict[int, _Field]) -> None:
        location_kind = tensor[14].value if 14 in tensor else 0
        if location_kind > _EXTERNAL:  # of which protobuf's C++ reader would keep the lower 32 bits
            raise ValueError("a place of data that ONNX does not know")
        if not entries and location_kind != _EXTERNAL:
            return
        keys = Counter(key for key, _ in entries)
        stated = dict(entries)
        counts = [stated.get(key, b"0") for key in (b"offset", b"length")]
        if keys[b"location"] != 1 or max(keys.values()) > 1 or not all(map(_NUMBER.fullmatch, counts)):
            raise ValueError("external data that is stated in two ways, or in none")
        offset, length = map(int, counts)
        location = stated[b"location"].decode()
        self.external[location] = max(self.external.get(location, 0), offset + length)

    def _fields(self, message: _Message, start: int, end: int) -> Iterator[_Field]:
        known, at = _FIELDS[message], start
        while at < end:
            tag, at = self._varint(at)
            number, kind = tag >> 3, tag & 7
            # Of a tag beyond 32 bits, protobuf's C++ reader would drop the upper ones, and see another field.
            if tag > _MAX_TAG or number not in known:
                raise self._refused(f"field {number} of {message.value}")
            content = known[number][0]
            if kind not in (content if isinstance(content, _Wire) else _Wire.BYTES).kinds:
                raise ValueError("another type of field")
            first, value = at, 0
            if kind == 0:
                value, at = self._varint(at)
            elif kind == 2:
                size, first = self._varint(at)
                at = first + size
            else:
                at += 8 if kind == 1 else 4
            if at > end:
                raise ValueError("a field that is longer than its message")
            yield _Field(number, first, at, value)

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._data[at]
            value |= (byte & 0x7F) << shift
            at += 1
            shift += 7
            if value >> 64 or (byte >= 0x80 and shift > 63):
                raise ValueError("a number of more than 64 bits")
            if byte < 0x80:
                return value, at

    def _bytes(self, found: dict[int, _Field], number: int) -> bytes:
        return self._data[found[number].start : found[number].end] if number in found else b""

    def _refused(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self._name} is not a plain ONNX graph (it has {what}): export it again")


def _shown(name: bytes) -> str:
    return repr(name[:40].decode(errors="replace"))
