"""What is carried to a host without a network: other GPUs' code left out, and parts that make the whole again."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu import pack
from seggd_rt.errors import DataError


def fatbin(*entries: tuple[int, int, bytes]) -> bytes:
    """Return a fat binary of entries: kind, architecture, code."""
    body = b""
    for kind, architecture, code in entries:
        header = struct.pack("<HHIQ12xI", kind, 0x101, 64, len(code), architecture)
        body += header.ljust(64, b"\1") + code
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_code_for_other_gpus_becomes_zeroes_and_nothing_moves() -> None:
    library = (
        b"ELF"
        + fatbin((2, 80, b"AAAA"), (2, 90, b"BBBB"), (1, 90, b"ptx."))
        + b"mid"
        + fatbin((2, 120, b"CC"))
        + b"end"
    )
    found = pack.without_other_gpus(library, 90)
    assert found == library.replace(b"AAAA", bytes(4)).replace(b"ptx.", bytes(4)).replace(b"CC", bytes(2))
    assert b"BBBB" in found


def test_a_library_without_code_for_the_gpu_is_refused() -> None:
    with pytest.raises(DataError, match="has code for 80, 120 and none for 103"):
        pack.without_other_gpus(fatbin((2, 80, b"AAAA"), (2, 120, b"BBBB"), (1, 103, b"ptx.")), 103)


def test_a_number_that_only_looks_like_a_fat_binary_is_left_alone() -> None:
    library = struct.pack("<IHHQ", 0xBA55ED50, 7, 16, 1000) + b"code"
    assert pack.without_other_gpus(library, 90) == library


def test_parts_make_the_packages_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = bytes(range(256)) * 400

    def download(packages: tuple[str, ...], folder: Path, python: str) -> list[Path]:
        assert (packages, python) == (pack.PACKAGES, "3.12")
        wheels = []
        for name, content in (("big-1-py3.whl", noise), ("tiny-1-py3.whl", b"x = 1\n")):
            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.writestr(f"{name.split('-')[0]}/__init__.py", content)
            wheels.append(folder / name)
        return wheels

    monkeypatch.setattr(pack, "download", download)
    monkeypatch.setattr(pack, "_LARGE", 10_000)
    assert pack.main([str(tmp_path), "--part-mib", "0.0003"]) == 0
    parts = sorted(path.name for path in tmp_path.iterdir())
    assert len([name for name in parts if name.startswith("big-")]) > 1
    for name, expected in (("big", noise), ("small", b"x = 1\n")):
        whole = b"".join(path.read_bytes() for path in sorted(tmp_path.glob(f"{name}*")))
        with tarfile.open(fileobj=io.BytesIO(whole), mode="r:xz") as archive:
            file = archive.extractfile(f"./{'big' if name == 'big' else 'tiny'}/__init__.py")
            assert file is not None
            assert file.read() == expected
