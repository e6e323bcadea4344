"""What is fuzzed: readers of files that others made. Any bytes give a result or a `SeggdError`, and nothing else.

A new target is one function that reads bytes, its seeds, and a line in `TARGETS`.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from seggd_rt.bundle import Bundle, SigningKey
from seggd_rt.bundle.manifest import parse_manifest
from seggd_rt.bundle.onnx_data import external_data
from seggd_rt.bundle.signing import PublicKey, read_signature
from seggd_rt.errors import SeggdError
from seggd_rt.imaging import Fit, ImageStack, Provenance, Reading, dump, parse, read_real, require_reader, writer_of
from seggd_rt.imaging.npy import NpyWriter
from seggd_rt.imaging.png import PngWriter
from seggd_rt.reports.evaluation_report import read_evaluation
from seggd_rt.runs import Record, checked, fitted
from seggd_rt.runs.records import MANIFEST, ManifestFile
from tests.paths import GOLDEN

TINY = Bundle.open(GOLDEN / "tiny.seggd").manifest
SEEN = msgspec.structs.replace(TINY, intensity_range=(-1000.0, 1000.0))
LABELS = np.random.default_rng(0).integers(0, 4, (6, 5)).astype(np.uint8)
SLICES = 3
"""Of a stack or volume, at most so many are read."""
MADE = Provenance(
    seed=7, classes=("cavity",), mask_sha256="c" * 64, sampler="ddim", steps=50, eta=0.0, spacing="leading",
    guidance=0.0, against=None, at=None, engine="onnxruntime", precision="fp32", bundle="0" * 64, version="0.1.0",
)  # fmt: skip

Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """A reader of bytes, valid bytes to begin with, and the packages it needs beside the runtime's own."""

    read: Read
    seeds: Callable[[], list[bytes]]
    needs: tuple[str, ...] = ()

    def run(self, data: bytes) -> bool:
        """Read bytes; say whether they gave a result and no `SeggdError`. Whatever else is raised is a defect."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.read(data)
            except SeggdError as error:
                assert str(error), "an error says something"
                return False
        return True


@contextmanager
def file_of(data: bytes, name: str) -> Iterator[Path]:
    """Give a file of these bytes in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


def label_maps(suffix: str, repair: Callable[[bytes], bytes] | None = None) -> Read:
    """Return what reads label maps as a run does; of bytes whose checksums are repaired too."""

    def read(data: bytes) -> None:
        with file_of(data, f"m{suffix}") as path:
            file = require_reader(path).open(path, Reading())
            for index in range(min(len(file), SLICES)):
                fitted(file, checked(file, index, TINY), TINY, Fit.LETTERBOX)

    return read if repair is None else both(read, repair)


def real_image(suffix: str, repair: Callable[[bytes], bytes] | None = None) -> Read:
    def read(data: bytes) -> None:
        with file_of(data, f"r{suffix}") as path:
            pixels = read_real(path, SEEN, Reading(index=0, fit=Fit.LETTERBOX))
            assert pixels.shape == (24, 32)

    return read if repair is None else both(read, repair)


def making(suffix: str, repair: Callable[[bytes], bytes] | None = None) -> Read:
    def read(data: bytes) -> None:
        with file_of(data, f"i{suffix}") as path:
            assert writer_of(path).made(path)

    return read if repair is None else both(read, repair)


def making_beside(data: bytes) -> None:
    """Read the record beside an .npy."""
    with file_of(data, "i.npy.json") as beside:
        path = beside.with_name("i.npy")
        np.save(path, np.zeros((1, 6, 5), np.float32))
        assert NpyWriter().made(path)


def both(read: Read, repair: Callable[[bytes], bytes]) -> Read:
    def twice(data: bytes) -> None:
        try:
            read(data)
        except SeggdError:
            read(repair(data))

    return twice


def signature(data: bytes) -> None:
    with file_of(data, "bundle.sig") as path:
        found = read_signature(path.parent)
        if found is not None:
            found.holds(b"{}")
            assert len(found.fingerprint) == 64


def key(data: bytes) -> None:
    with file_of(data, "K.pem") as path:
        (SigningKey if b"PRIVATE" in data else PublicKey).read(path)


