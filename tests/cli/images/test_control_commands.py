"""`seggd-rt sweep`, `interpolate` and `inpaint`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import seggd_rt
from seggd_rt.imaging import read_real
from tests.commands import files_below, run_command, with_options

ORT = ("--engine", "onnxruntime", "--precision", "fp32", "--threads", "1", "--steps", "3")
pytestmark = pytest.mark.usefixtures("needs_onnxruntime")


@pytest.fixture
def mask(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> Path:
    np.save(tmp_path / "mask.npy", golden_mask)
    return tmp_path / "mask.npy"


@pytest.fixture
def real(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "real.png")
    return tmp_path / "real.png"


@pytest.fixture
def region(tmp_path: Path) -> Path:
    where = np.zeros((24, 32), np.uint8)
    where[6:18, 8:24] = 255
    Image.fromarray(where).save(tmp_path / "region.png")
    return tmp_path / "region.png"


def test_a_sweep_is_every_subset(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, mask: Path, tmp_path: Path
) -> None:
    done = run_command("sweep", tiny_bundle, "-m", mask, "-o", tmp_path / "s.npy", "--seed", "5", *ORT)
    assert done.code == 0
    images, about = np.load(tmp_path / "s.npy"), json.loads((tmp_path / "s.json").read_text())
    assert done.out.splitlines() == [str(tmp_path / "s.npy"), str(tmp_path / "s.json")]
    assert (about["seed"], about["mask"], about["bundle"]) == (5, "mask.npy", tiny_generator.bundle.sha256)
    assert len(images) == len(about["classes"]) == 7
    for image, kept in zip(images, about["classes"], strict=True):
        np.testing.assert_array_equal(image, tiny_generator(np.load(mask), seed=5, steps=3, keep=kept))


@pytest.mark.parametrize(
    ("command", "extra", "message"),
    [
        ("interpolate", ["--weight", "0.5,1.5"], "--weight is 0.5,1.5; it, or each of several, must lie in [0, 1]"),
        ("interpolate", ["--at", "0"], "--at is 0; it must lie in (0, 1]"),
        ("interpolate", ["--format", "png"], "--format says what images in a folder are"),
        ("interpolate", ["--real", "away.png"], "away.png is not there"),
        ("inpaint", ["--region", "away.png"], "away.png is not there"),
        ("sweep", ["-m", "away.npy"], "away.npy is not there"),
    ],
)
def test_what_cannot_be_read_is_told_before_an_engine_is_made_ready(
    tiny_bundle: Path,
    mask: Path,
    real: Path,
    region: Path,
    tmp_path: Path,
    command: str,
    extra: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("an engine was asked for")

    monkeypatch.setattr("seggd_rt.inference.loading.load_bundle", fail)
    files = {"interpolate": ["--real", real], "inpaint": ["--real", real, "--region", region], "sweep": []}[command]
    output = tmp_path / ("out.npy" if command == "sweep" else "out.png")
    done = run_command(*with_options([command, tiny_bundle, "-m", mask, "-o", output, *files, *ORT], *extra))
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert message in done.err


def test_a_sweep_may_be_a_grid(tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    done = run_command("sweep", tiny_bundle, "-m", mask, "-o", tmp_path / "new" / "s.png", *ORT)
    assert done.code == 0
    with Image.open(tmp_path / "new" / "s.png") as grid:
        assert grid.mode == "RGB"
        assert grid.width > 4 * 128
        assert len(np.unique(np.asarray(grid).reshape(-1, 3), axis=0)) > 50


def test_a_sweep_says_how_many_masks_are_alike(tiny_bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.tri(24, 32, dtype=np.uint8) * 2)
    done = run_command("sweep", tiny_bundle, "-m", tmp_path / "one.npy", "-o", tmp_path / "s.npy", *ORT)
    assert "the mask shows 1 of 3 classes: the 7 images are of 2 different masks" in done.err


def test_weights_make_a_stack(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, mask: Path, real: Path, tmp_path: Path
) -> None:
    arguments = ("-m", mask, "--real", real, "--weight", "0,0.5,1", "--at", "0.4", "--seed", "5")
    done = run_command("interpolate", tiny_bundle, *arguments, "-o", tmp_path / "i.npy", *ORT)
    assert (done.code, done.out) == (0, f"{tmp_path / 'i.npy'}\n")
    images = np.load(tmp_path / "i.npy")
    pixels = np.asarray(Image.open(real))
    expected = tiny_generator.interpolate(np.load(mask), pixels, weight=[0, 0.5, 1], at=0.4, seed=5, steps=3)
    np.testing.assert_array_equal(images, expected)


def test_weights_may_be_a_grid(tiny_bundle: Path, mask: Path, real: Path, tmp_path: Path) -> None:
    arguments = ("-m", mask, "--real", real, "--weight", "0,1", "--at", "0.4", "--grid", "-o", tmp_path / "i.png")
    assert run_command("interpolate", tiny_bundle, *arguments, *ORT).code == 0
    with Image.open(tmp_path / "i.png") as grid:
        assert grid.width > 4 * 128


def test_a_region_is_drawn_anew_and_the_rest_stays(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, mask: Path, real: Path, region: Path, tmp_path: Path
) -> None:
    arguments = ("-m", mask, "--real", real, "--region", region, "--seed", "5")
    done = run_command("inpaint", tiny_bundle, *arguments, "-o", tmp_path / "i.npy", *ORT)
    assert (done.code, done.out) == (0, f"{tmp_path / 'i.npy'}\n")
    drawn, pixels, where = np.load(tmp_path / "i.npy"), np.asarray(Image.open(real)), np.asarray(Image.open(region)) > 0
    expected = tiny_generator.inpaint(pixels, where, np.load(mask), seed=5, steps=3)
    np.testing.assert_array_equal(drawn.squeeze(), expected)
    np.testing.assert_allclose(drawn.squeeze()[~where], pixels[~where] / np.float32(255), atol=1e-6)
    assert run_command("inpaint", tiny_bundle, *arguments, "--grid", "-o", tmp_path / "g.png", *ORT).code == 0
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.width > 4 * 128


def test_a_region_may_be_classes_of_a_label_map(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, mask: Path, real: Path, tmp_path: Path
) -> None:
    files = ("-m", mask, "--real", real, "--region", mask, "-o", tmp_path / "i.png", *ORT)
    done = run_command("inpaint", tiny_bundle, *files)
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert "mask.npy: the region has values other than 0/1 or 0/255 (0, 1, 2, ...)" in done.err
    done = run_command("inpaint", tiny_bundle, *files, "--region-classes", "CAVITY,myocardium")
    assert done.code == 0
    names = [c.name for c in tiny_generator.manifest.classes]
    where = np.isin(np.load(mask), [names.index("cavity"), names.index("myocardium")])
    expected = tiny_generator.inpaint(np.asarray(Image.open(real)), where, np.load(mask), steps=3)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "i.png")), np.rint(expected * 255))
    (made,) = json.loads(run_command("verify", tmp_path / "i.png", "--json").out)
    assert made["region_classes"] == [name for name in names if name in ("cavity", "myocardium")]


@pytest.mark.parametrize("ending", [".png", ".nii.gz", ".dcm"])
def test_a_folder_takes_a_file_for_each_image(
    tiny_bundle: Path, tiny_generator: seggd_rt.Generator, golden_mask: NDArray[np.uint8], real: Path, tmp_path: Path,
    ending: str,
) -> None:  # fmt: skip
    """In the label map's format, whose slices are numbered, or in the one that is said."""
    nib = pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    if ending == ".dcm":
        pytest.importorskip("highdicom", reason="the extra dicom is not installed")
    mask, form = tmp_path / "case.nii", {".png": ["--format", "png"], ".dcm": ["--format", "dicom"]}.get(ending, [])
    volume = np.stack([golden_mask[::-1, ::-1].T] * 2, axis=2)
    nib.save(nib.Nifti1Image(volume, np.diag([1.0, 1.0, 3.0, 1.0])), mask)
    options = ("-m", mask, "--slice", "1", "--seed", "5", *form, *ORT)
    swept = run_command("sweep", tiny_bundle, "-o", tmp_path / "s", *options)
    mixed = run_command("interpolate", tiny_bundle, "-o", tmp_path / "i", "--real", real, "--weight", "0,1", *options)
    assert (swept.code, mixed.code) == (0, 0), swept.err + mixed.err
    assert mixed.out.splitlines() == [str(tmp_path / "i" / f"case_1_{weight}{ending}") for weight in (0, 1)]
    *files, about = map(Path, swept.out.splitlines())
    assert (about.name, [file.name for file in files]) == ("case_1.json", [f"case_1_{i}{ending}" for i in range(1, 8)])
    for file, kept in zip(files, json.loads(about.read_text())["classes"], strict=True):
        expected = tiny_generator(golden_mask, seed=5, steps=3, keep=kept)
        if ending != ".dcm":  # in 16 bits, which no bundle without an intensity range takes for a real image
            np.testing.assert_allclose(read_real(file, tiny_generator.manifest), expected, atol=1 / 255)
        read = run_command("verify", file, tiny_bundle, "-m", mask, *ORT[:-2])
        assert (read.code, "drawn again" in read.err) == (0, True), read.err


