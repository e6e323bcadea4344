"""`seggd-rt export` and `seggd-rt inspect`: options, what goes where, and refusals in one line with exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from typer.testing import CliRunner

from seggd_cli.app import app
from seggd_export import ScheduleOptions
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import BetaCurve, Prediction
from seggd_rt.errors import IntegrityError, OptionError, SeggdError
from tests.export.tiny_networks import DISCS, random_unet

UseTrace = Callable[[ir.Model], None]


def run(*arguments: str | Path) -> tuple[str, str]:
    """Run a command in this process and return stdout and stderr; expected errors are raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout, result.stderr


def test_export_writes_beside_and_prints_path_and_parity(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "heart.pt"
    checkpoint.write_bytes(wide_pt.read_bytes())
    said = ("--licence", "CC0-1.0", "--intended-use", "tests", "--modality", "MR", "--intensity-range", "-1000,1000")
    stdout, stderr = run("export", checkpoint, *said, "--map", "Outer wall=Ring,Skin=background")
    bundle = tmp_path / "heart.seggd"
    assert stdout.splitlines()[0] == str(bundle)
    assert "fp32" in stdout
    assert "fp16" in stdout
    assert "1e-05" in stdout
    assert "proving the fp16 graph" in stderr
    assert "30/30" in stderr
    manifest = Bundle.open(bundle).manifest
    assert (manifest.provenance.intended_use, manifest.modality) == ("tests", "MR")
    assert manifest.dicom is not None
    assert manifest.dicom.segments == {"Outer wall": "Ring", "Skin": "background"}
    assert [str(graph.precision) for graph in manifest.graphs] == ["fp32", "fp16"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modality", "ct scan"], "the modality is 'ct scan'; it must be a term of DICOM"),
        (["--map", "Wall=rim"], "--map has 'Wall=rim', which is no class: there are background, ring, disc"),
        (["--map", "Wall"], "--map has 'Wall'; it must be SEGMENT=CLASS"),
        (["--intensity-range", "0,1"], "was trained with black at -1000 and white at 1000: leave --intensity-range"),
        (["--intensity-range", "1,0"], "--intensity-range is 1,0; it must be LO,HI"),
        (["--intensity-range", "-inf,0"], "--intensity-range is -inf,0; it must be LO,HI"),
        (["--intensity-range", "0"], "--intensity-range is '0'; give LO,HI"),
        (["--precision", "fp32,int4"], "--precision is 'fp32,int4'; it must list fp32, fp16, bf16"),
        (["--image-size", "64x64x3"], r"--image-size is invalid \('64x64x3'\): give N or HxW"),
        (["--image-size", "-4"], r"--image-size is invalid \('-4'\)"),
        (["--image-size", "1" * 5000], r"--image-size is invalid \('1111"),
        (["--unet-config", "missing.json"], "--unet-config missing.json cannot be read"),
        (["--classes", "background,a,b"], "leave --classes out"),
        (["--precision", "fp16", "--loop", "50"], "the loop draws in fp32"),
        (["--loop", "0"], "steps is 0; it must lie in"),
        (["--segmenter", "segmenter.pt"], "--segmenter has no effect without --data: give that too"),
        (["--data", "data.npz"], "--data has no effect without --segmenter: give that too"),
    ],
)
def test_bad_options_are_refused(wide_pt: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        run("export", wide_pt, "-o", tmp_path / "a.seggd", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_segmenter_is_shipped_and_shown(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    pytest.importorskip("monai", reason="needs the extra `eval`")
    from seggd_training.data import Split, load_dataset
    from seggd_training.evaluation.segmenter import PoorSegmenterWarning, SegmenterConfig
    from seggd_training.evaluation.segmenter.training import train_segmenter

    names = ("background", "ring", "disc")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (6, 16, 24))
    images = np.repeat(np.array([-800, 0, 700], np.int16)[labels][..., None], 3, axis=3)
    data = tmp_path / "data.npz"
    np.savez(data, image=images, label=labels, split=[0, 0, 0, 1, 1, 1], class_names=np.array(names))
    config = SegmenterConfig(channels=3, height=16, width=24, classes=names, features=(8,) * 6, steps=1, batch_size=2)
    train_set = load_dataset(data, split=Split.TRAIN, intensity_range=(-1000, 1000))  # the checkpoint's
    train_segmenter(train_set, config).save(tmp_path / "segmenter.pt")
    arguments = ("--segmenter", tmp_path / "segmenter.pt", "--data", data, "--precision", "fp32")
    with pytest.warns(PoorSegmenterWarning, match=r"reaches a Dice of 0\.\d+ only on real images"):
        stdout, _ = run("export", wide_pt, "-o", tmp_path / "a.seggd", *arguments)
    shown, _ = run("inspect", tmp_path / "a.seggd", "--verify")
    for text in (stdout, shown):
        said = " ".join(text.replace("│", " ").split())
        assert "Segmenter, for checks of images" in said and "segmenter.onnx" in said
        assert "3 images, data.npz, val" in said
        assert "Median grey of ring 0.500 to 0.500 (percentiles 1 to 99 of training images)" in said
    as_json = json.loads(run("inspect", tmp_path / "a.seggd", "--json")[0])
    assert as_json["manifest"]["segmenter"]["real"]["images"] == 3
    (tmp_path / "a.seggd" / "segmenter.onnx").unlink()
    with pytest.raises(IntegrityError, match=r"segmenter\.onnx is missing"):
        run("inspect", tmp_path / "a.seggd")


def test_bare_weights_with_everything_said(trace_once: UseTrace, tmp_path: Path) -> None:
    """Also the way of the options: size as HxW, encoding, and a configuration that is read but cannot fit."""
    torch.save(random_unet(DISCS).state_dict(), tmp_path / "bare.pt")
    (tmp_path / "known.json").write_text(json.dumps({"norm_num_groups": 7, "attention_head_dim": 8}))
    with pytest.raises(SeggdError, match="norm_num_groups cannot be 7"):
        run(
            "export",
            tmp_path / "bare.pt",
            *("--classes", "background,ring,disc", "--image-size", "16x24", "--mask-encoding", "label-over-255"),
            *("--prediction", "v", "--beta-schedule", "cosine", "--beta-start", "0.001", "--beta-end", "0.01"),
            *("--unet-config", tmp_path / "known.json"),
        )


@pytest.mark.parametrize("text", ["[1]", "{", '{"norm_eps": 1e-5, "norm_eps": 1e-6}'])
def test_configuration_must_be_an_object(wide_pt: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "known.json").write_text(text)
    with pytest.raises(OptionError, match=r"must hold a JSON object|is not JSON"):
        run("export", wide_pt, "--unet-config", tmp_path / "known.json")


def test_refusal_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 and then nothing")
    done = subprocess.run(
        [sys.executable, "-m", "seggd_cli", "export", str(tmp_path / "broken.pt")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()  # and no bar that stands still
    assert line.startswith("error: ")
    assert "broken.pt is damaged" in line
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pt"]


def test_inspect_shows_classes_graphs_and_provenance(wide_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    stdout, _ = run("inspect", wide_bundle)
    bundle = Bundle.open(wide_bundle)
    for shown in (
        bundle.sha256,
        "3 x 16 x 24",
        "one-hot, 2 channels",
        *(c.name for c in bundle.manifest.classes),
        "#e64b35",
        *(f"{graph.parity.rel_l2:.1e}" for graph in bundle.manifest.graphs),
        bundle.manifest.provenance.checkpoint_sha256,
        "made-up discs",
        "CC0-1.0",
        f"torch {torch.__version__}",
    ):
        assert shown in stdout


def test_export_and_inspect_show_the_loop(trace_once: UseTrace, wide_pt: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "heart.seggd"
    stdout, stderr = run("export", wide_pt, "-o", bundle, "--precision", "fp32", "--loop", "5")
    assert "proving sampler.onnx" in stderr
    assert "5/5" in stderr
    assert (bundle / "sampler.onnx").is_file()
    for shown in (stdout, run("inspect", bundle, "--verify")[0]):
        assert "sampler.onnx: ddim, 5 steps, 0.3 MB" in shown
        assert "the runtime's (limit 1e-05)" in shown
    assert json.loads(run("inspect", bundle, "--json")[0])["manifest"]["extensions"]["sampler"]["steps"] == 5


def test_schedule_options_reach_the_bundle(
    trace_once: UseTrace, wide_pt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ScheduleOptions] = []

    def settle(source: object, *, schedule: ScheduleOptions, **_: object) -> None:
        seen.append(schedule)
        raise OptionError("enough")

    monkeypatch.setattr("seggd_export.export.settle", settle)
    with pytest.raises(OptionError, match="enough"):
        run(
            *("export", wide_pt, "-o", tmp_path / "a.seggd", "--prediction", "sample", "--beta-schedule", "cosine"),
            *("--beta-start", "0.001", "--beta-end", "0.01"),
        )
    assert seen == [
        ScheduleOptions(prediction=Prediction.SAMPLE, beta_schedule=BetaCurve.COSINE, beta_start=0.001, beta_end=0.01)
    ]


def test_inspect_checks_sizes_and_verify_hashes(wide_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(wide_bundle, tmp_path / "copy.seggd"))
    assert "sizes are the manifest's; --verify" in run("inspect", copy)[1]
    assert "5 files" in run("inspect", copy, "--verify")[1]
    graph = copy / "unet.bf16.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    run("inspect", copy)
    with pytest.raises(IntegrityError, match=r"unet\.bf16\.onnx was changed after export"):
        run("inspect", copy, "--verify")
    graph.write_bytes(content[:-1])
    with pytest.raises(IntegrityError, match=rf"unet\.bf16\.onnx has {len(content) - 1} bytes, not {len(content)}"):
        run("inspect", copy)
    graph.unlink()
    with pytest.raises(IntegrityError, match=r"unet\.bf16\.onnx is missing"):
        run("inspect", copy, "--json")


def test_inspect_verify_notices_an_edited_meaning(wide_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(wide_bundle, tmp_path / "copy.seggd"))
    text = (copy / "bundle.json").read_text()
    (copy / "bundle.json").write_text(text.replace('"prediction": "v"', '"prediction": "epsilon"'))
    with pytest.raises(IntegrityError, match="was edited after export"):
        run("inspect", copy, "--verify")


def test_inspect_json_is_the_manifest(wide_bundle: Path) -> None:
    stdout, _ = run("inspect", wide_bundle, "--json")
    shown = json.loads(stdout)
    assert shown["sha256"] == Bundle.open(wide_bundle).sha256
    assert shown["manifest"] == json.loads((wide_bundle / "bundle.json").read_bytes())


def test_inspect_shows_text_of_a_bundle_as_it_is(wide_bundle: Path, tmp_path: Path) -> None:
    """A bundle from elsewhere must not colour the terminal or hide behind markup."""
    copy = Path(shutil.copytree(wide_bundle, tmp_path / "odd.seggd"))
    manifest = json.loads((copy / "bundle.json").read_bytes())
    manifest["provenance"]["licence"] = "[bold]free[/bold] \x1b[31mred"
    (copy / "bundle.json").write_text(json.dumps(manifest))
    stdout, _ = run("inspect", copy)
    assert "[bold]free[/bold]" in stdout
    assert "\x1b[31m" not in stdout
