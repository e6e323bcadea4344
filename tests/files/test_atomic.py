"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seggd_rt.errors import OutputError
from seggd_rt.files import (
    NewFile,
    NewFolder,
    append,
    check_output,
    check_writable,
    make_folder,
    remove_partial_files,
    write_file,
    write_new_file,
)

WRITER = """
import sys
from pathlib import Path
from seggd_rt.files.atomic import NewFile, NewFolder, write_file
path, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
"""
WRITE_FILES = f"{WRITER}for _ in range(20): write_file(path, name.encode() * 200_000)"
WRITE_FOLDERS = f"""{WRITER}
for _ in range(10):
    with NewFolder(path, lambda file: True) as folder:
        for number in range(3):
            folder.write(f"{{number}}", name.encode() * 1000)
"""
HOLD_OPEN = f"""{WRITER}
with NewFile(path) as file:
    file.write(name.encode())
    file.flush()
    print("open", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def writers(script: str, path: Path, names: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start a process for each letter, which gets past its first `readline` at the same time as the others."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    try:
        assert all(said(process) == "ready" for process in processes)
        for process in processes:
            go_on(process)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


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


def test_a_file_that_several_processes_write_at_once_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with writers(WRITE_FILES, path, "abcde") as processes:
        while any(process.poll() is None for process in processes):
            if path.exists():
                data = path.read_bytes()
                assert data == data[:1] * 200_000
        assert [process.returncode for process in processes] == [0] * 5
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_several_processes_write_at_once_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with writers(WRITE_FOLDERS, path, "abcd") as processes:
        assert [process.wait(60) for process in processes] == [0] * 4
    assert list(tmp_path.iterdir()) == [path]
    files = [file.read_bytes() for file in path.iterdir()]
    assert files == [files[0][:1] * 1000] * 3


def test_only_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with writers(HOLD_OPEN, path, "abc") as processes:
        assert [said(process) for process in processes] == ["open"] * 3
        assert len(list(tmp_path.iterdir())) == 3
        for process in processes[:2]:
            process.kill()
            process.wait()
        write_file(path, b"new")
        assert path.read_bytes() == b"new"
        assert len(list(tmp_path.iterdir())) == 2  # the live writer's part stays
        go_on(processes[2])
        assert processes[2].wait(60) == 0
    assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], b"c")


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_nothing_but_a_regular_file_is_replaced(kind: str, tmp_path: Path) -> None:
    path, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_bytes(b"safe")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(victim if kind == "link" else tmp_path / "nowhere")
    before = path.lstat()
    for use in (lambda: write_file(path, b"new"), lambda: append(path, b"new"), lambda: check_output(path)):
        with pytest.raises(
            OutputError, match=r"^\S*out cannot be written \(it is a (link|pipe|folder)\): choose another"
        ):
            use()
    after = path.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert victim.read_bytes() == b"safe"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "victim"]


def test_a_device_is_not_replaced() -> None:
    before = Path(os.devnull).lstat()
    for use in (write_file, append):
        with pytest.raises(OutputError, match=r"^\S*null cannot be written \(it is a device\)"):
            use(Path(os.devnull), b"new")
    assert Path(os.devnull).lstat().st_rdev == before.st_rdev


def test_a_link_to_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_file(tmp_path / "link" / "file", b"new")
    assert (tmp_path / "real" / "file").read_bytes() == b"new"


def test_a_file_system_without_locks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(OutputError, match=r"file cannot be written .*No locks available"):
        write_file(tmp_path / "file", b"new")
    with pytest.raises(OutputError, match=r"folder cannot be written .*No locks available"):  # noqa: SIM117
        with NewFolder(tmp_path / "folder", ends_in_x) as folder:
            folder.write("a.x", b"1")
    assert not list(tmp_path.iterdir())


def test_what_is_there_may_be_kept(tmp_path: Path) -> None:
    def keep() -> None:
        raise OutputError("it stays")

    write_file(tmp_path / "file", b"old", may_replace=keep)  # there is none to be kept
    with pytest.raises(OutputError, match=r"^it stays"):
        write_file(tmp_path / "file", b"new", may_replace=keep)
    with NewFolder(tmp_path / "folder", ends_in_x, may_replace=keep) as folder:
        folder.write("a.x", b"1")
    with pytest.raises(OutputError, match=r"^it stays"), NewFolder(tmp_path / "folder", ends_in_x, may_replace=keep):
        pass
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["file", "folder", "folder/a.x"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_file_beside_takes_its_place_with_the_other(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), NewFile(tmp_path / "a") as file:
        file.write(b"1")
        file.write_beside(tmp_path / "a.json", b"2")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with NewFile(tmp_path / "a") as file:
        file.write_beside(tmp_path / "a.json", b"2")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"", "a.json": b"2"}


def test_what_is_appended_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    append(tmp_path / "log", b"123456")
    with file_size_limit(10), pytest.raises(OutputError, match="log cannot be written"):
        append(tmp_path / "log", b"7890abc")
    assert (tmp_path / "log").read_bytes() == b"123456"


def ends_in_x(path: Path) -> bool:
    return path.suffix == ".x"


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with NewFolder(tmp_path / "new", ends_in_x) as folder:
        assert not list(tmp_path.iterdir())
        folder.write("a.x", b"1")
        assert sorted(path.name for path in tmp_path.iterdir()) == [".new.lock", ".new.part"]
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
