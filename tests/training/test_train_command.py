"""The commands `train` and `slim`: flags become options, and results are said on stdout."""

from __future__ import annotations

import inspect
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from seggd_cli.bundles.slim import slim
from seggd_cli.training.train import train
from seggd_export.checkpoint import Checkpoint
from seggd_rt.errors import CheckpointError, OptionError, OutputError
from seggd_training.loop import TrainOptions
from seggd_training.loop.trainer import Outcome

runner = CliRunner()


def _invoke(command: Any, *arguments: str) -> Any:
    app = typer.Typer()
    app.command()(command)
    return runner.invoke(app, arguments)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[TrainOptions]:
    """The options a command would have trained with."""
    options: list[TrainOptions] = []

    def record(given: TrainOptions, *, command: str | None = None) -> Outcome:
        options.append(given)
        return Outcome(step=given.steps)

    monkeypatch.setattr("seggd_training.loop.train", record)
    return options


def test_defaults_are_those_of_the_options(seen: list[TrainOptions]) -> None:
    assert _invoke(train, "--data", "d.npz", "-o", "out").exit_code == 0
    assert seen == [TrainOptions(data=Path("d.npz"), output=Path("out"))]


def test_every_option_has_a_flag() -> None:
    flags = {"encoding": "mask_encoding"}
    fields = {flags.get(field, field) for field in TrainOptions.__struct_fields__}
    assert fields == set(inspect.signature(train).parameters)


def test_flags_are_read(seen: list[TrainOptions]) -> None:
    flags = "--data d -o out --classes a,b,c --image-size 96x128 --no-ablation --prediction v --mixed-precision bf16"
    flags += " --mask-encoding label-over-255 --min-snr 5 --resume --seed 3 --intensity-range -1000,1e3"
    assert _invoke(train, *flags.split()).exit_code == 0
    changes = msgspec.structs.asdict(seen[0])
    assert changes["classes"] == ("a", "b", "c")
    assert changes["image_size"] == (96, 128)
    assert changes["intensity_range"] == (-1000.0, 1000.0)
    assert (changes["ablation"], changes["resume"], changes["seed"], changes["min_snr"]) == (False, True, 3, 5.0)
    assert (changes["prediction"], changes["mixed_precision"], changes["encoding"]) == ("v", "bf16", "label-over-255")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--image-size", "64x64x64"], "--image-size is invalid ('64x64x64'): give N or HxW"),
        (["--image-size", "-1"], "--image-size is invalid ('-1')"),
        (["--image-size", "1" * 5000], "--image-size is invalid ('1111"),
        (["--image-size", "99999x99999"], "at most 67108864 pixels"),
        (["--seed", str(1 << 64)], "seed is 18446744073709551616; it must be a whole number in"),
        (["--threads", str(1 << 64)], "threads is 18446744073709551616: this machine has"),
        (["--mixed-precision", "int8"], "--mixed-precision is 'int8'; it must be no, bf16 or fp16"),
        (["--intensity-range", "4095"], "--intensity-range is '4095'; give LO,HI"),
        (["--intensity-range", "5,5"], "--intensity-range is 5,5; it must be LO,HI"),
        (["--intensity-range", "0,inf"], "--intensity-range is 0,inf"),
        (["--steps", "0"], "--steps is 0"),
    ],
)
def test_what_no_option_can_be(seen: list[TrainOptions], flags: list[str], message: str) -> None:
    result = _invoke(train, "--data", "d", "-o", "out", *flags)
    assert isinstance(result.exception, OptionError)
    assert message in str(result.exception)
    assert not seen


def test_a_finished_run_prints_what_to_export(npz: Path, tmp_path: Path) -> None:
    flags = f"--data {npz} -o {tmp_path}/run --network tiny --steps 2 --batch-size 2 --sample-every 0".split()
    stopped = _invoke(train, *flags, "--stop-after", "1", "--validate-every", "0")
    assert (stopped.exit_code, stopped.stdout) == (0, "")
    assert f"stopped: saved at step 1 in {tmp_path}/run: --resume continues" in stopped.stderr
    unvalidated = _invoke(train, *flags, "--resume", "--validate-every", "0")
    assert (unvalidated.exit_code, unvalidated.stdout) == (0, f"{tmp_path}/run/last.pt\n")
    flags[3] = f"{tmp_path}/other"
    assert _invoke(train, *flags, "--validate-every", "1").stdout == f"{tmp_path}/other/best.pt\n"
    assert (tmp_path / "other" / "best.pt").is_file()


def test_an_interrupted_run_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome(step=7, signal=2, checkpoint=Path("out/best.pt"))
    monkeypatch.setattr("seggd_training.loop.train", lambda options, *, command: outcome)
    result = _invoke(train, "--data", "d.npz", "-o", "out")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "interrupted: saved at step 7 in out: --resume continues\n"


def test_slim_writes_a_small_checkpoint(npz: Path, tmp_path: Path) -> None:
    flags = f"--data {npz} -o {tmp_path}/run --network tiny --steps 2 --batch-size 2 --sample-every 0".split()
    assert _invoke(train, *flags).exit_code == 0
    last = tmp_path / "run/last.pt"
    result = _invoke(slim, str(last), "-o", str(tmp_path / "slim.pt"))
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path}/slim.pt")
    assert (tmp_path / "slim.pt").stat().st_size < 0.4 * last.stat().st_size
    assert Checkpoint.load(tmp_path / "slim.pt").config == Checkpoint.load(last).config
    assert isinstance(_invoke(slim, str(npz), "-o", str(tmp_path / "no.pt")).exception, CheckpointError)
    assert not (tmp_path / "no.pt").exists()


def test_slim_replaces_nothing_unasked(npz: Path, tmp_path: Path) -> None:
    flags = f"--data {npz} -o {tmp_path}/run --network tiny --steps 1 --batch-size 2 --sample-every 0".split()
    assert _invoke(train, *flags).exit_code == 0
    source, output = tmp_path / "run/last.pt", tmp_path / "b.pt"
    before = source.read_bytes()
    output.write_bytes(before)
    assert isinstance(_invoke(slim, str(source), "-o", str(source), "--force").exception, OptionError)
    refused = _invoke(slim, str(source), "-o", str(output)).exception
    assert isinstance(refused, OutputError)
    assert "b.pt exists: give another file with -o, or replace it by --force" in str(refused)
    assert source.read_bytes() == output.read_bytes() == before
    (tmp_path / "link.pt").symlink_to(output)
    os.mkfifo(tmp_path / "pipe.pt")
    for name in ("link", "pipe"):
        refused = _invoke(slim, str(source), "-o", f"{tmp_path}/{name}.pt", "--force").exception
        assert f"{name}.pt cannot be written (it is a {name})" in str(refused)
    assert output.read_bytes() == before
    assert stat.S_ISFIFO((tmp_path / "pipe.pt").lstat().st_mode)
    assert _invoke(slim, str(source), "-o", str(output), "--force").exit_code == 0
    assert source.read_bytes() == before != output.read_bytes()


def test_the_commands_alone_load_no_torch() -> None:
    code = "import sys, seggd_cli.training.train, seggd_cli.bundles.slim; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
