"""`python -m benchmarks.gpu` as a whole, with a CPU in the GPU's place: exit codes, and what is done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks.gpu import command
from benchmarks.gpu.command import main
from benchmarks.gpu.record import Record
from benchmarks.gpu.run import Context, Deadline, Part, Piece
from tests.benchmarks.gpu.late import LateDevice
from tests.benchmarks.gpu.test_record import RATE, a_run, fail, names, part


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file; the process that measures is this one."""

    def supervise(
        line: Callable[[float | None], Sequence[str]], path: Path, deadline: Deadline, say: Callable[[str], None]
    ) -> int:
        left = None if deadline.left_s() == float("inf") else deadline.left_s()
        return main(list(line(left))[3:])

    monkeypatch.setattr(command, "why_not_here", lambda ordinal: None)
    monkeypatch.setattr(command, "this_run", lambda arguments, ordinal: a_run(" ".join(arguments)))
    monkeypatch.setattr(command, "Gpu", lambda name: LateDevice())
    monkeypatch.setattr(command, "supervise", supervise)
    monkeypatch.setattr(command, "_device_answers", lambda: True)
    monkeypatch.setattr(command.signal, "signal", lambda number, handler: None)
    return tmp_path / "out.json"


def test_all_is_measured_once(out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "PARTS", (part("floor", a=lambda: RATE), part("suites", b=lambda: RATE)))
    assert main([str(out)]) == 0
    assert "2 measured in 0 s, 0 were there, 0 failed" in capsys.readouterr().err
    assert main([str(out)]) == 2
    assert "go on with it by --append" in capsys.readouterr().err
    assert main([str(out), "--append"]) == 0
    assert "0 measured in 0 s, 2 were there" in capsys.readouterr().err
    assert main([str(out), "--append", "--redo", "suites/*"]) == 0
    assert "1 earlier measurements of suites/* are forgotten" in capsys.readouterr().err
    assert [(m.name, m.run) for m in Record(out).document.measurements] == [("a", 0), ("b", 2)]


def test_a_failure_ends_in_1_and_is_named(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "PARTS", (part("floor", a=fail, b=lambda: RATE),))
    assert main([str(out)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "failed: floor/a"
    assert names(Record(out)) == ["floor/a", "floor/b"]


def test_what_time_is_short_for_ends_in_3(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pieces(context: Context) -> list[Piece]:
        return [Piece("quick", lambda: RATE, needs_s=0.1), Piece("long", fail, needs_s=500)]

    monkeypatch.setattr(command, "PARTS", (Part("floor", pieces),))
    assert main([str(out), "--limit-s", "60"]) == 3
    assert "1 left for lack of time (floor/long first): run again with --append" in capsys.readouterr().err
    assert names(Record(out)) == ["floor/quick"]


def test_no_gpu_is_said_before_anything_is_touched(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "why_not_here", lambda ordinal: f"there is no GPU {ordinal}")
    assert main([str(out), "--device", "cuda:3"]) == 2
    assert capsys.readouterr().err == "error: there is no GPU 3\n"
    assert not out.exists()


def test_training_needs_data(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(out), "--train-demo", "5"]) == 2
    assert "--train-demo needs --data" in capsys.readouterr().err


def test_a_file_of_something_else_is_refused(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out.write_text("[1]")
    assert main([str(out), "--append"]) == 2
    assert "no file of figures" in capsys.readouterr().err
    assert out.read_text() == "[1]"


def test_a_lost_device_is_a_code_of_its_own(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PARTS", (part("floor", a=fail, b=lambda: RATE),))
    monkeypatch.setattr(command, "_device_answers", lambda: False)
    assert main([str(out)]) == command.DEVICE_LOST
    assert names(Record(out)) == ["floor/a"]
