"""manifest.jsonl: what a line holds, and what a killed or repeated run leaves of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from seggd_rt.errors import DataError, OutputError
from seggd_rt.imaging import CheckResult
from seggd_rt.runs import Record
from seggd_rt.runs.records import ManifestFile

RECORD = Record(
    file="a_7.png",
    file_index=None,
    mask="ä.png",
    mask_index=2,
    mask_sha256="c" * 64,
    seed=(1 << 53) - 1,
    noise=None,
    noise_sha256="d" * 64,
    classes=("cavity", "myocardium"),
    sampler="ddim",
    steps=50,
    eta=0.0,
    spacing="leading",
    guidance=0.0,
    against=None,
    real=None,
    real_sha256=None,
    at=None,
    weight=None,
    then_classes=None,
    region_sha256=None,
    region_classes=None,
    fit="letterbox",
    check=CheckResult(dice={"cavity": 0.75}, mean_dice=0.75, outside=("cavity",)),
    min_dice=0.5,
    retries=2,
    first_seed=7,
    keep_patient=True,
    mark="SYNTHETIC",
    engine="onnxruntime",
    precision="fp32",
    engine_version="1.30.0",
    device="a CPU: AVX2",
    threads=2,
    cores=None,
    batch=4,
    bundle="0" * 64,
    version="0.1.0",
)


def test_a_line_is_json_with_these_keys() -> None:
    line = RECORD.to_json()
    assert "\n" not in line
    assert json.loads(line) == {
        "file": "a_7.png",
        "file_index": None,
        "file_sha256": None,
        "mask": "ä.png",
        "mask_index": 2,
        "mask_sha256": "c" * 64,
        "seed": 9007199254740991,
        "noise": None,
        "noise_sha256": "d" * 64,
        "classes": ["cavity", "myocardium"],
        "sampler": "ddim",
        "steps": 50,
        "eta": 0.0,
        "spacing": "leading",
        "guidance": 0.0,
        "against": None,
        "real": None,
        "real_sha256": None,
        "at": None,
        "weight": None,
        "then_classes": None,
        "region_sha256": None,
        "region_classes": None,
        "fit": "letterbox",
        "check": {"dice": {"cavity": 0.75}, "mean_dice": 0.75, "outside": ["cavity"]},
        "min_dice": 0.5,
        "retries": 2,
        "first_seed": 7,
        "keep_patient": True,
        "mark": "SYNTHETIC",
        "engine": "onnxruntime",
        "precision": "fp32",
        "engine_version": "1.30.0",
        "device": "a CPU: AVX2",
        "threads": 2,
        "cores": None,
        "batch": 4,
        "bundle": "0" * 64,
        "version": "0.1.0",
    }


def test_what_the_file_itself_carries_names_no_file() -> None:
    carried = msgspec.to_builtins(RECORD.provenance)
    assert not {"file", "file_index", "mask", "mask_index", "noise", "real"} & set(carried)
    assert all(carried[name] == getattr(RECORD, name) for name in ("seed", "fit", "mask_sha256", "steps"))


def test_a_volume_of_which_a_slice_has_no_record_is_not_finished(tmp_path: Path) -> None:
    manifest = ManifestFile(tmp_path)
    slices = [replace(RECORD, file="v.nii.gz", file_index=index, first_seed=None) for index in range(3)]
    (tmp_path / "v.nii.gz").write_bytes(b"")
    manifest.append(slices[:2])
    assert manifest.finished(slices) == set()
    manifest.append(slices[2:])
    assert manifest.finished(slices) == {"v.nii.gz"}


def test_lines_are_added_and_read_back(tmp_path: Path) -> None:
    manifest = ManifestFile(tmp_path)
    assert manifest.records() == []
    records = [RECORD, replace(RECORD, file="b.png")]
    for record in records:
        manifest.append([record])
    assert manifest.records() == records


def test_an_unfinished_line_is_left_out_and_then_removed(tmp_path: Path) -> None:
    manifest = ManifestFile(tmp_path)
    manifest.append([RECORD])
    with manifest.path.open("a") as file:
        file.write(RECORD.to_json()[:40])
    assert manifest.records() == [RECORD]
    manifest.forget([])
    manifest.append([replace(RECORD, file="b.png")])
    assert [record.file for record in manifest.records()] == ["a_7.png", "b.png"]


def test_a_run_may_be_gone_on_with_on_another_machine(tmp_path: Path) -> None:
    """Which CPU drew an image, and in what batch, is kept, and is no setting."""
    manifest = ManifestFile(tmp_path)
    (tmp_path / "a_7.png").touch()
    manifest.append([RECORD])
    now = replace(RECORD, seed=7, engine_version="2", device="another", threads=None, cores=9, batch=None)
    assert manifest.finished([now]) == {"a_7.png"}


def test_forgetting_keeps_the_other_lines_byte_for_byte(tmp_path: Path) -> None:
    manifest = ManifestFile(tmp_path)
    later = RECORD.to_json().replace("{", '{"a key of a later version":1,', 1).replace("a_7", "c")
    manifest.path.write_text(f"{later}\n{RECORD.to_json()}\n")
    manifest.forget(["a_7.png", "z.png"])
    assert manifest.path.read_text() == f"{later}\n"


def test_forgetting_nothing_makes_no_file(tmp_path: Path) -> None:
    ManifestFile(tmp_path).forget(["a.png"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["not json", "{}", "[1]", '{"file": 3}', ""])
def test_a_file_of_another_kind_is_not_touched(line: str, tmp_path: Path) -> None:
    manifest = ManifestFile(tmp_path)
    manifest.path.write_text(f"{RECORD.to_json()}\n{line}\n")
    with pytest.raises(DataError, match="line 2, is not a seggd-rt record"):
        manifest.forget(["a_7.png"])
    assert manifest.path.read_text() == f"{RECORD.to_json()}\n{line}\n"


def test_a_manifest_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"manifest.jsonl cannot be written"):
        ManifestFile(tmp_path).append([RECORD])
    with pytest.raises(DataError, match="cannot be read"):
        ManifestFile(tmp_path).records()


def test_an_image_is_listed_once_though_two_runs_drew_it(tmp_path: Path) -> None:
    one, other = ManifestFile(tmp_path), ManifestFile(tmp_path)
    one.append([RECORD])
    other.append([RECORD])
    assert one.records() == [RECORD]
    later = [replace(RECORD, file="b.png"), replace(RECORD, steps=9), replace(RECORD, file="c.png")]
    other.append([later[0]])
    other.append([later[1]])  # in place of its first line: the file is written anew
    one.append([later[2]])
    one.append([later[0]])
    assert one.records() == other.records() == later


def test_a_line_that_a_killed_run_left_unfinished_spoils_no_other(tmp_path: Path) -> None:
    one, other = ManifestFile(tmp_path), ManifestFile(tmp_path)
    one.append([RECORD])
    with one.path.open("a") as file:
        file.write(RECORD.to_json()[:40])
    other.append([replace(RECORD, file="b.png")])
    one.append([replace(RECORD, file="c.png")])
    assert [record.file for record in one.records()] == ["a_7.png", "b.png", "c.png"]


def test_forgetting_loses_no_line_that_another_process_adds(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from seggd_rt.runs.records import ManifestFile
from seggd_rt.files.strict_json import decode
from seggd_rt.runs.records import Record
from msgspec.structs import replace
lines, record = ManifestFile(Path(sys.argv[1])), decode(sys.argv[3], Record)
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    lines.append([replace(record, file=f"{sys.argv[2]}{number}.png")])
    lines.append([replace(record, file=f"{sys.argv[2]}-lost.png")])
    lines.forget([f"{sys.argv[2]}-lost.png"])
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), name, RECORD.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abc"
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        process.communicate("\n")
    assert [process.returncode for process in processes] == [0] * 3
    listed = [record.file for record in ManifestFile(tmp_path).records()]
    assert sorted(listed) == sorted(f"{name}{number}.png" for name in "abc" for number in range(25))
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]


def test_a_manifest_that_is_a_link_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    victim, manifest = tmp_path / "victim", ManifestFile(tmp_path / "out")
    manifest.path.symlink_to(victim)
    for there in (False, True):
        if there:
            victim.write_text(f"{RECORD.to_json()}\n")
        for use in (manifest.check, lambda: manifest.append([replace(RECORD, file="b.png")])):
            with pytest.raises(OutputError, match=r"manifest.jsonl cannot be written \(it is a link\)"):
                use()
        assert victim.exists() == there
    with pytest.raises(OutputError, match="it is a link"):
        manifest.forget(["a_7.png"])
    assert victim.read_text() == f"{RECORD.to_json()}\n"


@pytest.mark.parametrize(
    "text", [b"x", b'{"mine": 1}', b"[1, 2]", b'{"file": 3', RECORD.to_json().encode() + b"\n# mine"]
)
@pytest.mark.parametrize("rejected", [False, True])
def test_an_unfinished_line_of_another_program_is_kept(text: bytes, rejected: bool, tmp_path: Path) -> None:
    manifest = ManifestFile(tmp_path, rejected=rejected)
    manifest.path.write_bytes(text)
    for use in (manifest.records, lambda: manifest.forget(["b.png"]), lambda: manifest.append([RECORD])):
        with pytest.raises(DataError, match=r"is no manifest of seggd-rt .*: write to another folder"):
            use()
    assert manifest.path.read_bytes() == text


def test_a_record_may_be_cut_anywhere(tmp_path: Path) -> None:
    line = RECORD.to_json().encode()
    for size in range(len(line)):
        manifest = ManifestFile(tmp_path)
        manifest.path.write_bytes(line + b"\n" + line[:size])
        assert manifest.records() == [RECORD]
        manifest.append([replace(RECORD, file="b.png")])
        assert len(manifest.records()) == 2
