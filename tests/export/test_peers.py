"""`benchmarks.peers`: that it compares the same thing. How fast anything is, no test asks."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from benchmarks import peers, reference_network
from benchmarks.diffusers_loop import ddim_scheduler
from seggd_export.checkpoint import Checkpoint
from seggd_rt.diffusion import BetaCurve, NoiseSchedule, Prediction, Spacing
from seggd_rt.errors import OptionError

SCHEDULES = {
    "reference": NoiseSchedule(),
    "scaled": NoiseSchedule(beta_curve=BetaCurve.SCALED_LINEAR, beta_start=0.0085, beta_end=0.012, steps_offset=1),
    "cosine": NoiseSchedule(beta_curve=BetaCurve.COSINE, prediction=Prediction.SAMPLE, clip_x0=2.0),
    "zero SNR": NoiseSchedule(zero_terminal_snr=True, prediction=Prediction.V, spacing=Spacing.TRAILING),
    "own end": NoiseSchedule(final_alpha_bar_one=False, spacing=Spacing.LINSPACE, clip_x0=None),
}


@pytest.fixture(scope="module")
def report(wide_pt: Path, wide_bundle: Path) -> peers.Report:
    return peers.compare(wide_pt, wide_bundle, steps=4, repeats=2, threads=1, without=(peers.COMPILED,))


def test_every_engine_draws_the_loops_image(report: peers.Report) -> None:
    by_name = {peer.name: peer for peer in report.peers}
    assert {peers.EAGER, "onnxruntime fp32"} <= by_name.keys()
    assert report.skipped[peers.COMPILED] == "left out"
    for name, peer in by_name.items():
        assert peer.image.count == report.repeats == 2
        assert peer.step_ms == pytest.approx(peer.image.p50_ms / 4)
        assert peer.faster_than_compiled is None
        assert peer.faster_than_eager == pytest.approx(by_name[peers.EAGER].image.p50_ms / peer.image.p50_ms)
        if name.endswith("fp32"):
            assert peer.psnr_db is None or peer.psnr_db > 90


def test_the_table_shows_every_contender(report: peers.Report) -> None:
    console = Console(width=120, record=True, quiet=False, stderr=True)
    console.print(peers.table(report))
    shown = console.export_text()
    for peer in report.peers:
        assert peer.name in shown
    assert msgspec.json.decode(msgspec.json.encode(report), type=peers.Report) == report


def test_a_bundle_of_another_checkpoint_is_refused(wide_bundle: Path, wide_pt: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    checkpoint = Checkpoint.load(wide_pt)
    assert checkpoint.ema is not None
    Checkpoint(checkpoint.config, weights=checkpoint.ema, ema=None).save(other)
    with pytest.raises(OptionError, match=r"was not exported from .*other\.pt"):
        peers.compare(other, wide_bundle, steps=1, repeats=1, threads=1)


def test_the_command_fails_in_one_line_and_writes_nothing(
    wide_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    with pytest.raises(SystemExit) as end:
        peers.main([str(out), "--bundle", str(wide_bundle), "--checkpoint", str(tmp_path / "none.pt")])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_diffusers_gets_the_same_schedule(schedule: NoiseSchedule, steps: int) -> None:
    scheduler = ddim_scheduler(schedule)
    scheduler.set_timesteps(steps)
    np.testing.assert_array_equal(scheduler.timesteps.numpy(), schedule.timesteps(steps))
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), schedule.alpha_bar(), rtol=1e-4, atol=1e-7)
    assert float(scheduler.final_alpha_cumprod) == pytest.approx(schedule.final_alpha_bar())
    predictions = {Prediction.EPSILON: "epsilon", Prediction.SAMPLE: "sample", Prediction.V: "v_prediction"}
    assert scheduler.config.prediction_type == predictions[schedule.prediction]
    assert scheduler.config.clip_sample == (schedule.clip_x0 is not None)
    if schedule.clip_x0 is not None:
        assert scheduler.config.clip_sample_range == schedule.clip_x0


def test_the_reference_network_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[Path] = []

    def export(checkpoint: Path, output: Path, **_: object) -> Path:
        exported.append(checkpoint)
        output.mkdir()
        return output

    monkeypatch.setattr(reference_network, "export_bundle", export)
    made = reference_network.reference_network(tmp_path, network="tiny", size=16)
    weights = made[0].read_bytes()
    assert reference_network.reference_network(tmp_path, network="tiny", size=16) == made
    assert (exported, made[0].read_bytes() == weights) == ([made[0]], True)
    config = Checkpoint.load(made[0]).config
    assert (config.height, config.width, config.unet["in_channels"], config.unet["out_channels"]) == (16, 16, 2, 1)
    other = reference_network.reference_network(tmp_path, network="tiny", size=32)
    assert other[0] != made[0]
