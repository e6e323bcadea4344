"""The bundle: the one thing that passes from export to every runtime.

A folder `NAME.seggd/` with `bundle.json` (schema `seggd-bundle/1`), one ONNX graph a precision, and
`check.safetensors`, the golden states by which every engine checks itself. The manifest names every other file with its
SHA-256, so the bundle's hash is the SHA-256 of `bundle.json`. Files are hashed when they are first used.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seggd_rt.errors import BundleError, IntegrityError, ManifestError
from seggd_rt.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MEANING_KEY,
    FileRef,
    Graph,
    Manifest,
    SegmenterGraph,
    parse_manifest,
)
from seggd_rt.onnx_data import external_locations
from seggd_rt.precision import Precision


@dataclass(frozen=True)
class Golden:
    """The golden run of a bundle, made by PyTorch in fp32 at export.

    Attributes
    ----------
    label_map
        (H, W) uint8.
    noise
        (C, H, W) float32: the start of the run.
    states, outputs
        (n, C, H, W) float32: states along the run, and the network's outputs there.
    timesteps
        (n,) int64: the states' timesteps.
    image
        (C, H, W) float32 in [0, 1]: the end of the run.
    """

    label_map: NDArray[np.uint8]
    noise: NDArray[np.float32]
    states: NDArray[np.float32]
    outputs: NDArray[np.float32]
    timesteps: NDArray[np.int64]
    image: NDArray[np.float32]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder, its manifest and the manifest's SHA-256."""

    path: Path
    manifest: Manifest
    sha256: str
    _verified: dict[str, Path] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open a bundle's folder.

        Raises
        ------
        BundleError
            There is no bundle there, or none that can be read; its manifest is not valid, or follows a newer schema.
        """
        folder = Path(path)
        manifest = folder / MANIFEST
        try:
            if not folder.is_dir() or not manifest.is_file():
                raise BundleError(
                    f"{folder} is not a bundle: it must be a folder with {MANIFEST} in it (seggd-rt export)"
                )
            if manifest.stat().st_size > MAX_MANIFEST_BYTES:
                raise ManifestError(f"{manifest} is over {MAX_MANIFEST_BYTES >> 20} MiB: it cannot be a manifest")
            data = manifest.read_bytes()
        except OSError as error:
            raise BundleError(f"{manifest} cannot be read ({error.strerror or error})") from error
        return cls(folder, parse_manifest(data, str(manifest)), hashlib.sha256(data).hexdigest())

    def file(self, ref: FileRef) -> Path:
        """Return the path of a file whose content is what the manifest says; hashed at the first call.

        Raises
        ------
        IntegrityError
            The file is missing or cannot be read, lies outside the folder, or its size or SHA-256 is another.
        """
        if ref.path not in self._verified:
            path = self.path / ref.path
            try:
                if not path.is_file():
                    raise IntegrityError(f"{path} is missing: copy or export the bundle again")
                if path.resolve().parent != self.path.resolve():
                    raise IntegrityError(f"{path} is a link that leaves the bundle's folder: copy or export it again")
                if path.stat().st_size != ref.size or sha256_of(path) != ref.sha256:
                    raise IntegrityError(f"{path} was changed after export (its SHA-256 differs): copy it again")
            except OSError as error:
                raise IntegrityError(f"{path} cannot be read ({error.strerror or error})") from error
            self._verified[ref.path] = path
        return self._verified[ref.path]

    def check_sizes(self) -> None:
        """Look whether every file is there with the manifest's size; hash nothing.

        Raises
        ------
        IntegrityError
            One is not.
        """
        for ref in self.manifest.files:
            path = self.path / ref.path
            try:
                size = path.stat().st_size if path.is_file() else None
            except OSError as error:
                raise IntegrityError(f"{path} cannot be read ({error.strerror or error})") from error
            if size is None:
                raise IntegrityError(f"{path} is missing: copy or export the bundle again")
            if size != ref.size:
                raise IntegrityError(f"{path} has {size} bytes, not {ref.size}: copy or export the bundle again")

    def verify(self) -> None:
        """Hash every file, and check the golden run and what the manifest means.

        Raises
        ------
        IntegrityError
            A file is missing or changed, the manifest was edited, or a graph names files it does not list.
        """
        for graph in self.manifest.graphs:
            self.graph_file(graph)
        if self.manifest.sampler_graph is not None:
            self.sampler_file()
        if self.manifest.segmenter is not None:
            self.segmenter_file()
        _ = self.golden

    def graph(self, precision: Precision) -> Graph:
        """Return the graph of a precision.

        Raises
        ------
        BundleError
            The bundle has none; the message lists those it has.
        """
        for graph in self.manifest.graphs:
            if graph.precision is precision:
                return graph
        there = ", ".join(g.precision for g in self.manifest.graphs)
        raise BundleError(
            f"{self.path.name} has no {precision} graph, only {there}: export it with --precision {precision}"
        )

    def graph_file(self, graph: Graph) -> Path:
        """Return the path of a graph's ONNX file after verifying all its files.

        Raises
        ------
        IntegrityError
            A file is missing or changed, or the graph names external data that the manifest does not.
        """
        return self._onnx_file(graph.files)

    def sampler_file(self) -> Path:
        """Return the path of `sampler.onnx`, the sampling loop as one graph, after verifying all its files.

        Raises
        ------
        BundleError
            The bundle has none.
        IntegrityError
            A file is missing or changed, or the graph names external data that the manifest does not.
        """
        loop = self.manifest.sampler_graph
        if loop is None:
            raise BundleError(f"{self.path.name} has no sampling loop as one graph: export it with --loop STEPS")
        return self._onnx_file(loop.files)

    @property
    def segmenter(self) -> SegmenterGraph:
        """The segmenter that the bundle has.

        Raises
        ------
        BundleError
            It has none.
        """
        if self.manifest.segmenter is None:
            raise BundleError(
                f"{self.path.name} has no segmenter to check images by: export it with --segmenter SEGMENTER.pt and "
                "--data DATA, the training images"
            )
        return self.manifest.segmenter

    def segmenter_file(self) -> Path:
        """Return the path of `segmenter.onnx`, which finds the classes in images, after verifying all its files.

        Raises
        ------
        BundleError
            The bundle has none.
        IntegrityError
            A file is missing or changed, or the graph names external data that the manifest does not.
        """
        return self._onnx_file(self.segmenter.files)

    def _onnx_file(self, files: tuple[FileRef, ...]) -> Path:
        """Return the path of the first file, an ONNX graph, after verifying it and the others, its external data."""
        listed = {ref.path for ref in files[1:]}
        paths = [self.file(ref) for ref in files]
        unlisted = external_locations(paths[0]) - listed
        if unlisted:
            raise IntegrityError(f"{paths[0]} names external data the manifest does not: {', '.join(sorted(unlisted))}")
        return paths[0]

    def check_file(self) -> Path:
        """Return the path of the golden run after verifying it, and that the manifest means what it did at export.

        Raises
        ------
        IntegrityError
            The file is missing or changed, or the manifest was edited.
        """
        from safetensors import SafetensorError, safe_open

        path = self.file(self.manifest.check.file)
        try:
            with safe_open(path, framework="numpy") as file:
                stated = (file.metadata() or {}).get(MEANING_KEY)
        except SafetensorError as error:
            raise IntegrityError(f"{path} does not hold a golden run ({error}): export the bundle again") from error
        if stated is None:
            raise IntegrityError(
                f"{path} does not say what {MANIFEST} meant at export, as a development version wrote it: "
                "export the bundle again"
            )
        if stated != self.manifest.meaning.metadata()[MEANING_KEY]:
            raise IntegrityError(
                f"{self.path / MANIFEST} was edited after export: its image, classes, mask, schedule, intensity range, "
                "defaults or check steps are not those the network was exported with. Copy or export the bundle again"
            )
        return path

    @cached_property
    def golden(self) -> Golden:
        """The golden run.

        Raises
        ------
        IntegrityError
            Its file is missing or changed, or does not hold what the manifest says; or the manifest was edited.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.check_file()
        try:
            golden = Golden(**load_file(path))
        except (SafetensorError, TypeError) as error:
            raise IntegrityError(f"{path} does not hold a golden run ({error}): export the bundle again") from error
        image = self.manifest.image
        shape = (image.channels, image.height, image.width)
        states = golden.states.shape[:1]
        expected = {
            "label_map": (np.uint8, shape[1:]),
            "noise": (np.float32, shape),
            "states": (np.float32, states + shape),
            "outputs": (np.float32, states + shape),
            "timesteps": (np.int64, states),
            "image": (np.float32, shape),
        }
        for name, (dtype, size) in expected.items():
            array = getattr(golden, name)
            if array.dtype != dtype or array.shape != size:
                raise IntegrityError(f"{path}: {name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {size}")
            if not np.isfinite(array).all():
                raise IntegrityError(f"{path}: {name} is not finite: export the bundle again")
        if states == (0,) or golden.label_map.max() >= len(self.manifest.classes):
            raise IntegrityError(f"{path} has no state, or a label outside the classes: export the bundle again")
        return golden


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_ref(path: Path) -> FileRef:
    """Describe a file of a bundle's folder."""
    return FileRef(path=path.name, sha256=sha256_of(path), size=path.stat().st_size)
