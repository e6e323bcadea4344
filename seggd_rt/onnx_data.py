"""Which external data files an ONNX file names, read from its bytes alone.

ONNX keeps tensors in the file or in files beside it (`TensorProto.external_data`). A bundle must know all of them
before an engine opens the graph: a location outside the folder would make the engine read any file of this machine.
The walk knows protobuf's wire format and the few field numbers of onnx.proto3 on the way to a tensor, and skips the
rest, so that it needs no ONNX package.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from seggd_rt.errors import IntegrityError

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION, _TRAINING, _ENTRY = range(9)
_NESTED = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}
_MAX_DEPTH = 64
_MAX_TAG = 0xFFFFFFFF


def external_locations(path: Path) -> frozenset[str]:
    """Return the locations, relative to the ONNX file, of all external data it names.

    Raises
    ------
    IntegrityError
        The file is not a protobuf message.
    """
    if path.stat().st_size == 0:
        raise IntegrityError(f"{path.name} is empty: export the bundle again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return frozenset(_locations(data, 0, len(data), _MODEL, 0))
        except (IndexError, UnicodeDecodeError, RecursionError) as error:
            raise IntegrityError(f"{path.name} is not a whole ONNX file: export the bundle again") from error


def _locations(data: mmap.mmap, start: int, end: int, message: int, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise RecursionError
    if message == _ENTRY:
        # A key and a value, in either order.
        entry = {field: data[low:high] for field, low, high in _fields(data, start, end)}
        if entry.get(1) == b"location":
            yield entry.get(2, b"").decode()
        return
    for field, low, high in _fields(data, start, end):
        if field in _NESTED[message]:
            yield from _locations(data, low, high, _NESTED[message][field], depth + 1)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, end) of every length-delimited field of a message; skip the others."""
    at = start
    while at < end:
        tag, at = _varint(data, at)
        if tag > _MAX_TAG:
            # protobuf's C++ reader would drop the upper bits, and see a field that is skipped here.
            raise IndexError
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise IndexError
            yield tag >> 3, at, at + size
            at += size
        else:
            raise IndexError
    if at != end:
        raise IndexError


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError
