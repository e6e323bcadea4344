"""Training the demo model by the script: how many steps fit, what is left when it stops."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.contenders import train
from benchmarks.gpu.contenders.train import Training, fitting_steps, read_log, slim, started
from seggd_export.checkpoint import Checkpoint
from seggd_rt.errors import EngineError, OptionError

RECIPE = ("--network", "tiny", "--batch-size", "2", "--sample-every", "0", "--threads", "1", "--ablation")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(
        path,
        image=rng.integers(0, 255, (12, 16, 16), dtype=np.uint8),
        label=rng.integers(0, 2, (12, 16, 16), dtype=np.uint8),
        split=np.array([0] * 8 + [1] * 4),
        class_names=np.array(["background", "inside"]),
    )
    return path


def test_steps_fill_what_the_start_leaves() -> None:
    assert fitting_steps(0.1, 10, 60) == int(0.92 * (600 - 60 - 45) / 0.1)
    with pytest.raises(OptionError, match="too few"):
        fitting_steps(0.1, 0.5)


def test_a_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert read_log(log) == []
    log.write_text('{"step": 50, "loss": 1, "seconds": 2.5}\n{"step": 100, "val_loss": 0.5, "seconds": 5}\n')
    assert read_log(log) == [(50, 2.5, None), (100, 5.0, 0.5)]


def test_a_command_that_fails_says_its_last_words() -> None:
    with (
        pytest.raises(EngineError, match="code 3: no such data"),
        started([sys.executable, "-c", "import sys; print('no such data', file=sys.stderr); sys.exit(3)"]) as process,
    ):
        process.wait()


def test_what_is_started_ends_with_its_block() -> None:
    with pytest.raises(KeyboardInterrupt), started([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        raise KeyboardInterrupt
    assert process.poll() is not None


def test_nothing_to_slim_is_no_error(tmp_path: Path) -> None:
    assert slim(tmp_path, tmp_path / "slim.pt") is None


@pytest.mark.slow
def test_a_run_is_trained_stopped_resumed_and_slimmed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(data, tmp_path / "runs", 0.5, RECIPE, 16)
    target = tmp_path / "slim.pt"
    monkeypatch.setattr(train, "_MARGIN_S", 0.0)
    monkeypatch.setattr(Training, "trial", lambda self: 0.0005)  # far more steps than can be done
    began = time.monotonic()
    first = train.train(training, target, 14)
    assert time.monotonic() - began < 60
    assert first.step > 0
    assert (first.checkpoint, first.images_seen) == ("slim.pt", 2 * first.step)
    checkpoint = Checkpoint.load(target)
    assert checkpoint.config.provenance.step == first.step
    assert str(tmp_path) not in (checkpoint.config.provenance.command or "")
    second = train.train(training, target, 14)
    assert second.step > first.step


@pytest.mark.slow
def test_a_trial_tells_how_long_a_step_takes(data: Path, tmp_path: Path) -> None:
    training = Training(data, tmp_path / "runs", 1, RECIPE, 16)
    assert 0 < training.trial(100) < 5
    assert list(tmp_path.iterdir()) == []
