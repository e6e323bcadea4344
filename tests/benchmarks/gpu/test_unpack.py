"""What is carried in parts is whole again, or not there at all."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu import pack
from benchmarks.gpu.unpack import archives, main

NOISE = bytes(range(256)) * 400


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Parts of a large package and of a small one."""

    def download(packages: tuple[str, ...], folder: Path, python: str) -> list[Path]:
        for name, content in (("big-1-py3.whl", NOISE), ("tiny-1-py3.whl", b"x = 1\n")):
            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.writestr(f"{name.split('-')[0]}/__init__.py", content)
        return sorted(folder.glob("*.whl"))

    monkeypatch.setattr(pack, "download", download)
    monkeypatch.setattr(pack, "_LARGE", 10_000)
    assert pack.main([str(tmp_path / "packed"), "--part-mib", "0.0003"]) == 0
    return tmp_path / "packed"


def test_packages_are_there_again(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site"
    assert main([str(packed), str(site)]) == 0
    assert (site / "big" / "__init__.py").read_bytes() == NOISE
    assert (site / "tiny" / "__init__.py").read_bytes() == b"x = 1\n"
    assert "big: unpacked" in capsys.readouterr().out
    (site / "tiny" / "__init__.py").unlink()
    assert main([str(packed), str(site)]) == 0
    assert not (site / "tiny" / "__init__.py").exists()  # it is not unpacked again


def test_parts_may_come_later(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    came, site = tmp_path / "came", tmp_path / "site"
    shutil.copytree(packed, came)
    (came / "big-01").unlink()
    assert main([str(came), str(site)]) == 0
    assert not (site / "big").exists()
    total = len(archives((packed / pack.CHECKSUMS).read_text("utf-8"))["big"])
    assert f"big: {total - 1} of {total} parts are here" in capsys.readouterr().out
    shutil.copy(packed / "big-01", came)
    assert main([str(came), str(site)]) == 0
    assert (site / "big" / "__init__.py").read_bytes() == NOISE


def test_a_damaged_part_is_refused(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((packed / "big-00").read_bytes())
    content[10] ^= 1
    (packed / "big-00").write_bytes(content)
    assert main([str(packed), str(tmp_path / "site")]) == 1
    assert "big-00 has a wrong checksum: copy it to this machine again" in capsys.readouterr().err
    assert not (tmp_path / "site" / "big").exists()
    assert (tmp_path / "site" / "tiny").exists()


def test_without_parts_the_machine_has_its_own_packages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), str(tmp_path / "site")]) == 0
    assert "only the packages of this machine" in capsys.readouterr().out


def test_the_checksums_are_those_of_sha256sum(packed: Path) -> None:
    found = archives("a1  small.tar.xz\nb2  big-pack-00\nc3  big-pack-01\n")
    assert found == {"small": {"small.tar.xz": "a1"}, "big-pack": {"big-pack-00": "b2", "big-pack-01": "c3"}}
