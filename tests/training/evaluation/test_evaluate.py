from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.bundles import TINY, copy_bundle, edit_manifest, reseal_meaning
from tests.training.grey_hearts import CLASSES, draw_hearts, trained_segmenter, write_npz

pytest.importorskip("monai", reason="needs the extra `eval`")

import msgspec
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner

import seggd_rt
from seggd_cli.training.evaluate import evaluate as command
from seggd_rt.bundle import sha256_of
from seggd_rt.diffusion import derive_seed
from seggd_rt.errors import CheckpointError, DataError, OptionError, OutputError
from seggd_training.data import Split, load_dataset
from seggd_training.data.leakage import LeakageWarning
from seggd_training.evaluation import EvaluateOptions, Part, evaluate, parts
from seggd_training.evaluation.measures import CostRow, choose_cases, draw_images, measure_faithfulness
from seggd_training.evaluation.parts import CopiesWarning
from seggd_training.evaluation.report import Report, for_terminal, markdown, parse_report, spread_cases
from seggd_training.evaluation.report.page import render_page
from seggd_training.evaluation.report.tabulation import faithfulness_table
from seggd_training.evaluation.segmenter import PoorSegmenterWarning

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")

Make = Callable[..., EvaluateOptions]


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz of the tiny bundle's size and classes."""
    return write_npz(tmp_path_factory.mktemp("hearts") / "hearts.npz")


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    """The file of a small segmenter of those images that works."""
    path = tmp_path / "small.pt"
    trained_segmenter()[0].save(path)
    return path


@pytest.fixture
def options(hearts: Path, segmenter: Path, tmp_path: Path) -> Make:
    def make(**changes: Any) -> EvaluateOptions:
        settings: dict[str, Any] = {
            "bundle": TINY, "data": hearts, "output": tmp_path / "out", "segmenter": segmenter,
            "engine": "onnxruntime", "precision": "fp32", "threads": 1, "steps": 8,
        }  # fmt: skip
        return EvaluateOptions(**{**settings, **changes})

    return make


def test_a_bundle_that_follows_its_masks_scores_high(options: Make, hearts: Path, tmp_path: Path) -> None:
    report = evaluate(options(), command="seggd-rt evaluate ...")
    assert report.real.dice.mean > 0.8
    assert report.generated.dice.mean > 0.8
    assert report.generated.dice.low <= report.generated.dice.mean <= report.generated.dice.high
    assert (report.data.images, report.data.of_images, report.data.patients) == (12, 12, 4)
    assert report.data.sha256 == sha256_of(hearts)
    evaluated = seggd_rt.Bundle.open(TINY)
    assert report.bundle.sha256 == evaluated.sha256
    assert report.bundle.checkpoint_sha256 == evaluated.manifest.provenance.checkpoint_sha256
    assert report.generation.engine.engine == "onnxruntime"
    assert report.segmenter.trained_on_this_data and report.notes == ()
    assert parse_report((tmp_path / "out" / "report.json").read_bytes()) == report
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.mode == "RGB" and sheet.width > 5 * 128 and sheet.height > 12 * 96


def test_real_images_are_read_with_the_bundles_own_window(options: Make, tmp_path: Path) -> None:
    bundle = copy_bundle(TINY, tmp_path)
    edit_manifest(bundle, {"intensity_range": [100, 4180]})
    reseal_meaning(bundle)
    images = np.concatenate([draw_hearts(24)[0], draw_hearts(14, seed=1)[0]]).astype(np.uint16) * 16 + 100
    report = evaluate(options(bundle=bundle, data=write_npz(tmp_path / "mri.npz", image=images), steps=2))
    assert report.real.dice.mean > 0.8