def test_nothing_of_others_is_replaced(
    tiny_bundle: Path, golden_mask: NDArray[np.uint8], real: Path, region: Path, tmp_path: Path
) -> None:
    (tmp_path / "masks").mkdir()
    mask = tmp_path / "masks" / "a.png"
    Image.fromarray(golden_mask).save(mask)
    Image.fromarray(golden_mask).save(tmp_path / "a_0.5.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    given = ("--real", real, *ORT)
    for command, options, message in (
        ("generate", ("-o", real), "already exists and was not written by seggd-rt"),
        ("generate", ("--from", real, "--at", "0.5", "-o", real), "is an input"),
        ("sweep", ("-o", tmp_path / "masks"), "is where the label map is"),
        ("sweep", ("-o", real), "already exists and was not written by seggd-rt"),
        ("interpolate", (*given, "-o", tmp_path), "a_0.5.png already exists and was not written by seggd-rt"),
        ("interpolate", (*given, "-o", region), "already exists and was not written by seggd-rt"),
        ("interpolate", (*given, "--grid", "-o", region), "already exists and was not written by seggd-rt"),
        ("inpaint", (*given, "--region", region, "-o", region), "is an input"),
        (
            "inpaint",
            (*given, "--region", region, "--grid", "-o", tmp_path / "a_0.5.png"),
            "was not written by seggd-rt",
        ),
    ):
        done = run_command(command, tiny_bundle, "-m", mask, *options, *(() if command != "generate" else ORT))
        assert (done.code, message in done.err.splitlines()[-1]) == (2, True), done.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    for _ in range(2):  # its own it does replace, but for what it reads
        own = ("interpolate", tiny_bundle, "-m", mask, "--weight", "0.1", "-o", tmp_path / "between", *given)
        assert run_command(*own).code == 0
    drawn = tmp_path / "between" / "a_0.1.png"
    again = run_command(*own[: -len(given)], "--real", drawn, *ORT)
    assert (again.code, "is an input" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("command", "name", "grid"),
    [
        ("sweep", "s.npy", False),
        ("sweep", "s.png", False),
        ("sweep", "s/", False),
        ("interpolate", "i.png", False),
        ("interpolate", "i.png", True),
        ("interpolate", "i/", False),
        ("inpaint", "p.png", False),
        ("inpaint", "p.png", True),
        ("inpaint", "p.npy", False),
    ],
)
def test_files_of_other_settings_are_replaced_by_force_alone(
    command: str, name: str, grid: bool, tiny_bundle: Path, mask: Path, real: Path, region: Path, tmp_path: Path
) -> None:
    given = {"interpolate": ["--real", real], "inpaint": ["--real", real, "--region", region], "sweep": []}[command]
    go = (command, tiny_bundle, "-m", mask, "-o", f"{tmp_path}/{name}", *given, *(["--grid"] if grid else []), *ORT)
    for _ in range(2):  # of the same settings they are replaced
        assert run_command(*go).code == 0
    before = files_below(tmp_path)
    for changed, said in ((("--steps", "4"), "steps"), (("--seed", "9"), "")):
        done = run_command(*with_options(go, *changed))
        assert (done.code, done.out) == (2, ""), done.err
        assert said in done.err
        assert done.err.rstrip().endswith("choose another place with -o, or replace it with --force")
        assert files_below(tmp_path) == before
    assert run_command(*with_options(go, "--steps", "4"), "--force").code == 0
    assert files_below(tmp_path) != before


def test_a_list_of_others_is_not_replaced_by_a_sweeps(tiny_bundle: Path, mask: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("[1]")
    done = run_command("sweep", tiny_bundle, "-m", mask, "-o", tmp_path / "s.npy", *ORT, "--force")
    assert (done.code, "s.json already exists and was not written by seggd-rt" in done.err) == (2, True)
    assert (tmp_path / "s.json").read_text() == "[1]"
    assert not (tmp_path / "s.npy").exists()


def test_the_real_slice_may_be_another(
    tiny_bundle: Path, golden_mask: NDArray[np.uint8], region: Path, tmp_path: Path
) -> None:
    nib = pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    volume = np.random.default_rng(0).random((3, 24, 32)).astype(np.float32)
    for name, slices in (("mask", np.stack([golden_mask] * 3)), ("real", volume)):
        nib.save(nib.Nifti1Image(slices[:, ::-1, ::-1].T, np.eye(4)), tmp_path / f"{name}.nii")
    np.save(tmp_path / "real.npy", volume[2])
    here = ("-m", tmp_path / "mask.nii", "--slice", "0")
    for command, extra in (("interpolate", ()), ("inpaint", ("--region", region))):
        of_volume = ("--real", tmp_path / "real.nii", "--real-slice", "2", "-o", tmp_path / "a.npy")
        of_slice = ("--real", tmp_path / "real.npy", "-o", tmp_path / "b.npy")
        for given in (of_volume, of_slice):  # --force: the second command replaces images of the first
            done = run_command(command, tiny_bundle, *here, *extra, *given, *ORT, "--force")
            assert done.code == 0, done.err
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
        again = run_command("verify", tmp_path / "a.npy", tiny_bundle, *here[:2], *of_volume[:2], *extra, *ORT[:-2])
        assert (again.code, "equal in every pixel" in again.err) == (0, True), again.err


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("sweep", ("-o", "s.png", "--format", "nifti"), "give a folder with -o"),
        ("interpolate", ("-o", "i.png", "--format", "nifti"), "give a folder with -o"),
        ("interpolate", ("-o", "i", "--weight", "0.5,0.50"), "say each but once"),
        ("interpolate", ("-o", "i.png/", "--weight", "0.5,0.50"), "say each but once"),
        ("interpolate", ("-o", "i", "--format", "gif"), "--format is gif"),
        ("sweep", ("-o", "s.gif"), "cannot be written as 's.gif'"),
        ("sweep", ("-o", "s.png", "--batch", "0"), "--batch is 0"),
        ("sweep", ("-o", "s.png", "--sampler", "x"), "no sampler 'x'"),
        ("interpolate", ("-o", "i.png", "--weight", "a"), "--weight is a"),
        ("interpolate", ("-o", "i.png", "--weight", "0,1"), "cannot hold 2 images"),
        ("interpolate", ("-o", "i.npy", "--grid"), "must end in .png"),
        ("interpolate", ("-o", "i.png", "--weight", "2"), "must lie in"),
        ("interpolate", ("-o", "i.png", "--at", "1.5"), "at is 1.5"),
        ("interpolate", ("-o", "i.png", "--real", "none.png"), "none.png is not there"),
        ("inpaint", ("-o", "i.npy", "--grid"), "must end in .png"),
        ("inpaint", ("-o", "i.png", "--region", "none.png"), "none.png is not there"),
        ("inpaint", ("-o", "i.png", "--region", "black.png"), "region"),
        ("inpaint", ("-o", "region.png"), "region.png is an input"),
        ("inpaint", ("-o", "real.png"), "real.png is an input"),
        ("interpolate", ("-o", "real.png"), "real.png is an input"),
        ("sweep", ("-o", "mask.npy"), "mask.npy is an input"),
    ],
)
def test_bad_options_are_one_line(
    tiny_bundle: Path,
    mask: Path,
    real: Path,
    region: Path,
    tmp_path: Path,
    command: str,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(tmp_path / "black.png")
    given = [str(tmp_path / part) if part.endswith((".png", ".npy", ".gif")) else part for part in arguments]
    if command != "sweep" and "--real" not in given:
        given += ["--real", str(real)]
    if command == "inpaint" and "--region" not in given:
        given += ["--region", str(region)]
    done = run_command(command, tiny_bundle, "-m", mask, *given, *ORT)
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("[is].*"))


def test_a_stack_of_masks_is_too_many(tiny_bundle: Path, golden_mask: NDArray[np.uint8], tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", np.stack([golden_mask, golden_mask]))
    done = run_command("sweep", tiny_bundle, "-m", tmp_path / "two.npy", "-o", tmp_path / "s.png", *ORT)
    assert done.code == 2
    assert "holds 2 slices: say which with --slice, from 0 to 1" in done.err


def test_a_grid_and_its_list_take_their_places_together(
    tiny_bundle: Path, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = seggd_rt.Generator.sweep

    def meanwhile(*arguments: Any, **how: Any) -> Any:
        (tmp_path / "s.json").write_text("[1]")  # another program's, after the first look
        return sweep(*arguments, **how)

    monkeypatch.setattr(seggd_rt.Generator, "sweep", meanwhile)
    done = run_command("sweep", tiny_bundle, "-m", mask, "-o", tmp_path / "s.png", *ORT, "--force")
    assert done.code == 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("s.")) == ["s.json"]
    assert (tmp_path / "s.json").read_text() == "[1]"
