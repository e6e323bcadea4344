"""An ONNX graph in memory: what was checked is what an engine runs, whatever happens to the files meanwhile."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from seggd_rt.bundle.onnx_data import external_data
from seggd_rt.errors import EngineError, IntegrityError, OutputError
from seggd_rt.files import open_regular


@dataclass(frozen=True)
class OnnxGraph:
    """The bytes of a graph's files.

    Attributes
    ----------
    name
        The graph's file.
    origin
        The folder that it comes from, after which plans are called.
    model
        The ONNX file.
    external
        Its external data, by the locations that it names.
    """

    name: str
    origin: str
    model: bytes = field(repr=False)
    external: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path) -> OnnxGraph:
        """Read a plain graph that is in no bundle, and the external data beside it.

        Raises
        ------
        EngineError
            A file is missing or cannot be read, or it is no plain ONNX graph.
        """
        try:
            model = _bytes_of(path)
            external = {}
            for location, size in external_data(model, path.name).items():
                if Path(location).name != location:
                    raise IntegrityError(f"it names {location!r} as its data, which is not beside it")
                external[location] = _bytes_of(path.parent / location)
                if len(external[location]) < size:
                    raise IntegrityError(f"its data {location} is shorter than it says")
        except (IntegrityError, OSError, ValueError) as error:
            raise EngineError(f"cannot open {path.name}: {error}") from error
        return cls(path.name, path.resolve().parent.name, model, external)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return len(self.model) + sum(map(len, self.external.values()))

    @property
    def digest(self) -> str:
        """One SHA-256 over the names and bytes of all files: see `graph_digest` of C++."""
        digest = hashlib.sha256()
        for name, data in ((self.name, self.model), *sorted(self.external.items())):
            digest.update(f"{name}\0{hashlib.sha256(data).hexdigest()}\n".encode())
        return digest.hexdigest()

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Write the files into a folder of this user alone, for an engine that takes external data from files only.

        Raises
        ------
        OutputError
            The folder of temporary files has no room for them.
        """
        with tempfile.TemporaryDirectory(prefix="seggd-") as folder:  # mode 0700
            try:
                for name, data in ((self.name, self.model), *self.external.items()):
                    Path(folder, name).write_bytes(data)
            except OSError as error:
                raise OutputError(
                    f"the private copy of {self.name} cannot be written ({error.strerror or error}): free the "
                    "folder of temporary files, or name another in TMPDIR"
                ) from error
            yield Path(folder, self.name)


def _bytes_of(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()
