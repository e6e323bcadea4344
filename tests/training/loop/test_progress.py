"""The log survives a kill: what lies beyond the resumed step is dropped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seggd_training.loop.progress import Reporter


def test_log_is_cut_at_the_resumed_step(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "loss": 0.5}\n{"step": 30, "lo')
    with Reporter(tmp_path, steps=40, start=10, enabled=True) as reporter:
        reporter.step(11, 0.6)
        reporter.scalars(20, {"loss": 0.25})
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"step": 10, "loss": 1.0},
        {"step": 20, "loss": 0.25},
    ]


def test_a_further_process_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter(tmp_path, steps=40, start=0, enabled=False) as reporter:
        reporter.say("hello")
        reporter.step(1, 0.5)
        reporter.scalars(1, {"loss": 0.5})
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_progress_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter(tmp_path, steps=2, start=0, enabled=True) as reporter:
        reporter.say("0.05 M parameters")
        reporter.step(2, 0.1234)
    out, err = capfd.readouterr()
    assert out == ""
    assert "0.05 M parameters" in err
    assert "loss 0.1234" in err


def test_an_error_leaves_no_bar_behind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="full"), Reporter(tmp_path, steps=2, start=0, enabled=True) as reporter:
        reporter.step(1, 0.5)
        raise OSError("full")
    assert capfd.readouterr().err.strip() == ""
