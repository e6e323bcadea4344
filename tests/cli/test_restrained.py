"""Bombs in little memory, full disks, and ends at any moment: one line, nothing half-written, and the run goes on."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bundles import TINY
from tests.cli.bad_files import VOLUME, inflating_text, nifti, png, stated
from tests.commands import run_command

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")

CHILD = (sys.executable, str(Path(__file__).with_name("restrained.py")))
ORT = ("--engine", "onnxruntime", "--threads", "1", "--steps", "2")
GO = "generate tiny.seggd -o out/"
ROOM = 5 << 30
"""Bytes of address space that a command has: a few more than the libraries that it imports map."""
STARTING = 0.5
"""GiB in memory at most of a command that refuses a file by its header: what it takes to start is half of it."""


def child(
    restraint: str, number: int, *arguments: str, stdout: int | None = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CHILD, restraint, str(number), *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def folder(tmp_path: Path, golden_mask: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: masks, a volume, a real image and a bundle."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TINY, "tiny.seggd")
    Path("masks").mkdir()
    for index in range(4):
        Image.fromarray(np.roll(golden_mask, index, axis=0)).save(f"masks/{index}.png")
    nifti("volume.nii.gz", VOLUME)(tmp_path)
    np.save("real.npy", np.zeros((24, 32), np.float32))
    return tmp_path


def zeros_packed(head: bytes, gibibytes: float) -> bytes:
    """Return gzip of a head and so much of zeros, a thousandth of it in size."""
    block = gzip.compress(bytes(64 << 20))
    return gzip.compress(head) + block * int(gibibytes * 16)


def record_of_nothing() -> bytes:
    """Return a record of 20 million images."""
    document = {"format": "seggd-provenance/1", "note": "", "all": {"sampler": "x" * 99}, "images": []}
    return json.dumps(document).replace("[]", "[" + ",".join(["{}"] * 20_000_000) + "]").encode()


HUGE = png(size=(1 << 16, 1 << 16))
CHUNK = re.sub(rb"....IDAT", b"\xff\xff\xff\xffIDAT", png(), flags=re.DOTALL)
FLAG = b"\1\0\0\0"
"""Extensions follow a NIfTI header."""


def volume_of(content: bytes, gibibytes: float) -> Callable[[], bytes]:
    return lambda: zeros_packed(content, gibibytes)


BOMBS: dict[str, tuple[str, str, float, str, Callable[[], bytes]]] = {
    # Words of the error, GiB in memory at most, the command, and the bytes of the file that it reads.
    "a PNG of 2^32 pixels": (f"{GO} -m b.png", "1 to 67108864 pixels", STARTING, "b.png", lambda: HUGE),
    "a real PNG of 2^32 pixels": (f"{GO} -m masks --from b.png", "read as PNG", STARTING, "b.png", lambda: HUGE),
    "a PNG chunk of 4 GiB": (f"{GO} -m b.png", "it is not whole", STARTING, "b.png", lambda: CHUNK),
    "a PNG text that inflates": ("verify b.png", "cannot be read as PNG", STARTING, "b.png", inflating_text),
    "a volume of 2^29 voxels": (
        f"{GO} -m b.nii.gz", "1 to 268435456 voxels", STARTING,
        "b.nii.gz", volume_of(stated((1024, 1024, 512)), 0.5),
    ),
    "a header of gigabytes": (
        f"{GO} -m b.nii.gz", "over 128 MiB", STARTING,
        "b.nii.gz", volume_of(stated((4, 4, 4), extension=FLAG, offset=2**32), 4),
    ),
    "a header extension without end": (
        "verify b.nii.gz", "header extension", STARTING,
        "b.nii.gz", volume_of(stated((4, 4, 4), extension=FLAG, offset=400), 4),
    ),
    "gigabytes after a volume": (
        f"{GO} -m b.nii.gz", "label 9 is outside", STARTING,
        "b.nii.gz", volume_of(stated((4, 4, 4))[:352] + b"\x09" * 64, 1),
    ),
    "gigabytes of fractions": (
        f"{GO} -m b.nii.gz", "fractions", STARTING + 3,
        "b.nii.gz", volume_of(stated((1024, 1024, 256), np.float64)[:352] + np.full(1, 0.5).tobytes(), 2),
    ),
    "a record of 20 million images": ("verify b.npy", "too many", STARTING + 2.5, "b.npy.json", record_of_nothing),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_bounded_memory(name: str, folder: Path) -> None:
    arguments, message, most, file, content = BOMBS[name]
    np.save("b.npy", np.zeros((1, 24, 32), np.float32))
    Path(file).write_bytes(content())
    done = child("memory", ROOM, *arguments.split())
    *said, peak = done.stderr.splitlines()
    errors = [line for line in said if not line.startswith("warning: ")]
    assert (done.returncode, done.stdout, len(errors)) == (2, "", 1), done.stderr
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert int(peak.removeprefix("peak ")) / (1 << 20) < most
    assert not (folder / "out").exists()


RUNS = {
    "folder": "generate tiny.seggd -m masks -o out/",
    "stack": "generate tiny.seggd -m masks -o out.npy",
    "volume": "generate tiny.seggd -m volume.nii.gz -o out.nii.gz",
    "volumes": "generate tiny.seggd -m volume.nii.gz -o out --count 2",
}
ENDS = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -signal.SIGKILL}


def results() -> dict[str, bytes]:
    """Return the output's files; the lines of a manifest in order, as they come in any."""
    files = [path for path in [*Path().glob("*out*"), *Path().glob("out/*"), *Path().glob("out/.*")] if path.is_file()]
    return {
        str(path): b"\n".join(sorted(path.read_bytes().splitlines())) if path.suffix == ".jsonl" else path.read_bytes()
        for path in files
    }


