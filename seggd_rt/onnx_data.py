"""A strict, small reading of an ONNX file's structure, before any engine sees it.

Engines find out by its content what a file is, and graphs can name other files: an engine that took a file for another
format, or followed such a name, would read any file of this machine. So a graph must be plain: a whole message of
onnx.proto3 in which every field is known and nothing but the one network is stated. It has the default operators alone
and no control flow, which could run for ever. The reader knows protobuf's wire format and the fields of plain graphs,
so that it needs no ONNX package; types of values are left to the engines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from seggd_rt.errors import IntegrityError

_MAX_DEPTH = 32
_MAX_TAG = 0xFFFFFFFF
_DOMAINS = (b"", b"ai.onnx")
_CONTROL_FLOW = (b"If", b"Loop", b"Scan", b"SequenceMap")
_EXTERNAL = 1
"""`TensorProto.DataLocation`."""


class _Wire(Enum):
    """How a field lies in a message; a packed one holds many numbers, which may also stand one by one."""

    VARINT = (0,)
    FIXED32 = (5,)
    BYTES = (2,)
    VARINTS = (0, 2)
    FIXED32S = (5, 2)
    FIXED64S = (1, 2)


class _Message(Enum):
    """A message of onnx.proto3 that is read."""

    MODEL = "ModelProto"
    GRAPH = "GraphProto"
    NODE = "NodeProto"
    ATTRIBUTE = "AttributeProto"
    TENSOR = "TensorProto"
    OPSET = "OperatorSetIdProto"
    ENTRY = "StringStringEntryProto"


_ONE, _MANY = False, True
_FIELDS: dict[_Message, dict[int, tuple[_Wire | _Message, bool]]] = {
    _Message.MODEL: {
        1: (_Wire.VARINT, _ONE),
        2: (_Wire.BYTES, _ONE),
        3: (_Wire.BYTES, _ONE),
        4: (_Wire.BYTES, _ONE),
        5: (_Wire.VARINT, _ONE),
        6: (_Wire.BYTES, _ONE),
        7: (_Message.GRAPH, _ONE),
        8: (_Message.OPSET, _MANY),
        14: (_Message.ENTRY, _MANY),
    },
    _Message.OPSET: {1: (_Wire.BYTES, _ONE), 2: (_Wire.VARINT, _ONE)},
    _Message.GRAPH: {
        1: (_Message.NODE, _MANY),
        2: (_Wire.BYTES, _ONE),
        5: (_Message.TENSOR, _MANY),
        10: (_Wire.BYTES, _ONE),
        **dict.fromkeys((11, 12, 13), (_Wire.BYTES, _MANY)),  # inputs, outputs and types of values
        16: (_Message.ENTRY, _MANY),
    },
    _Message.NODE: {
        1: (_Wire.BYTES, _MANY),
        2: (_Wire.BYTES, _MANY),
        3: (_Wire.BYTES, _ONE),
        4: (_Wire.BYTES, _ONE),
        5: (_Message.ATTRIBUTE, _MANY),
        6: (_Wire.BYTES, _ONE),
        7: (_Wire.BYTES, _ONE),
        9: (_Message.ENTRY, _MANY),
    },
    _Message.ATTRIBUTE: {
        1: (_Wire.BYTES, _ONE),
        2: (_Wire.FIXED32, _ONE),
        3: (_Wire.VARINT, _ONE),
        4: (_Wire.BYTES, _ONE),
        5: (_Message.TENSOR, _ONE),
        6: (_Message.GRAPH, _ONE),
        7: (_Wire.FIXED32S, _MANY),
        8: (_Wire.VARINTS, _MANY),
        9: (_Wire.BYTES, _MANY),
        10: (_Message.TENSOR, _MANY),
        13: (_Wire.BYTES, _ONE),
        20: (_Wire.VARINT, _ONE),
    },
    _Message.TENSOR: {
        1: (_Wire.VARINTS, _MANY),
        2: (_Wire.VARINT, _ONE),
        4: (_Wire.FIXED32S, _MANY),
        5: (_Wire.VARINTS, _MANY),
        6: (_Wire.BYTES, _MANY),
        7: (_Wire.VARINTS, _MANY),
        8: (_Wire.BYTES, _ONE),
        9: (_Wire.BYTES, _ONE),
        10: (_Wire.FIXED64S, _MANY),
        11: (_Wire.VARINTS, _MANY),
        12: (_Wire.BYTES, _ONE),
        13: (_Message.ENTRY, _MANY),
        14: (_Wire.VARINT, _ONE),
        16: (_Message.ENTRY, _MANY),
    },
    _Message.ENTRY: {1: (_Wire.BYTES, _ONE), 2: (_Wire.BYTES, _ONE)},
}
"""What plain graphs have. Functions, training, sparse tensors, lists of graphs and parts for devices are left out."""


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
        reader.read(_Message.MODEL, 0, len(data), 0)
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        raise IntegrityError(f"{name} is not a whole ONNX file: export it again") from error
    return reader.external


class _Reader:
    def __init__(self, data: bytes, name: str, control_flow: bool) -> None:
        self._data, self._name, self._control_flow = data, name, control_flow
        self.external: dict[str, int] = {}

    def read(self, message: _Message, start: int, end: int, depth: int) -> dict[int, _Field]:
        """Read a message and all in it, and return its fields by number: the last of each."""
        if depth > _MAX_DEPTH:
            raise self._refused(f"messages nested more than {_MAX_DEPTH} levels deep")
        found: dict[int, _Field] = {}
        entries: list[tuple[bytes, bytes]] = []
        for field in self._fields(message, start, end):
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
        self._check(message, found)
        if message is _Message.TENSOR:
            self._note_external(entries, found)
        return found

    def _check(self, message: _Message, found: dict[int, _Field]) -> None:
        """Refuse a message that lacks what it must have, or has operators that are not ONNX's own."""
        if message is _Message.MODEL and not {1, 7, 8} <= found.keys():
            raise ValueError("no version, graph or operator set")
        if message is _Message.GRAPH and 1 not in found:
            raise ValueError("no node")
        if message is _Message.OPSET and self._bytes(found, 1) not in _DOMAINS:
            raise self._refused(f"operators of {self._shown(found, 1)}")
        if message is _Message.NODE:
            if 4 not in found:
                raise ValueError("no operator")
            if self._bytes(found, 7) not in _DOMAINS:
                raise self._refused(f"operators of {self._shown(found, 7)}")
            if self._bytes(found, 4) in _CONTROL_FLOW and not self._control_flow:
                raise self._refused(f"control flow, {self._shown(found, 4)}")

    def _note_external(self, entries: list[tuple[bytes, bytes]], tensor: dict[int, _Field]) -> None:
        if not entries and not (14 in tensor and tensor[14].value == _EXTERNAL):
            return
        keys = Counter(key for key, _ in entries)
        stated = dict(entries)
        offset, length = (int(stated.get(key, b"0").decode()) for key in (b"offset", b"length"))
        if keys[b"location"] != 1 or max(keys.values()) > 1 or min(offset, length) < 0:
            raise ValueError("external data that is stated in two ways, or in none")
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
            if kind not in (content.value if isinstance(content, _Wire) else _Wire.BYTES.value):
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
            if byte < 0x80:
                return value, at
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _bytes(self, found: dict[int, _Field], number: int) -> bytes:
        return self._data[found[number].start : found[number].end] if number in found else b""

    def _shown(self, found: dict[int, _Field], number: int) -> str:
        return repr(self._bytes(found, number)[:40].decode(errors="replace"))

    def _refused(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self._name} is not a plain ONNX graph (it has {what}): export it again")
