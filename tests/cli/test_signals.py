"""Ctrl-C and requests to terminate while native code runs, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import run_command

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only POSIX delivers these signals to a process")

NATIVE = """
import hashlib, signal, sys
from pathlib import Path
from seggd_rt.files.atomic import NewFile
from seggd_cli.signals import ending_on_signals

with ending_on_signals(), NewFile(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    if sys.argv[2] == "own":
        signal.signal(signal.SIGINT, lambda number, frame: print("noted"))
    try:
        print("ready", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", int(sys.argv[3]))
        print("done", flush=True)
    except KeyboardInterrupt:  # it came before the native call
        sys.exit(130)
"""
MINUTES, SECONDS = (1 << 31) - 1, 8_000_000
"""Rounds of a hash, during which Python calls no handler."""


def started(path: Path, handler: str, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", NATIVE, str(path), handler, str(rounds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_native_code_and_leaves_nothing_half_written(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = started(tmp_path / "image.npy", "none", MINUTES)
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, "")
    assert list(tmp_path.iterdir()) == []


HOLDING = """
import functools, itertools
from seggd_cli.signals import ending_on_signals

# One call in C, which says that it began, never ends, and holds Python's interpreter.
say = map(functools.partial(print, flush=True), ["ready"])
with ending_on_signals():
    any(itertools.chain(say, itertools.repeat(False)))
"""
TWICE = """
import signal, sys, time
from seggd_cli.signals import ending_on_signals

try:
    with ending_on_signals():
        try:
            print("ready", flush=True)
            signal.pause()
        finally:
            print("cleaning", flush=True)
            time.sleep(0.5)  # a signal does not end it
            print("cleaned", flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""
BETWEEN = """
import signal, sys
from importlib.abc import MetaPathFinder

class Slow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == WHERE:
            print("ready", flush=True)
            try:
                signal.pause()
            except BaseException as error:
                raise ImportError("as NumPy says it") from error

sys.meta_path.insert(0, Slow())
sys.argv = ["seggd-rt", "inspect", "none"]
from seggd_cli import run_process
run_process()
"""

CLOSED = """
import os, sys
from pathlib import Path
from seggd_cli import run_process

try:
    run_process()
finally:  # whatever was opened first got the numbers of closed streams
    Path("streams").write_text(" ".join(os.readlink(f"/proc/self/fd/{number}") for number in range(3)))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux names the file of a descriptor")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_streams_that_a_caller_closed_stay_streams(closed: tuple[int, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLOSED, "--version"]
    shell = 'exec "$@" ' + " ".join(f"{number}>&-" for number in closed)
    pipe = subprocess.PIPE
    run = subprocess.run(["sh", "-c", shell, "sh", *command], cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe)
    assert (run.returncode, run.stderr) == (0, b"")
    streams = (tmp_path / "streams").read_text().split()
    assert [name == os.devnull for name in streams] == [number in closed for number in range(3)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("where", ["seggd_cli.app", "seggd_cli.engines.bench", "seggd_rt.bundle.bundle"])
def test_a_signal_while_modules_load(number: signal.Signals, code: int, where: str) -> None:
    program = BETWEEN.replace("WHERE", repr(where))
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (code, "")


def test_a_second_signal_does_not_break_off_what_the_first_began() -> None:
    process = subprocess.Popen([sys.executable, "-c", TWICE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in ("ready\n", "cleaning\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "cleaned\n")


def test_a_signal_ends_native_code_that_holds_the_interpreter() -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDING], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL


def test_a_handler_that_a_command_installs_is_left_alone(tmp_path: Path) -> None:
    process = started(tmp_path / "image.npy", "own", SECONDS)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "noted\ndone\n")
    assert (tmp_path / "image.npy").read_bytes() == b"half"


def test_a_command_leaves_the_handlers_of_its_process() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run_command("--version").code == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    wakeup = signal.set_wakeup_fd(-1)
    assert wakeup == -1
