"""Files appear whole or not at all."""

from __future__ import annotations

import os
import resource
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seggd_rt.atomic import (
    NewFile,
    NewFolder,
    check_writable,
    make_folder,
    remove_partial_files,
    write_file,
    write_new_file,
)
from seggd_rt.errors import OutputError


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: to a writer, the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Give a folder that may be read but not written, also where the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)
            Path(name).chmod(0o755)


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with NewFile(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_entering_leaves_nothing_that_an_interrupt_could_strand(tmp_path: Path) -> None:
    with NewFile(tmp_path / "file") as file:
        assert not list(tmp_path.iterdir())
        file.write(b"now")
        assert [path.name for path in tmp_path.iterdir()] == [".file.part"]


def test_a_file_of_nothing_is_a_file(tmp_path: Path) -> None:
    with NewFile(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_an_error_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), NewFile(tmp_path / "file") as file:
        file.write(b"half")
        raise error
    assert not list(tmp_path.iterdir())


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"")
    (tmp_path / "usual").touch()
    modes = {stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_part_left_by_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".file.part").write_bytes(b"left over, and longer")
    write_file(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"safe")
    (tmp_path / ".file.part").symlink_to(victim)
    write_file(tmp_path / "file", b"whole")
    assert victim.read_bytes() == b"safe"


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_full_disk(size: int, tmp_path: Path) -> None:
    # Small data fail when the file is closed, large ones when they are written.
    with file_size_limit(10), pytest.raises(OutputError, match=r"cannot be written \(File too large\)"):
        write_file(tmp_path / "file", bytes(size))
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/seggd")):
        with pytest.raises(OutputError, match=r"cannot be written .*choose another place with -o"):
            check_writable(folder)
        with pytest.raises(OutputError):
            make_folder(folder)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError):
        check_writable(tmp_path / "link")
    with unprivileged() as folder:
        for place in (folder, folder / "new"):
            with pytest.raises(OutputError, match="Permission denied"):
                check_writable(place)
        with pytest.raises(OutputError, match="Permission denied"):
            write_file(folder / "file", b"")


def test_finding_out_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_new_file(path, b"first", 0o600)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"first", 0o600)
    with pytest.raises(OutputError, match="is there already"):
        write_new_file(path, b"second")
    assert path.read_bytes() == b"first"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is there already"):
        write_new_file(tmp_path / "link", b"second")
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_leaves_no_new_file(tmp_path: Path) -> None:
    with file_size_limit(10), pytest.raises(OutputError, match="cannot be written"):
        write_new_file(tmp_path / "key", b"x" * 1000)
    assert list(tmp_path.iterdir()) == []


def test_partial_files_may_be_removed_from_another_thread(tmp_path: Path) -> None:
    (tmp_path / "done").write_bytes(b"whole")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        NewFolder(tmp_path / "folder", ends_in_x) as folder,
        NewFile(tmp_path / "done") as file,
    ):
        folder.write("a.x", b"1")
        file.write(b"half")
        watchdog = threading.Thread(target=remove_partial_files)
        watchdog.start()
        watchdog.join()
        assert [path.name for path in tmp_path.iterdir()] == ["done"]
    assert (tmp_path / "done").read_bytes() == b"whole"


def ends_in_x(path: Path) -> bool:
    return path.suffix == ".x"


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with NewFolder(tmp_path / "new", ends_in_x) as folder:
        assert not list(tmp_path.iterdir())
        folder.write("a.x", b"1")
        assert [path.name for path in tmp_path.iterdir()] == [".new.part"]
    assert (tmp_path / "new" / "a.x").read_bytes() == b"1"
    with pytest.raises(KeyboardInterrupt), NewFolder(tmp_path / "new", ends_in_x) as folder:
        folder.write("b.x", b"2")
        raise KeyboardInterrupt
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["new", "new/a.x"]


def test_a_new_folder_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    for name in (".new.part", ".new.old.part"):  # as killed processes leave them
        (tmp_path / name).mkdir()
        (tmp_path / name / "left.x").touch()
    for data in (b"1", b"2"):
        with NewFolder(tmp_path / "new", ends_in_x) as folder:
            folder.write(f"{data.decode()}.x", data)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["new", "new/2.x"]


def test_a_folder_of_folders_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    for data in (b"1", b"2"):
        with NewFolder(tmp_path / "new", ends_in_x) as folder:
            folder.write("one/a.x", data)
            folder.write("other/b.x", data)
    assert (tmp_path / "new" / "one" / "a.x").read_bytes() == b"2"
    assert (tmp_path / "new" / "other" / "b.x").read_bytes() == b"2"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("kind", ["link", "empty"])
def test_a_folder_of_somebody_else_in_it_is_never_replaced(tmp_path: Path, kind: str) -> None:
    (tmp_path / "new" / "one").mkdir(parents=True)
    (tmp_path / "new" / "one" / "a.x").touch()
    (tmp_path / "theirs").mkdir()
    if kind == "link":
        (tmp_path / "new" / "other").symlink_to(tmp_path / "theirs")
    else:
        (tmp_path / "new" / "other").mkdir()
    with pytest.raises(OutputError, match="has its name"), NewFolder(tmp_path / "new", ends_in_x) as folder:
        folder.write("one/a.x", b"1")
    assert (tmp_path / "new" / "one" / "a.x").read_bytes() == b""
    assert (tmp_path / "new" / "other").exists()


@pytest.mark.parametrize("there", ["new/notes.txt", "new/deep/notes.txt", "new"])
def test_another_folder_or_file_is_never_replaced(tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(OutputError, match="has its name"), NewFolder(tmp_path / "new", ends_in_x) as folder:
        folder.write("a.x", b"1")
    assert path.read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.x").touch()
    (tmp_path / "new").symlink_to("real")
    (tmp_path / ".other.part").symlink_to("real")
    with pytest.raises(OutputError), NewFolder(tmp_path / "new", ends_in_x) as folder:
        folder.write("b.x", b"1")
    with NewFolder(tmp_path / "other", ends_in_x) as folder:
        folder.write("b.x", b"1")
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["a.x"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with file_size_limit(100), pytest.raises(OutputError, match="new cannot be written"):  # noqa: SIM117
        with NewFolder(tmp_path / "new", ends_in_x) as folder:
            folder.write("a.x", b"1")
            folder.write("b.x", b"2" * 200)
    assert not list(tmp_path.iterdir())
