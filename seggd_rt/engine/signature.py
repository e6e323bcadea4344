"""What every graph takes and gives, checked before an engine binds buffers to it by address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seggd_rt.engine.contract import NetworkShape
from seggd_rt.errors import EngineError

FLOAT32 = "float32"


class Port(NamedTuple):
    """An input or output of a graph, as an engine reports it.

    Attributes
    ----------
    type
        The type of its elements, as NumPy calls it where it is float32; any other word is another type.
    axes
        Whole numbers, or anything else for an axis that is free.
    """

    type: str
    axes: Sequence[object]


def check_signature(name: str, found: Mapping[str, Port], shape: NetworkShape) -> None:
    """Refuse a graph whose inputs and outputs are not those of a network of this shape.

    Parameters
    ----------
    name
        The ONNX file's.
    found
        Each input and output by name.
    shape
        What the manifest says.

    Raises
    ------
    EngineError
        A name is missing or too many, or a type or a size is another.
    """
    wanted = {
        "sample": Port(FLOAT32, (None, shape.channels, shape.height, shape.width)),
        "timestep": Port(FLOAT32, (None,)),
        "out": Port(FLOAT32, (None, shape.image_channels, shape.height, shape.width)),
    }
    fits = found.keys() == wanted.keys() and all(_fits(found[name], wanted[name]) for name in wanted)
    if not fits:
        raise EngineError(
            f"{name} is not the network of this manifest (it has {_listed(found)}, the manifest says "
            f"{_listed(wanted)}): export the bundle again"
        )


def _fits(found: Port, wanted: Port) -> bool:
    return (
        found.type == wanted.type
        and len(found.axes) == len(wanted.axes)
        and all(
            not isinstance(axis, int) if size is None else not isinstance(axis, int) or axis == size
            for axis, size in zip(found.axes, wanted.axes, strict=True)
        )
    )


def _listed(ports: Mapping[str, Port]) -> str:
    return ", ".join(
        f"{name} {port.type} ({', '.join(str(axis) if isinstance(axis, int) else 'N' for axis in port.axes)})"
        for name, port in ports.items()
    )
