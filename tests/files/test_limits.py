"""Regular files alone, of a limited size, and values that are not nested without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seggd_rt.files import check_nesting, open_regular, read_file
from seggd_rt.files.limits import MAX_NESTING


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with open_regular(path) as file:
        assert file.read() == b"12345"
    for limit, shown in {1024: "1 KiB", 2048: "2 KiB", 3 << 20: "3 MiB"}.items():
        os.truncate(path, limit + 1)
        with pytest.raises(OSError, match=f"it is over {shown}"):
            read_file(path, limit)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").symlink_to("a")
    assert read_file(tmp_path / "b", 9) == b"12345"


def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(OSError, match="it is a pipe or a device, and no file"):
            open_regular(path)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value, "b": 1}])
def test_nesting_has_an_end(wrap: object) -> None:
    value: object = "x"
    for _ in range(MAX_NESTING):
        value = wrap(value)  # type: ignore[operator]
    check_nesting(value)
    check_nesting([1] * 1000)
    with pytest.raises(ValueError, match="more than 32 levels deep"):
        check_nesting(wrap(value))  # type: ignore[operator]
