"""A run that is stopped, interrupted or killed ends with the very weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seggd_export.checkpoint import Checkpoint
from seggd_rt.diffusion import MaskEncoding, Prediction
from seggd_rt.errors import DataError, OptionError, OutputError
from seggd_training.data import Batch, Batches
from seggd_training.loop import Precision, TrainOptions, build_unet, train, trainer
from seggd_training.loop.networks import NETWORKS
from seggd_training.loop.trainer import AbsentClassWarning
from tests.training.scenes import CLASSES, npz_arrays

Make = Callable[..., TrainOptions]


def assert_same(first: Any, second: Any) -> None:
    """Compare nested values, tensors bit for bit."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


def assert_same_run(first: Path, second: Path) -> None:
    states = [torch.load(run / "resume.pt", weights_only=True) for run in (first, second)]
    for state in states:
        del state["elapsed_s"]
    assert_same(*states)
    checkpoints = [torch.load(run / "last.pt", weights_only=True) for run in (first, second)]
    assert_same(*checkpoints)


def log(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", Precision)
def test_stopped_and_resumed_equals_whole(options: Make, tmp_path: Path, precision: Precision) -> None:
    common = {"steps": 12, "mixed_precision": precision, "accumulate": 2, "min_snr": 5.0, "validate_every": 4}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(options(output=whole, **common)).step == 12
    assert train(options(output=parts, stop_after=5, **common)).step == 5
    assert train(options(output=parts, resume=True, **common)).step == 12
    assert_same_run(whole, parts)
    other = tmp_path / "other"  # what is compared does depend on the run
    train(options(output=other, seed=1, **common))
    with pytest.raises(AssertionError):
        assert_same_run(whole, other)


def test_dropout_resumes_exactly(options: Make, tmp_path: Path) -> None:
    network = tmp_path / "dropout.json"
    network.write_text(json.dumps({**NETWORKS["tiny"], "dropout": 0.3}))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(options(output=whole, network=str(network)))
    train(options(output=parts, network=str(network), stop_after=3))
    train(options(output=parts, network=str(network), resume=True))
    assert_same_run(whole, parts)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed_equals_whole(
    options: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(options(output=whole))
    draw = Batches.draw

    def draw_and_signal(self: Batches, start: int, count: int) -> Batch:
        if start == 3 * count:
            os.kill(os.getpid(), number)
        return draw(self, start, count)

    monkeypatch.setattr(Batches, "draw", draw_and_signal)
    outcome = train(options(output=parts))
    assert (outcome.step, outcome.signal) == (4, number)  # the step in hand is finished and saved
    monkeypatch.setattr(Batches, "draw", draw)
    train(options(output=parts, resume=True))
    assert_same_run(whole, parts)


def _start(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stderr=subprocess.PIPE, text=True
    )


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_in_mid_epoch_and_resumed_equals_whole(options: Make, npz: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    common = {"steps": 60, "batch_size": 2, "checkpoint_every": 3}
    process = _start(
        "from pathlib import Path; from seggd_training.loop.config import TrainOptions;"
        "import seggd_training.loop.trainer as t;"
        f"t.train(TrainOptions(data=Path({str(npz)!r}), output=Path({str(killed)!r}), network='tiny', steps=60,"
        "batch_size=2, lr=1e-3, warmup_steps=2, ema_decay=0.9, augment=True, sample_every=0, validate_every=0,"
        "checkpoint_every=3, threads=1))"
    )
    with process:
        try:
            _wait_for((killed / "resume.pt").exists, process)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    step = torch.load(killed / "resume.pt", weights_only=True)["step"]
    assert 0 < step < 60
    train(options(output=killed, resume=True, **common))
    train(options(output=whole, **common))
    assert_same_run(whole, killed)
    steps = [entry["step"] for entry in log(killed)]
    assert steps == sorted(set(steps)) == list(range(10, 61, 10))


def test_sigterm_ends_the_command_with_143(npz: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["--network", "tiny", "--checkpoint-every", "1", "--threads", "1"]
    main = "from seggd_cli import main; main()"
    process = _start(main, "train", "--data", str(npz), "-o", str(run), *flags)
    with process:
        try:
            _wait_for((run / "resume.pt").exists, process)
            process.terminate()
            stderr = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 143, stderr
    assert "Traceback" not in stderr
    assert Checkpoint.load(run / "last.pt").config.provenance.step == torch.load(run / "resume.pt")["step"]


def test_accumulation_is_a_larger_batch(options: Make, tmp_path: Path) -> None:
    states = []
    for batch_size, accumulate in ((8, 1), (2, 4), (8, 2)):
        run = tmp_path / f"{batch_size}x{accumulate}"
        train(options(output=run, batch_size=batch_size, accumulate=accumulate, steps=5))
        states.append(torch.cat([w.flatten() for w in Checkpoint.load(run / "last.pt").best_weights().values()]))
    # AdamW divides by the gradient's size, so where that is rounding alone, a weight moves by up to lr either way.
    same, different = ((states[0] - states[k]).norm().item() for k in (1, 2))
    assert same < 0.02 * different


@pytest.mark.parametrize("prediction", [Prediction.EPSILON, Prediction.V])
def test_training_lowers_the_loss_and_keeps_the_best(options: Make, tmp_path: Path, prediction: Prediction) -> None:
    run = tmp_path / "run"
    train(options(steps=60, prediction=prediction, validate_every=20, batch_size=8, lr=3e-3, augment=False))
    losses = {entry["step"]: entry["val_loss"] for entry in log(run) if "val_loss" in entry}
    assert list(losses) == [20, 40, 60]
    assert losses[60] < losses[20]
    assert log(run)[-1]["loss"] < 0.5 * log(run)[0]["loss"]
    best = Checkpoint.load(run / "best.pt").config.provenance
    assert best.val_loss == min(losses.values())
    assert losses[best.step] == best.val_loss
    seen = [entry["images"] for entry in log(run)]
    assert seen == list(range(80, 481, 80))


def test_checkpoint_says_what_was_trained(options: Make, tmp_path: Path) -> None:
    train(
        options(
            prediction=Prediction.V,
            encoding=MaskEncoding.LABEL_OVER_255,
            empty_subset=0.1,
            licence="CC0-1.0",
            training_data="scenes",
            image_size=(8, 8),
            intensity_range=(0, 300),
            steps=3,
        ),
        command="seggd-rt train ...",
    )
    checkpoint = Checkpoint.load(tmp_path / "run" / "last.pt")
    config = checkpoint.config
    assert (config.image_channels, config.height, config.width) == (1, 8, 8)
    assert config.intensity_range == (0, 300)
    assert tuple(c.name for c in config.classes) == CLASSES
    assert (config.encoding, config.ablation, config.empty_subset) == (MaskEncoding.LABEL_OVER_255, True, 0.1)
    assert config.schedule.prediction is Prediction.V
    provenance = config.provenance
    assert (provenance.licence, provenance.training_data) == ("CC0-1.0", "scenes")
    assert (provenance.step, provenance.images_seen, provenance.seed) == (3, 12, 0)
    assert provenance.command == "seggd-rt train ..."
    network = build_unet(config.unet)
    network.load_state_dict(checkpoint.best_weights())
    assert checkpoint.weights is not None
    assert checkpoint.weights.keys() == network.state_dict().keys()


def test_run_writes_samples_and_tensorboard(options: Make, tmp_path: Path) -> None:
    train(options(steps=4, sample_every=2))
    run = tmp_path / "run"
    with Image.open(run / "samples" / "0000002.png") as grid:
        assert grid.size == (3 * 16, 3 * 16)
    assert [p.name for p in sorted((run / "samples").iterdir())] == ["0000002.png", "0000004.png"]
    assert any((run / "tensorboard").iterdir())


def test_what_cannot_be_resumed_is_refused(options: Make, npz: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no .*resume\.pt to resume"):
        train(options(resume=True))
    train(options(stop_after=2))
    with pytest.raises(OptionError, match=r"resume\.pt is there already: give --resume"):
        train(options())
    with pytest.raises(OptionError, match=r"a run with --lr 0\.001, now it is 0\.002"):
        train(options(resume=True, lr=2e-3))
    arrays = npz_arrays()
    arrays["image"][0, 0, 0] ^= 1
    np.savez(npz, **arrays)
    with pytest.raises(OptionError, match="has changed since the run"):
        train(options(resume=True))


def test_data_that_cannot_be_trained_on(options: Make, npz: Path) -> None:
    np.savez(npz, **{**npz_arrays(), "split": np.zeros(12, np.uint8)})
    with pytest.raises(DataError, match="no image of split 1, 'val'"):
        train(options())


def test_splits_of_unlike_images_are_refused(options: Make, folder: Path) -> None:
    for path in (folder / "images/val").iterdir():
        Image.open(path).convert("RGB").save(path)
    with pytest.raises(DataError, match=r"training images of 1 channel and validation images of 3: convert"):
        train(options(data=folder, classes=CLASSES))
    for path in (folder / "images/val").iterdir():
        Image.open(path).convert("L").resize((16, 16)).save(path)
        Image.new("L", (16, 16)).save(folder / "masks/all/val" / path.name)
    with pytest.raises(DataError, match=r"training images of 16x12 and validation images of 16x16: give --image-size"):
        train(options(data=folder, classes=CLASSES))


def test_a_patient_in_both_splits_is_refused(options: Make, npz: Path, tmp_path: Path) -> None:
    np.savez(npz, **npz_arrays(), patient=np.zeros(12, np.int64))
    with pytest.raises(DataError, match=r"1 patient has images in both train and val \(0\)"):
        train(options())
    assert not (tmp_path / "run").exists()


def test_a_class_that_no_mask_shows_is_said(options: Make, npz: Path) -> None:
    np.savez(npz, **{**npz_arrays(), "class_names": np.array([*CLASSES, "never"])})
    with pytest.warns(AbsentClassWarning, match="no training mask shows 3 never"):
        train(options(steps=1))


def test_an_output_folder_that_cannot_be_written(options: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/run cannot be written"):
        train(options(output=tmp_path / "file" / "run"))


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "log.jsonl"])
def test_no_output_goes_through_a_link(options: Make, tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").write_bytes(b"safe")
    (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match=r"cannot be written \(it is a link\)"):
        train(options(output=tmp_path / "run"))
    assert (tmp_path / "victim").read_bytes() == b"safe"


def test_divergence_is_said_and_not_saved(options: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective_loss = trainer.Objective.loss
    monkeypatch.setattr(trainer.Objective, "loss", lambda *a: objective_loss(*a) * float("nan"))
    with pytest.raises(OptionError, match=r"the loss of step 1 is nan.*lower --lr"):
        train(options())
    assert not (tmp_path / "run" / "resume.pt").exists()


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(options: Make, npz: Path, tmp_path: Path) -> None:
    """Also covers that they stop and resume together."""
    single, double = tmp_path / "single", tmp_path / "double"
    train(options(output=single, batch_size=8, steps=5))
    script = tmp_path / "double.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from seggd_training.loop.config import TrainOptions\n"
        "from seggd_training.loop.trainer import train\n"
        "for stop in (2, 5):\n"
        f"    train(TrainOptions(data=Path({str(npz)!r}), output=Path({str(double)!r}), network='tiny', steps=5,\n"
        "        batch_size=4, lr=1e-3, warmup_steps=2, ema_decay=0.9, augment=True, sample_every=0,\n"
        "        validate_every=0, threads=1, stop_after=stop, resume=stop == 5))\n"
        "    torch.distributed.barrier()\n"
        "torch.distributed.destroy_process_group()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    states = [torch.load(run / "resume.pt", weights_only=True) for run in (single, double)]
    assert [state["world_size"] for state in states] == [1, 2]
    assert [state["step"] for state in states] == [5, 5]
    one, two = (torch.cat([w.flatten() for w in state["weights"].values()]) for state in states)
    start = torch.cat([p.flatten() for p in build_start(options(batch_size=8), single)])
    assert (one - two).norm() < 0.02 * (one - start).norm()


def build_start(options: TrainOptions, run: Path) -> list[torch.Tensor]:
    torch.manual_seed(options.seed)
    return [p.detach() for p in build_unet(Checkpoint.load(run / "last.pt").config.unet).parameters()]
