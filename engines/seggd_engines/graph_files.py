"""The files an ONNX graph is made of, and one hash over all of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from seggd_rt.errors import EngineError, IntegrityError
from seggd_rt.onnx_data import external_locations


def graph_files(graph: Path) -> tuple[Path, ...]:
    """Return a graph's file and the external data beside it.

    Raises
    ------
    EngineError
        It is no ONNX graph, or not whole.
    """
    try:
        files = (graph, *(graph.parent / name for name in sorted(external_locations(graph))))
        missing = [file.name for file in files if not file.is_file()]
    except (IntegrityError, OSError, ValueError) as error:
        raise EngineError(f"cannot open {graph.name}: {error}") from error
    if missing:
        raise EngineError(f"cannot open {graph.name}: its data {', '.join(missing)} is missing")
    return files


def graph_digest(graph: Path) -> str:
    """Return the SHA-256 of a graph's structure, weights and external data.

    Raises
    ------
    EngineError
        See `graph_files`.
    """
    digest = hashlib.sha256()
    for file in graph_files(graph):
        with file.open("rb") as opened:
            digest.update(f"{file.name}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