def onnx(data: bytes) -> None:
    external_data(data, "unet.onnx")


def report(data: bytes) -> None:
    with file_of(data, "report.json") as path:
        read_evaluation(path)


def records(data: bytes) -> None:
    with file_of(data, MANIFEST) as path:
        ManifestFile(path.parent).records()


def with_checksums(data: bytes) -> bytes:
    """Return a PNG whose chunks have the checksums of what they hold, so that more than those is tried."""
    at, parts = 8, [data[:8]]
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        content = data[at + 4 : at + 8 + size]
        parts.append(data[at : at + 4] + content + struct.pack(">I", zlib.crc32(content)))
        at += 12 + size
    return b"".join(parts) + data[at:]


def _png(pixels: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, format="PNG", **options)
    return buffer.getvalue()


def _label_pngs() -> list[bytes]:
    palette = Image.fromarray(LABELS).convert("P")
    return [
        _png(LABELS),
        _png(LABELS.astype(np.uint16)),
        _png(palette, bits=2, transparency=1),
        _png(LABELS, dpi=(72, 72), icc_profile=b"profile" * 9),
        _png(palette, save_all=True, append_images=[palette]),
    ]


def _real_pngs() -> list[bytes]:
    return [
        _png(LABELS * 80),
        _png(LABELS.astype(np.uint16) * 20000),
        _png(np.stack([LABELS * 80] * 3, -1)),
        _made_png(),
    ]


def _made_png() -> bytes:
    with file_of(b"", "i.png") as path:
        with PngWriter().create(path, ImageStack(1, 6, 5, 1)) as file:
            file.append(np.zeros((6, 5), np.float32), MADE)
        return path.read_bytes()


def _npys(*arrays: np.ndarray) -> list[bytes]:
    buffers = [io.BytesIO() for _ in arrays]
    for buffer, array in zip(buffers, arrays, strict=True):
        np.save(buffer, array)
    return [buffer.getvalue() for buffer in buffers]


def _niftis(suffix: str) -> list[bytes]:
    import nibabel as nib

    volume = np.random.default_rng(0).integers(0, 4, (4, 5, 3))
    made = nib.Nifti1Image(volume.astype(np.float32), np.diag([1.0, 2.0, 3.0, 1.0]))
    made.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"seggd-rt " + dump([MADE] * 3)))
    dicom = nib.Nifti1Image(volume.astype(np.uint8), np.eye(4))
    dicom.header.extensions.append(nib.nifti1.Nifti1Extension(2, b"\x10\0\x10\0PN\4\0Anon"))
    scaled = nib.Nifti1Image(volume.astype(np.int16), np.eye(4))
    scaled.header.set_slope_inter(2, 1)
    images = [made, dicom, scaled, nib.Nifti2Image(volume.astype(np.int16), np.eye(4))]
    found = []
    for image in images:
        with file_of(b"", f"v{suffix}") as path:
            nib.save(image, path)
            found.append(path.read_bytes())
    return found


def _dicoms(*kinds: str) -> list[bytes]:
    """Return DICOM as the tests of its reader write it, and as its writer does."""
    from tests.imaging.dicom.dicoms import AXIAL, MR, save, segmentation, slice_object

    names = [each.name for each in TINY.classes[1:]]
    volume = np.stack([LABELS, LABELS[::-1]])
    found = []
    for kind in kinds:
        with file_of(b"", "d.dcm") as path:
            if kind in ("BINARY", "LABELMAP"):
                segmentation(path, volume, names, kind=kind)
            elif kind == "inverted":
                save(slice_object(LABELS.astype(np.int16), AXIAL, 0, MR, PhotometricInterpretation="MONOCHROME1"), path)
            else:
                save(slice_object(LABELS, AXIAL, 0), path)
            if kind == "made":
                stack = ImageStack(1, 24, 32, 1, SEEN, require_reader(path).open(path, Reading()))
                writer = writer_of(path)
                with writer.create(path.with_name("i.dcm"), stack) as file:
                    file.append(np.zeros((24, 32), np.float32), MADE)
                path = path.with_name("i.dcm")
            found.append(path.read_bytes())
    return found


