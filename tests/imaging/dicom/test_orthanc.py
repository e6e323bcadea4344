"""A DICOM archive, Debian's Orthanc, on this machine: images are stored, found, fetched, verified and used as masks."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the extra dicom is not installed")
pytest.importorskip("highdicom", reason="the extra dicom is not installed")

import pydicom

from tests.bundles import TINY, copy_bundle, edit_manifest
from tests.commands import run_command
from tests.imaging.dicom.dicoms import segmentation, turned

TOOLS = {name: shutil.which(name) for name in ("Orthanc", "storescu", "findscu", "getscu")}
NAMES = ["cavity", "myocardium", "right ventricle"]
ARCHIVE, HERE = "ARCHIVE", "SEGGDTEST"
STARTS, WAIT_S, ENDS_S = 3, 60, 30
"""How often a start is tried, as another program may take the free port meanwhile; then it is no use waiting longer."""


@dataclass(frozen=True)
class Archive:
    """A running Orthanc, spoken to by dcmtk."""

    port: int

    def call(self, tool: str, *options: str | Path) -> None:
        command = [TOOLS[tool], "-aet", HERE, "-aec", ARCHIVE, "127.0.0.1", str(self.port), *options]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def find(self, folder: Path, level: str, **keys: str) -> list[pydicom.Dataset]:
        folder.mkdir()
        self.call("findscu", "-S", "-X", "-od", folder, *as_options(level, keys))
        return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]

    def fetch(self, folder: Path, **keys: str) -> Path:
        folder.mkdir()
        self.call("getscu", "-S", "-od", folder, *as_options("SERIES", keys))
        return folder


def as_options(level: str, keys: dict[str, str]) -> list[str]:
    stated = {"QueryRetrieveLevel": level, **keys}
    return [part for key, value in stated.items() for part in ("-k", f"{key}={value}")]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    missing = sorted(name for name, found in TOOLS.items() if found is None)
    if missing:
        pytest.skip(f"{', '.join(missing)} cannot be found: install Debian's orthanc and dcmtk")
    folder = tmp_path / "archive"
    folder.mkdir()
    for _ in range(STARTS):
        port = free_port()
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([str(TOOLS["Orthanc"]), configure(folder, port)], stdout=log, stderr=log)
        try:
            if listens(server, port):
                yield Archive(port)
                return
        finally:
            server.terminate()
            try:
                server.wait(ENDS_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    pytest.fail((folder / "log").read_text(errors="replace"))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def configure(folder: Path, port: int) -> Path:
    """Write a configuration that lets nobody in but the tools of this test, on this machine."""
    path = folder / "orthanc.json"
    stated = {
        "Name": ARCHIVE,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "HttpServerEnabled": False,
        "DicomAet": ARCHIVE,
        "DicomPort": port,
        "DicomCheckCalledAet": True,
        "DicomCheckModalityHost": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomModalities": {
            "here": {"AET": HERE, "Host": "127.0.0.1", "Port": port, "AllowStore": True, "AllowFind": True,
                     "AllowGet": True}
        },
    }  # fmt: skip
    path.write_text(json.dumps(stated))
    return path


def listens(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a server accepts connections; say whether it does, or has ended."""
    until = time.monotonic() + WAIT_S
    while server.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def labels() -> Any:
    volume = np.zeros((4, 24, 32), np.uint8)
    for index in range(4):
        volume[index, 3 + index : 9, 4:20], volume[index, 12:, 20:] = 1, 2
    return volume


def test_images_go_to_an_archive_and_come_back(tmp_path: Path, archive: Archive, needs_onnxruntime: None) -> None:
    bundle = copy_bundle(TINY, tmp_path)
    edit_manifest(bundle, {"modality": "CT"})
    mask = segmentation(tmp_path / "mask.dcm", labels(), NAMES, turned([0.1, -0.2, np.pi]))
    how = ("--steps", 2, "--engine", "onnxruntime")
    assert run_command("generate", bundle, "--mask", mask, "-o", tmp_path / "out", *how).code == 0
    (folder,) = (each for each in (tmp_path / "out").iterdir() if each.is_dir())
    written = {data.SOPInstanceUID: data for data in map(pydicom.dcmread, folder.rglob("*.dcm"))}

    archive.call("storescu", "+sd", "+r", "-R", folder)

    study = next(iter(written.values())).StudyInstanceUID
    (found,) = archive.find(tmp_path / "study", "STUDY", StudyInstanceUID=study, PatientName="", PatientID="")
    assert found.PatientName == "SYNTHETIC^SEGGD-RT"
    keys = {"SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": ""}
    series = archive.find(tmp_path / "series", "SERIES", StudyInstanceUID=study, **keys)
    by_kind = {each.Modality: each for each in series}
    assert {kind: int(each.NumberOfSeriesRelatedInstances) for kind, each in by_kind.items()} == {"CT": 4, "SEG": 1}
    images, label_maps = (
        archive.fetch(tmp_path / kind, StudyInstanceUID=study, SeriesInstanceUID=by_kind[kind].SeriesInstanceUID)
        for kind in ("CT", "SEG")
    )
    fetched = {data.SOPInstanceUID: data for data in map(pydicom.dcmread, (*images.iterdir(), *label_maps.iterdir()))}
    assert fetched == written

    ended = run_command("verify", images, bundle, "--mask", mask, "--engine", "onnxruntime")
    assert ended.code == 0, ended.err

    (label_map,) = label_maps.iterdir()
    again = label_map.rename(tmp_path / "again.dcm")
    assert run_command("generate", bundle, "--mask", again, "-o", tmp_path / "out2", *how).code == 0
    first, second = (sorted((tmp_path / name).glob("*/images/*.dcm")) for name in ("out", "out2"))
    for one, other in zip(first, second, strict=True):
        one_image, other_image = pydicom.dcmread(one), pydicom.dcmread(other)
        np.testing.assert_array_equal(one_image.pixel_array, other_image.pixel_array)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
            assert one_image[keyword].value == other_image[keyword].value
