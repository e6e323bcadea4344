"""The bundle: the one thing that passes from export to every runtime.

A folder `NAME.seggd/` with `bundle.json` (schema `seggd-bundle/1`), one ONNX graph a precision, and
`check.safetensors`, the golden states by which every engine checks itself. The manifest names every other file with its
SHA-256, so the bundle's hash is the SHA-256 of `bundle.json`. Files are read into memory and hashed there, and engines
get those bytes: what runs is what the manifest states, whatever happens to the folder meanwhile.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MEANING_KEY,
    SIGNATURE,
    FileRef,
    Graph,
    Manifest,
    Meaning,
    SegmenterGraph,
    parse_manifest,
)
from seggd_rt.bundle.onnx_data import external_data
from seggd_rt.bundle.onnx_graph import OnnxGraph
from seggd_rt.bundle.signing import PublicKey, SignatureState, SigningKey, Standing, read_signature
from seggd_rt.diffusion import Precision
from seggd_rt.errors import BundleError, IntegrityError, ManifestError, MissingExtraError, OutputError
from seggd_rt.files import check_regular, decode, open_regular, read_file, write_file

_GOLDEN_TYPES = {
    **dict.fromkeys(("noise", "states", "outputs", "image"), "F32"),
    "label_map": "U8",
    "timesteps": "I64",
}
"""The tensors of `check.safetensors`, by the format's names of their types."""


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
    """An opened bundle: its folder, its manifest and the manifest's SHA-256.

    Attributes
    ----------
    signer
        The SHA-256 of the public key whose signature was required, and holds; None where none was.
    """

    path: Path
    manifest: Manifest
    sha256: str
    signer: str | None = None
    _manifest_bytes: bytes = field(default=b"", repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path, *, require_signature: str | Path | None = None) -> Bundle:
        """Open a bundle's folder.

        Parameters
        ----------
        path
            The folder.
        require_signature
            An Ed25519 public key, PEM: the bundle must be signed by it.

        Raises
        ------
        BundleError
            There is no bundle there, or none that can be read; its manifest is not valid, or follows a newer schema.
        SignatureError
            The signature that is required is missing, another key's, or does not hold.
        DataError
            There is no such public key.
        """
        folder = Path(path)
        key = None if require_signature is None else PublicKey.read(Path(require_signature))
        manifest = folder / MANIFEST
        try:
            if not folder.is_dir() or not manifest.is_file():
                raise BundleError(
                    f"{folder} is not a bundle: it must be a folder with {MANIFEST} in it (seggd-rt export)"
                )
            with open_regular(_inside(folder, MANIFEST), follow=False) as file:
                data = file.read(MAX_MANIFEST_BYTES + 1)
        except OSError as error:
            raise BundleError(f"{manifest} cannot be read ({error.strerror or error})") from error
        if len(data) > MAX_MANIFEST_BYTES:
            raise ManifestError(f"{manifest} is over {MAX_MANIFEST_BYTES >> 20} MiB: it cannot be a manifest")
        if key is not None:  # before anything in it is read
            key.require(read_signature(folder), data, folder)
        return cls(
            path=folder,
            manifest=parse_manifest(data, str(manifest)),
            sha256=hashlib.sha256(data).hexdigest(),
            signer=None if key is None else key.fingerprint,
            _manifest_bytes=data,
        )

    def __getstate__(self) -> Mapping[str, Any]:
        """Leave behind what was verified: another process verifies for itself."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_check_bytes", "golden")}

    def sign(self, key: SigningKey, *, force: bool = False) -> Path:
        """Verify every file, sign the manifest, which hashes them all, and write `bundle.sig`.

        Parameters
        ----------
        key
            Whose signature it is to be.
        force
            Whether another signature may be replaced.

        Returns
        -------
        Path
            Where the signature lies.

        Raises
        ------
        IntegrityError
            The bundle is not whole.
        OutputError
            There is another signature, or none can be written.
        """
        self.verify()
        path, data = self.path / SIGNATURE, key.sign(self._manifest_bytes).to_json()

        def may_replace() -> None:
            if not force and not _holds(path, data):
                raise OutputError(f"{path} already holds another signature: replace it with --force")

        check_regular(path)
        if path.exists():
            may_replace()
        try:
            write_file(path, data, may_replace=may_replace)
        except OutputError as error:
            if error.__cause__ is None:
                raise
            raise OutputError(f"{self.path} cannot be written to: sign a copy of it ({error.__cause__})") from error
        return path

    @property
    def signature_state(self) -> SignatureState:
        """How its signature stands.

        Raises
        ------
        SignatureError
            Its file cannot be read.
        """
        found = read_signature(self.path)
        if found is None:
            return SignatureState(standing=Standing.NONE)
        try:
            standing = Standing.HOLDS if found.holds(self._manifest_bytes) else Standing.BROKEN
        except MissingExtraError:
            standing = Standing.UNCHECKED
        return SignatureState(
            standing=standing, key_sha256=found.fingerprint, required=found.fingerprint == self.signer
        )

    def read(self, ref: FileRef) -> bytes:
        """Return the bytes of a file, which are those that the manifest states.

        Raises
        ------
        IntegrityError
            The file is missing or cannot be read, lies outside the folder, or its size or SHA-256 is another.
        """
        path = self.path / ref.path
        try:
            if not path.is_file():
                raise IntegrityError(f"{path} is missing: copy or export the bundle again")
            with open_regular(_inside(self.path, ref.path), follow=False) as file:
                # Its length first: no more is read than the manifest states, however long the file is.
                data = file.read(ref.size) if os.fstat(file.fileno()).st_size == ref.size else None
        except OSError as error:
            raise IntegrityError(
                f"{path} cannot be read ({error.strerror or error}): make it readable, or copy the bundle again"
            ) from error
        if data is None or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise IntegrityError(f"{path} was changed after export (its SHA-256 differs): copy it again")
        return data

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
                size = _inside(self.path, ref.path).stat().st_size if path.is_file() else None
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
            self.read_segmenter()
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

        Whoever may write to the folder can change them afterwards: engines get what `read_graph` returns.

        Raises
        ------
        IntegrityError
            A file is missing or changed, or the graph is not plain or names external data that the manifest does not.
        """
        return self.path / self.read_graph(graph).name

    def read_graph(self, graph: Graph) -> OnnxGraph:
        """Return a graph and its external data in memory, verified.

        Raises
        ------
        IntegrityError
            A file is missing or changed, or the graph is not plain or names external data that the manifest does not.
        """
        return self._onnx_graph(graph.files)

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
        return self.path / self._onnx_graph(loop.files, control_flow=True).name

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

    def read_segmenter(self) -> OnnxGraph:
        """Return `segmenter.onnx`, which finds the classes in images, in memory and verified.

        Raises
        ------
        BundleError
            The bundle has none.
        IntegrityError
            A file is missing or changed, or the graph is not plain or names external data that the manifest does not.
        """
        return self._onnx_graph(self.segmenter.files)

    def _onnx_graph(self, files: tuple[FileRef, ...], *, control_flow: bool = False) -> OnnxGraph:
        """Return a graph, the first of some files; the others are its external data."""
        first, *others = files
        path, model = self.path / first.path, self.read(first)
        sizes = {ref.path: ref.size for ref in others}
        needed = external_data(model, str(path), control_flow=control_flow)
        unlisted = sorted(needed.keys() - sizes.keys())
        if unlisted:
            raise IntegrityError(
                f"{path} names external data that the manifest does not list ({', '.join(unlisted)}): "
                "export the bundle again"
            )
        short = [location for location, size in needed.items() if size > sizes[location]]
        if short:
            raise IntegrityError(
                f"{path} needs more external data than there is in {short[0]}: export the bundle again"
            )
        return OnnxGraph(first.path, self.path.resolve().name, model, {ref.path: self.read(ref) for ref in others})

    def check_file(self) -> Path:
        """Return the path of the golden run after verifying it, and that the manifest means what it did at export.

        Raises
        ------
        IntegrityError
            The file is missing or changed, or the manifest was edited.
        """
        from safetensors import SafetensorError, deserialize

        path, data = self.path / self.manifest.check.file.path, self._check_bytes
        try:
            deserialize(data)  # type: ignore[no-untyped-call]  # what is not whole is refused: nothing in it may be believed
            header = decode(data[8 : 8 + int.from_bytes(data[:8], "little")])
        except (SafetensorError, ValueError) as error:
            raise IntegrityError(f"{path} does not hold a golden run ({error}): export the bundle again") from error
        tensors = {name: stated["dtype"] for name, stated in header.items() if name != "__metadata__"}
        if tensors != _GOLDEN_TYPES:
            listed = ", ".join(f"{name} {dtype}" for name, dtype in sorted(tensors.items()))
            raise IntegrityError(
                f"{path} does not hold the tensors of a golden run ({listed}): export the bundle again"
            )
        stated = (header.get("__metadata__") or {}).get(MEANING_KEY)
        if stated is None:
            raise IntegrityError(
                f"{path} does not say what {MANIFEST} meant at export, as a development version wrote it: "
                "export the bundle again"
            )
        try:
            meaning = decode(stated, Meaning)
        except ValueError as error:
            problem = f"{path} has a damaged record of {MANIFEST} ({error})"
            raise IntegrityError(f"{problem}: export the bundle again") from error
        if meaning != self.manifest.meaning:
            raise IntegrityError(
                f"{self.path / MANIFEST} was edited after export: its image, classes, mask, schedule, intensity range, "
                "defaults or check steps are not those the network was exported with. Copy or export the bundle again"
            )
        return path

    @cached_property
    def _check_bytes(self) -> bytes:
        return self.read(self.manifest.check.file)

    @cached_property
    def golden(self) -> Golden:
        """The golden run.

        Raises
        ------
        IntegrityError
            Its file is missing or changed, or does not hold what the manifest says; or the manifest was edited.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self.check_file()
        try:
            golden = Golden(**load(self._check_bytes))
        except (SafetensorError, ValueError) as error:  # a ValueError of a size that NumPy cannot take
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


def _holds(path: Path, data: bytes) -> bool:
    """Say whether a file can be read and has these bytes."""
    try:
        return read_file(path, len(data)) == data
    except OSError:
        return False


def _inside(folder: Path, name: str) -> Path:
    """Return where a file of a bundle's folder lies, links followed.

    Raises
    ------
    IntegrityError
        It lies elsewhere.
    """
    path = (folder / name).resolve()
    if path.parent != folder.resolve():
        raise IntegrityError(
            f"{folder / name} is a link that leaves the bundle's folder: copy the bundle with the files that its links "
            "lead to"
        )
    return path


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_ref(path: Path) -> FileRef:
    """Describe a file of a bundle's folder."""
    return FileRef(path=path.name, sha256=sha256_of(path), size=path.stat().st_size)