def _signatures() -> list[bytes]:
    with file_of(b"", "none") as path:
        signing_key, _ = SigningKey.create(path.with_name("K.pem"))
        return [signing_key.sign(b"{}").to_json()]


def _keys() -> list[bytes]:
    with file_of(b"", "none") as path:
        SigningKey.create(path.with_name("K.pem"))
        SigningKey.create(path.with_name("E.pem"), "secret")
        return [path.with_name(name).read_bytes() for name in ("K.pem", "K.pub", "E.pem")]


def _reports() -> list[bytes]:
    estimate = {"mean": 0.5, "low": 0.4, "high": 0.6, "count": 9}
    figures = {"classes": [{"name": "cavity", "dice": estimate}], "dice": estimate}
    beside = {"generated": estimate, "real": estimate}
    apart = {"ratio": estimate, "nearer_than_near": estimate, "nearer_than_all": estimate}
    stated = {
        "schema": "seggd-evaluation/2",
        "bundle": {"name": "tiny", "sha256": "0" * 64},
        "data": {"name": "a.npz", "split": "val", "images": 9, "patients": None},
        "generation": {
            "sampler": "ddim",
            "steps": 50,
            "seed": 0,
            "engine": {"engine": "openvino", "version": "1", "precision": "bf16", "device_name": "a CPU"},
        },
        "generated": figures,
        "real": figures,
        "realism": {"frechet": beside, "similarity": beside, "other": {"graph": "g", "frechet": beside}},
        "ablation": [{"size": 1, "given": estimate, "others": None}],
        "memorisation": {"pixels": apart, "features": apart, "copies": 0, "real_copies": 0, "images": 1234},
        "notes": ["a note"],
    }
    return [json.dumps(stated).encode()]


def _records() -> list[bytes]:
    where = {"file": "a_7.png", "file_index": None, "mask": "a.png", "mask_index": 2, "noise": None, "real": None}
    line = Record(**msgspec.structs.asdict(MADE), **where).to_json()  # type: ignore[arg-type]
    return [f"{line}\n{line}\n".encode(), f"{line}\n{line[:40]}".encode()]


def _bundle_files(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob(f"*.seggd/{name}"))]


NIFTI, DICOM, SIGN = ("nibabel",), ("pydicom", "highdicom"), ("cryptography",)
TARGETS = {
    "manifest": Target(parse_manifest, lambda: _bundle_files("bundle.json")),
    "onnx": Target(onnx, lambda: _bundle_files("unet.fp32.onnx")),
    "png": Target(label_maps(".png", with_checksums), _label_pngs),
    "png-real": Target(real_image(".png", with_checksums), _real_pngs),
    "npy": Target(label_maps(".npy"), lambda: _npys(LABELS, LABELS[None].astype(">i4"), np.asfortranarray(LABELS))),
    "npy-real": Target(real_image(".npy"), lambda: _npys(LABELS * 80, LABELS / 3, (LABELS > 1)[..., None])),
    "nifti": Target(label_maps(".nii"), lambda: _niftis(".nii"), NIFTI),
    "nifti-packed": Target(label_maps(".nii.gz"), lambda: _niftis(".nii.gz"), NIFTI),
    "nifti-real": Target(real_image(".nii"), lambda: _niftis(".nii"), NIFTI),
    "provenance": Target(lambda data: parse(data, "image"), lambda: [dump([MADE]), dump([MADE] * 3)]),
    "made-png": Target(making(".png", with_checksums), lambda: [_made_png()]),
    "made-npy": Target(making_beside, lambda: [dump([MADE])]),
    "made-nifti": Target(making(".nii"), lambda: _niftis(".nii"), NIFTI),
    "dicom": Target(label_maps(".dcm"), lambda: _dicoms("slice"), DICOM),
    "dicom-segmentation": Target(label_maps(".dcm"), lambda: _dicoms("BINARY", "LABELMAP"), DICOM),
    "dicom-real": Target(real_image(".dcm"), lambda: _dicoms("slice", "inverted", "made"), DICOM),
    "made-dicom": Target(making(".dcm"), lambda: _dicoms("made"), DICOM),
    "signature": Target(signature, _signatures, SIGN),
    "key": Target(key, _keys, SIGN),
    "report": Target(report, _reports),
    "records": Target(records, _records),
}