def remove_results() -> None:
    shutil.rmtree("out", ignore_errors=True)
    for path in Path().glob("*out.*"):
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("stop", ENDS)
@pytest.mark.parametrize("kind", RUNS)
def test_an_end_at_any_moment_leaves_what_is_whole(kind: str, stop: str, folder: Path) -> None:
    arguments = (*RUNS[kind].split(), *ORT)
    done = child(stop, 0, *arguments)
    assert done.returncode == 0, done.stderr
    whole, touched = results(), int(done.stderr.split()[-1])
    assert len(whole) >= 1
    # Always the last moment, and two others.
    moments = {touched, *np.random.default_rng([*kind.encode(), *stop.encode()]).integers(1, touched, 2).tolist()}
    for moment in sorted(moments):
        remove_results()
        ended = child(stop, moment, *arguments)
        assert ended.returncode == ENDS[stop], ended.stderr
        assert "Traceback" not in ended.stderr
        left = results()
        parts = {name for name in left if name.endswith((".part", ".lock"))}
        assert stop == "SIGKILL" or not parts
        for name in left.keys() - parts:
            if name.endswith(".jsonl"):
                assert set(left[name].splitlines()) <= set(whole[name].splitlines())
            else:
                assert left[name] == whole[name]
        assert "out.npy" not in left or "out.npy.json" in left
        again = run_command(*arguments)
        assert again.code == 0, again.err
        assert results() == whole


@pytest.mark.parametrize("size", [100, 2300])
@pytest.mark.parametrize("kind", RUNS)
def test_a_disk_that_is_full(kind: str, size: int, folder: Path) -> None:
    arguments = (*RUNS[kind].split(), *ORT)
    assert run_command(*arguments).code == 0
    whole = results()
    remove_results()
    done = child("disk", size, *arguments)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert re.search(r"cannot be written \((File too large|No space left on device)\)", errors[0])
    assert "Traceback" not in done.stderr
    left = results()
    assert not [name for name in left if name.endswith(".part")]
    assert all(left[name] == whole[name] for name in left if not name.endswith(".jsonl"))
    assert "out.npy" not in left
    assert run_command(*arguments).code == 0
    assert results() == whole


@pytest.mark.parametrize(
    "command",
    [
        "sweep tiny.seggd -m masks/0.png -o out.png",
        "interpolate tiny.seggd -m masks/0.png --real real.npy -o out.npy",
        "sign --new-key out.pem",
    ],
)
def test_a_disk_that_is_full_to_other_commands(command: str, folder: Path) -> None:
    if command.startswith("sign"):
        pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'seggd-rt[sign]'")
    else:
        assert run_command(*command.replace("out.", "warm.").split(), *ORT).code == 0
    done = child("disk", 50, *command.split(), *(() if command.startswith("sign") else ORT))
    assert done.returncode == 2, done.stderr
    assert "cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert results() == {}


def test_a_standard_output_that_is_full(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = child("disk", 1 << 30, *RUNS["folder"].split(), *ORT, stdout=full.fileno())
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == ["error: No space left on device"]
    assert done.stderr.splitlines()[-1] == errors[0]
    assert not [name for name in results() if name.endswith(".part")]