def test_a_patient_of_the_training_images_is_not_measured(options: Make, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "leak.npz", patient=np.arange(38) // 5)
    with pytest.raises(DataError, match=r"1 patient has images in both train and val \(4\)"):
        evaluate(options(data=data))


def test_an_image_of_the_training_images_is_noted(options: Make, tmp_path: Path) -> None:
    images = np.concatenate([draw_hearts(24)[0], draw_hearts(14, seed=1)[0]])
    images[[24, 25]] = images[[0, 3]]
    data = write_npz(tmp_path / "leak.npz", image=images)
    with pytest.warns(LeakageWarning, match="2 images of val lie in train too"):
        report = evaluate(options(data=data, steps=2))
    assert [note for note in report.notes if "2 images of val lie in train too" in note]


def test_images_of_other_masks_score_low(hearts: Path) -> None:
    cases = choose_cases(load_dataset(hearts, split=Split.VAL))
    wrong = np.flip(cases.images, axis=2).copy()
    outcome = measure_faithfulness(trained_segmenter()[0], wrong, cases)
    assert outcome.generated.dice.mean < outcome.real.dice.mean - 0.2


def test_each_mask_is_drawn_once_by_its_own_seed_whatever_the_batch(hearts: Path) -> None:
    cases = choose_cases(load_dataset(hearts, split=Split.VAL), 5)
    assert cases.indices.tolist() == [1, 3, 6, 8, 10]
    calls: list[tuple[int, ...]] = []

    def fake(mask: NDArray[np.uint8], /, *, seeds: Sequence[int], steps: int | None) -> NDArray[np.float32]:
        assert steps == 7 and len(mask) == len(seeds)
        calls.append(tuple(seeds))
        return mask.astype(np.float32) / 3

    done: list[int] = []
    images = draw_images(fake, cases, seed=9, steps=7, batch=2, on_images=done.append)
    assert [len(seeds) for seeds in calls] == [2, 2, 1] and done == [2, 4, 5]
    assert [seed for seeds in calls for seed in seeds] == [derive_seed(9, i) for i in (1, 3, 6, 8, 10)]
    assert np.array_equal(images[..., 0], cases.label_maps.astype(np.float32) / 3)


@pytest.mark.filterwarnings("ignore::seggd_training.evaluation.segmenter.origin.PoorSegmenterWarning")
def test_the_segmenter_is_trained_kept_and_trained_again_where_it_does_not_fit(
    options: Make, hearts: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    settings = {"segmenter": None, "segmenter_steps": 2, "limit": 2, "steps": 2}
    first = evaluate(options(**settings), say=said.append)
    assert first.segmenter.source == "trained in this run" and said == []
    assert "2 of 12" in first.notes[0]
    second = evaluate(options(**settings), say=said.append)
    assert second.segmenter.source == "kept from an earlier run" and "used again" in said[0]
    assert second.generated == first.generated
    with pytest.raises(OptionError, match=r"segmenter\.pt was trained on other data or with other settings: .*--force"):
        evaluate(options(**settings | {"segmenter_steps": 1}), say=said.append)
    settings["force"] = True
    third = evaluate(options(**settings | {"segmenter_steps": 1}), say=said.append)
    assert third.segmenter.source == "trained in this run" and "training another" in said[1]
    images, labels = draw_hearts(38, seed=5)
    other = write_npz(tmp_path / "other.npz", image=images, label=labels)
    fourth = evaluate(options(**settings | {"segmenter_steps": 1, "data": other}), say=said.append)
    assert fourth.segmenter.source == "trained in this run" and len(said) == 3


def test_the_report_of_another_evaluation_is_replaced_by_force_alone(options: Make, tmp_path: Path) -> None:
    evaluate(options(steps=2, limit=3))
    path = tmp_path / "out" / "report.json"
    before = path.read_bytes()
    for change, message in (
        ({"steps": 3}, r"report\.json was made with steps 2, and this evaluation has steps 3: give another folder"),
        ({"steps": 2, "limit": 4}, "was made with images 3, and this evaluation has images 4"),
        ({"steps": 2, "batch": 3}, "was made with batch 8, and this evaluation has batch 3"),
        ({"steps": 2, "threads": 2}, "was made with threads 1, and this evaluation has threads 2"),
        ({"steps": 2, "limit": 3, "seed": 1, "split": Split.TEST}, "split val, images 3, seed 0, .* images 2, seed 1"),
    ):
        with pytest.raises(OptionError, match=message):
            evaluate(options(**{"limit": 3, **change}))
        assert path.read_bytes() == before
    path.write_text("{}")
    with pytest.raises(OptionError, match=r"report\.json is there and no report of this version"):
        evaluate(options(steps=2, limit=3))
    assert evaluate(options(steps=3, limit=3, force=True)).generation.steps == 3
    assert parse_report(path.read_bytes()).generation.steps == 3


def test_a_segmenter_that_fails_on_real_images_is_said(options: Make, tmp_path: Path) -> None:
    images, labels = draw_hearts(38, seed=3)
    images[24:] = images[24:][:, ::-1, ::-1]  # not where the masks are
    data = write_npz(tmp_path / "wrong.npz", image=images, label=labels)
    with pytest.warns(PoorSegmenterWarning, match=r"reaches a Dice of 0\.\d+ only on real images"):
        report = evaluate(options(data=data, steps=2, limit=4))
    assert report.real.dice.mean < 0.6
    assert [note for note in report.notes if "train it longer (--segmenter-steps)" in note]


def test_cases_are_called_by_patient_or_by_name(hearts: Path) -> None:
    dataset = load_dataset(hearts, split=Split.VAL)
    assert choose_cases(dataset, 2).titles == ("patient 9\nmask 3", "patient 11\nmask 9")
    anonymous = replace(dataset, patients=None, names=tuple(f"{i}.png" for i in range(12)))
    assert choose_cases(anonymous, 2).titles == ("3.png", "9.png")


def test_what_a_reader_must_know_is_noted(options: Make, tmp_path: Path) -> None:
    images, labels = draw_hearts(38, seed=2)
    labels[24] = 0  # the first validation mask
    data = tmp_path / "anonymous.npz"
    split = np.repeat([0, 1], [24, 14])
    np.savez(data, image=images, label=labels, split=split, class_names=np.array(CLASSES))
    report = evaluate(options(data=data, steps=2))
    assert report.data.patients is None and report.data.empty_masks == 1
    assert [note for note in report.notes if "patients" in note]
    assert [note for note in report.notes if "no foreground" in note]
    assert [note for note in report.notes if "other images" in note], "the segmenter was trained on other data"
    assert report.generated.dice.count == 14, "a mask without foreground counts where the segmenter finds some"


def test_the_sheets_cases_are_spread_over_patients() -> None:
    patients = np.repeat(np.arange(10), 18)
    chosen = spread_cases(patients, 12)
    assert len(set(chosen.tolist())) == 12 and len(set(patients[chosen].tolist())) == 10
    assert len(set((chosen % 18).tolist())) > 4, "not the same slice of every patient"
    assert spread_cases(np.arange(3), 12).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 0}, "--limit is 0"),
        ({"batch": 0}, "--batch is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"segmenter_steps": 5}, "exclude each other"),
        ({"split": Split.TRAIN}, "val or test"),
        ({"seed": -1}, "seed"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
    ],
)
def test_options_that_cannot_be_are_refused_before_any_work(
    options: Make, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        evaluate(options(**changes))
    assert not (tmp_path / "out").exists()


def test_data_of_another_kind_is_refused(options: Make, tmp_path: Path) -> None:
    images, labels = draw_hearts(38)
    names = write_npz(tmp_path / "names.npz", class_names=np.array(["background", "lv", "myo", "rv"]))
    rgb = write_npz(tmp_path / "rgb.npz", image=np.repeat(images[..., None], 3, axis=3))
    empty = write_npz(tmp_path / "empty.npz", label=np.zeros_like(labels))
    train_only = write_npz(tmp_path / "train.npz", split=np.zeros(38, np.uint8))
    for data, message in (
        (names, "the bundle has background, cavity"),
        (rgb, "3 channels; the bundle draws 1"),
        (empty, "no mask with foreground"),
        (train_only, "no image of split"),
        (tmp_path / "none.npz", "does not exist"),
    ):
        with pytest.raises(DataError, match=message):
            evaluate(options(data=data))
    assert not (tmp_path / "out").exists()


def test_a_segmenter_or_folder_that_does_not_serve_is_refused(
    options: Make, hearts: Path, segmenter: Path, tmp_path: Path
) -> None:
    bundle = copy_bundle(TINY, tmp_path)
    edit_manifest(bundle, {"classes.1.name": "lv"})
    names = np.array(["background", "lv", "myocardium", "right ventricle"])
    renamed = write_npz(tmp_path / "renamed.npz", class_names=names)
    with pytest.raises(OptionError, match="segmenter for classes"):
        evaluate(options(bundle=bundle, data=renamed))
    with pytest.raises(CheckpointError, match="does not exist"):
        evaluate(options(segmenter=tmp_path / "none.pt"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        evaluate(options(output=tmp_path / "file"))


def test_the_command_prints_a_table_or_json(options: Make, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    plain = options()
    arguments = [
        str(plain.bundle), "--data", str(plain.data), "-o", str(plain.output), "--segmenter", str(plain.segmenter),
        "--engine", "onnxruntime", "--precision", "fp32", "--threads", "1", "--steps", "2", "--limit", "4",
    ]  # fmt: skip
    table = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert table.exit_code == 0, table.output
    assert "right ventricle" in table.stdout and "mean" in table.stdout and "a quick look: 4 of 12" in table.stdout
    printed = CliRunner().invoke(app, [*arguments, "--json", "--ablation"])
    report = json.loads(printed.stdout)
    assert [row["size"] for row in report["ablation"]] == [1, 2, 3]
    assert report["generation"]["steps"] == 2 and len(report["generated"]["classes"]) == 3
    wrong = CliRunner().invoke(app, [*arguments, "--split", "validation"])
    assert isinstance(wrong.exception, OptionError)


PARTS = frozenset(Part)
QUICK = {"limit": 4, "steps": 2, "grid": "ddim:1000,2 dpm-solver++:2"}


@pytest.fixture
def whole(options: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[Report, list[str]]:
    """A report of every part, and the parts in the order in which they were written."""
    order: list[str] = []
    original = parts.write_report

    def spy(report: Report, folder: Path) -> None:
        order.append(list(report.commands)[-1])
        original(report, folder)

    monkeypatch.setattr(parts, "write_report", spy)
    # A schedule's thousand steps take the tiny network seconds.
    return evaluate(options(**QUICK, parts=PARTS), command="seggd-rt evaluate --all"), order


@pytest.mark.filterwarnings("ignore::seggd_training.evaluation.segmenter.origin.PoorSegmenterWarning")
def test_every_part_is_measured_and_written_as_soon_as_it_is_there(
    whole: tuple[Report, list[str]], tmp_path: Path
) -> None:
    report, order = whole
    assert [row.size for row in report.ablation] == [1, 2, 3]
    assert len(report.interpolation) == 15
    # Weight 0 is the plain generation.
    assert report.interpolation[0].dice.mean == pytest.approx(report.generated.dice.mean, abs=1e-6)
    assert report.use is not None and report.use.pairs == 24
    assert report.cost is not None
    settings = [str(row.setting) for row in report.cost.rows]
    assert settings[:3] == ["ddim, 1000 steps", "ddim, 2 steps", "dpm-solver++, 2 steps"]
    base = report.cost.rows[1]
    assert (base.dice_change.mean, base.frechet_change.mean) == (0, 0), "the same images again"
    assert base.psnr_db is not None and report.cost.rows[0].psnr_db is None
    assert base.dice_change is not None
    others = {(row.setting.engine.engine, row.setting.engine.precision) for row in report.cost.rows[3:]}
    assert len(others) == len(settings) - 3 and ("onnxruntime", "fp32") not in others
    assert report.memorisation is not None and report.memorisation.images == 24
    assert order == ["realism", "ablation", "interpolation", "memorisation", "use", *["cost"] * len(settings)]
    assert set(report.commands.values()) == {("seggd-rt evaluate --all",)}
    out = tmp_path / "out"
    assert parse_report((out / "report.json").read_bytes()) == report
    for name in (
        "sheet-interpolation.png",
        "sheet-memorisation.png",
        *(f"plot-{part}.png" for part in ("faithfulness", *Part)),
    ):
        with Image.open(out / name) as picture:
            assert picture.width > 300
    page = (out / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 9
    rest = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"http|url\(|<script|<link", rest), "the page needs no other file"
    for heading in (
        "follow their masks",
        "look real",
        "left out",
        "dialled",
        "copies of training images",
        "good for",
        "fewer steps",
    ):
        assert heading in page


@pytest.mark.filterwarnings("ignore::seggd_training.evaluation.segmenter.origin.PoorSegmenterWarning")
def test_a_run_into_the_same_folder_measures_what_is_missing(
    whole: tuple[Report, list[str]], options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, _ = whole
    for name in ("measure_ablation", "measure_interpolation", "measure_memorisation", "measure_use", "draw_images"):
        monkeypatch.setattr(parts, name, None)  # a call would fail
    more = options(**QUICK | {"grid": "ddim:1000,2 dpm-solver++:2 ddpm:3", "parts": PARTS})
    again = evaluate(more, command="another")
    assert again.cost is not None and report.cost is not None
    assert again.cost.rows[:-1] == report.cost.rows
    assert str(again.cost.rows[-1].setting) == "ddpm, 3 steps"
    for part in ("ablation", "interpolation", "memorisation", "use"):
        assert getattr(again, part) == getattr(report, part)
    assert again.commands["use"] == ("seggd-rt evaluate --all",)
    assert again.commands["cost"] == ("seggd-rt evaluate --all", "another")
    assert again.generated == report.generated and again.generation == report.generation


def test_copies_are_warned_about_and_added_to_an_earlier_report(
    options: Make, hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report as an earlier version wrote it, which knows nothing of the part, is gone on with."""
    copies = choose_cases(load_dataset(hearts, split=Split.TRAIN)).images[:6] * np.float32(0.9)
    monkeypatch.setattr(parts, "draw_images", lambda *_, **__: copies)
    before = evaluate(options(steps=2, limit=6))
    path = tmp_path / "out" / "report.json"
    older = json.loads(path.read_bytes())
    del older["memorisation"]
    path.write_text(json.dumps(older))
    monkeypatch.setattr(parts, "draw_images", None)  # a call would fail
    with pytest.warns(
        CopiesWarning, match=r"6 of 6 generated images may be copies of training images: see .*sheet-mem"
    ):
        found = evaluate(options(steps=2, limit=6, parts=frozenset({Part.MEMORISATION}))).memorisation
    assert before.memorisation is None and found is not None and found.copies == 6
    assert {match.training for match in found.closest} == {f"hearts.npz[{i}]" for i in range(6)}
    assert (tmp_path / "out" / "sheet-memorisation.png").is_file()
    assert "Taken for copies: 6 of 6" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_parts_of_another_segmenter_are_not_mixed(options: Make, tmp_path: Path) -> None:
    evaluate(options(steps=2, limit=3))
    other = trained_segmenter()[0]
    changed = replace(other, network=copy.deepcopy(other.network))
    with torch.no_grad():
        next(changed.network.parameters()).add_(1e-3)
    changed.save(tmp_path / "other.pt")
    with pytest.raises(OptionError, match=r"report\.json was made with segmenter .* has segmenter"):
        evaluate(options(steps=2, limit=3, segmenter=tmp_path / "other.pt"))


def test_use_needs_a_segmenter_of_the_same_masks(options: Make, tmp_path: Path) -> None:
    images, labels = draw_hearts(38, seed=2)
    other = write_npz(tmp_path / "other.npz", image=images, label=labels)
    with pytest.raises(OptionError, match=r"--use compares .*small\.pt was trained on other data"):
        evaluate(options(data=other, parts=frozenset({Part.USE})))
    assert not (tmp_path / "out").exists()


def test_a_grid_that_cannot_be_is_refused_before_any_work(options: Make, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--grid has 'euler:3'"):
        options(grid="euler:3")
    with pytest.raises(OptionError, match="steps"):
        evaluate(options(grid="ddim:1001", parts=frozenset({Part.COST})))
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::seggd_training.evaluation.segmenter.origin.PoorSegmenterWarning")
def test_what_costs_compare_with_is_drawn_first_whenever_it_is_asked_for(options: Make, tmp_path: Path) -> None:
    def rows(grid: str, **changes: Any) -> dict[str, CostRow]:
        cost = evaluate(options(**QUICK | {"grid": grid, "parts": frozenset({Part.COST})} | changes)).cost
        assert cost is not None
        return {str(row.setting): row for row in cost.rows if row.setting.engine == cost.base.engine}

    alone = rows("dpm-solver++:2")
    assert alone["dpm-solver++, 2 steps"].psnr_db is None
    both = rows("dpm-solver++:2 ddim:1000")
    assert both["dpm-solver++, 2 steps"].psnr_db is not None, "there is something to compare with now"
    assert both["ddim, 1000 steps"].psnr_db is None
    kept = tmp_path / "out" / "ddim-all-steps.npz"
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(DataError, match=r"ddim-all-steps\.npz cannot be read as an \.npz.*or delete it"):
        rows("dpm-solver++:2 ddim:1000")
    other = rows("dpm-solver++:2 ddim:1000", seed=1, force=True)
    assert other["ddim, 1000 steps"].psnr_db is None


def test_images_of_other_patients_are_no_earlier_run(options: Make, tmp_path: Path) -> None:
    evaluate(options(steps=2, limit=4))
    regrouped = write_npz(tmp_path / "regrouped.npz", patient=np.repeat(np.arange(19), 2))
    with pytest.raises(OptionError, match="was made with patients"):
        evaluate(options(steps=2, limit=4, data=regrouped))


@pytest.mark.filterwarnings("ignore::seggd_training.evaluation.segmenter.origin.PoorSegmenterWarning")
def test_one_mask_has_figures_without_intervals(options: Make) -> None:
    report = evaluate(options(**QUICK | {"limit": 1, "parts": PARTS - {Part.USE}}))
    assert report.realism is None and report.generated.dice.count == 1
    assert report.generated.dice.low == report.generated.dice.mean == report.generated.dice.high


def test_chosen_masks_without_foreground_are_refused_before_any_work(options: Make, tmp_path: Path) -> None:
    images, labels = draw_hearts(38)
    labels[24:35] = 0
    data = write_npz(tmp_path / "empty.npz", image=images, label=labels)
    with pytest.raises(DataError, match="none of the 2 chosen masks has foreground"):
        evaluate(options(data=data, limit=2))
    assert not (tmp_path / "out").exists()


def test_a_forgotten_segmenter_is_said_before_another_is_trained(options: Make, tmp_path: Path) -> None:
    evaluate(options(steps=2, limit=3))
    with pytest.raises(OptionError, match="a segmenter that is not beside it: give it by --segmenter"):
        evaluate(options(steps=2, limit=3, segmenter=None))
    assert not (tmp_path / "out" / "segmenter.pt").exists()


def test_names_in_brackets_are_shown(options: Make, tmp_path: Path) -> None:
    report = evaluate(options(steps=2, limit=3))
    odd = msgspec.structs.replace(report.generated.classes[0], name="core [a] [/b] | <i>")
    changed = msgspec.structs.replace(
        report, generated=msgspec.structs.replace(report.generated, classes=(odd, *report.generated.classes[1:]))
    )
    table = faithfulness_table(changed)
    for width in (60, 200):
        console = Console(width=width, record=True, file=io.StringIO(), markup=False)  # as the command line's
        console.print(for_terminal(table, width))
        assert "core [a] [/b] | <i>" in console.export_text()
    assert "core [a] [/b] / <i>" in markdown(table)
    assert b"core [a] [/b] | &lt;i&gt;" in render_page(changed, ())


def test_an_evaluation_writes_over_nothing_that_it_reads(options: Make, hearts: Path, segmenter: Path) -> None:
    asked = options(force=True)
    asked.output.mkdir()
    data, bundle = asked.output / "images.npz", copy_bundle(TINY, asked.output.parent)
    data.write_bytes(hearts.read_bytes())
    for changes, said in (
        ({"data": data}, f"{data} is an input"),
        ({"feature_graph": data}, f"{data} is an input"),
        ({"data": asked.output.parent}, f"{asked.output} lies among inputs"),
        ({"bundle": bundle, "output": bundle / "eval"}, "lies in the bundle's folder"),
    ):
        with pytest.raises(OptionError, match=re.escape(said)):
            evaluate(options(force=True, **changes))
    assert data.read_bytes() == hearts.read_bytes()
    assert [path.name for path in asked.output.iterdir()] == ["images.npz"]


@pytest.mark.parametrize("name", ["sheet.png", "report.html", "report.json", "plot-cost.png", "images.npz"])
def test_another_programs_files_are_kept_unless_force_says_so(name: str, options: Make) -> None:
    folder = options().output
    folder.mkdir()
    (folder / name).write_bytes(b"another program's")
    with pytest.raises(OutputError, match=f"{name} exists and no evaluation wrote it"):
        evaluate(options())
    assert (folder / name).read_bytes() == b"another program's"
    evaluate(options(force=True))
    assert (folder / "report.json").is_file()
