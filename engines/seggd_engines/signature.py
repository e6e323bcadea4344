"""What every graph takes and gives, checked before an engine binds buffers to it by address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from seggd_engines.network import NetworkShape
from seggd_rt.errors import EngineError


def check_signature(graph: Path, found: Mapping[str, Sequence[object]], shape: NetworkShape) -> None:
    """Refuse a graph whose inputs and outputs are not those of a network of this shape.

    Parameters
    ----------
    graph
        The ONNX file.
    found
        The axes of each input and output by name, as an engine reports them: whole numbers, or anything else for an
        axis that is free.
    shape
        What the manifest says.

    Raises
    ------
    EngineError
        A name is missing or too many, or a size is another.
    """
    wanted: dict[str, tuple[int | None, ...]] = {
        "sample": (None, shape.channels, shape.height, shape.width),
        "timestep": (None,),
        "out": (None, shape.image_channels, shape.height, shape.width),
    }
    fits = found.keys() == wanted.keys() and all(_fits(found[name], wanted[name]) for name in wanted)
    if not fits:
        raise EngineError(
            f"{graph.name} is not the network of this manifest: it has {_listed(found)}, the manifest says "
            f"{_listed(wanted)}; export the bundle again"
        )


def _fits(found: Sequence[object], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(
        not isinstance(axis, int) if size is None else not isinstance(axis, int) or axis == size
        for axis, size in zip(found, wanted, strict=True)
    )


def _listed(shapes: Mapping[str, Sequence[object]]) -> str:
    return ", ".join(
        f"{name} ({', '.join(str(axis) if isinstance(axis, int) else 'N' for axis in axes)})"
        for name, axes in shapes.items()
    )
