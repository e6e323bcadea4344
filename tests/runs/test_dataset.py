"""Plans and runs: seeds, order, what is warned about, and what a failure leaves."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import seggd_rt
from seggd_engines.host import HostSession
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import AspectRatioWarning, OneHotWarning, derive_seed, resize_nearest
from seggd_rt.engine import NetworkShape
from seggd_rt.errors import DataError, EngineError, LabelMapError, OptionError, OutputError
from seggd_rt.imaging import Fit, Reading
from seggd_rt.imaging.folder import SkippedFilesWarning
from seggd_rt.imaging.npy import NpyWriter
from seggd_rt.runs import Plan, Progress, Record, Shard, plan_run, run
from seggd_rt.runs.dataset import FinishedImagesWarning
from seggd_rt.runs.mask_checks import CutMaskWarning, ResizedMaskWarning
from seggd_rt.runs.records import ManifestFile
from tests.bundles import GOLDEN, TINY, TINY_RGB
from tests.commands import files_below
from tests.engines.analytic import AnalyticNetwork
from tests.paths import REPOSITORY

BUNDLE = Bundle.open(TINY)
STEPS = 3
RUN = """
import runpy, sys, warnings
from pathlib import Path
import seggd_rt
from seggd_rt.engine.contract import NetworkShape
from seggd_rt.bundle.bundle import Bundle
from seggd_rt.runs.dataset import FinishedImagesWarning, run
from seggd_rt.runs.plan import plan_run
warnings.simplefilter("ignore", FinishedImagesWarning)
AnalyticNetwork = runpy.run_path(sys.argv[1])["AnalyticNetwork"]
bundle, steps, seed = Bundle.open(Path(sys.argv[2])), int(sys.argv[5]), int(sys.argv[6])
with seggd_rt.Generator(bundle, AnalyticNetwork(NetworkShape(1, 3, 24, 32), std=0.2)) as generator:
    print("ready", flush=True)
    sys.stdin.readline()
    list(run(plan_run(bundle, sys.argv[3], sys.argv[4], count=20, steps=steps, seed=seed), generator))
"""


def run_at_once(masks: Path, output: Path, settings: Sequence[tuple[int, int]]) -> list[tuple[int, str]]:
    """Start a process for each number of steps and seed, all at the same time; return exit codes and last lines."""
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                RUN,
                REPOSITORY / "tests/engines/analytic.py",
                TINY,
                masks,
                output,
                str(steps),
                str(seed),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for steps, seed in settings
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=60)[1].rstrip() for process in processes]
    return [(process.returncode, end.rpartition("\n")[2]) for process, end in zip(processes, ends, strict=True)]


@pytest.fixture
def masks(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> Path:
    """A folder of three label maps: two in a stack."""
    folder = tmp_path / "masks"
    folder.mkdir()
    np.save(folder / "a.npy", np.stack([golden_mask, golden_mask[::-1]]))
    Image.fromarray(golden_mask[:, ::-1]).save(folder / "b.png")
    return folder


@pytest.fixture
def generator() -> Iterator[seggd_rt.Generator]:
    """The analytic network under the tiny bundle's manifest: no engine is needed."""
    with seggd_rt.Generator(BUNDLE, AnalyticNetwork(NetworkShape(1, 3, 24, 32), std=0.2)) as opened:
        yield opened


def plan(masks: Path, output: Path, **options: object) -> Plan:
    return plan_run(BUNDLE, masks, output, **{"steps": STEPS, **options})  # type: ignore[arg-type]


def test_items_are_in_order_with_seeds_of_their_own(masks: Path, tmp_path: Path) -> None:
    planned = plan(masks, tmp_path / "out", seed=9, count=2)
    items = list(planned)
    assert [(item.number, item.file.path.name, item.index) for item in items] == [
        (0, "a.npy", 0),
        (1, "a.npy", 0),
        (2, "a.npy", 1),
        (3, "a.npy", 1),
        (4, "b.png", 0),
        (5, "b.png", 0),
    ]
    assert [item.seed for item in items] == [derive_seed(9, place, copy) for place in range(3) for copy in range(2)]
    names = [target.name for target in planned.targets()]
    assert names[3] == f"a_1_{derive_seed(9, 1, 1)}"
    assert len(set(names)) == 6


def test_the_only_image_has_the_seed_itself(masks: Path, tmp_path: Path) -> None:
    (target,) = plan(masks / "b.png", tmp_path / "out", seed=9).targets()
    assert (target.items[0].seed, target.name) == (9, "b_9")
    assert next(iter(plan(masks / "b.png", tmp_path / "out", seed=9, count=2))).seed == derive_seed(9, 0, 0)


def test_planning_writes_nothing(masks: Path, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    plan(masks, tmp_path / "deep" / "out")
    plan(masks, tmp_path / "deep" / "out.npy")
    assert files_below(tmp_path) == before


def test_images_do_not_depend_on_batches(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    for size in (1, 2, 4):
        records = list(run(plan(masks, tmp_path / f"{size}", count=2, eta=1.0), generator, batch=size))
        assert len(records) == 6
        assert {record.batch for record in records} == {size} if size < 4 else {4, 2}
    one, *others = (without_batch(tmp_path / name) for name in ("1", "2", "4"))
    assert all(other == one for other in others)


def without_batch(folder: Path) -> dict[str, tuple[bytes, Record]]:
    """Return the pixels and the record of each image, without the batch size, on which the file's bytes depend too."""
    return {
        record.file: (
            np.asarray(Image.open(folder / record.file)).tobytes(),
            replace(record, batch=None, file_sha256=None),
        )
        for record in ManifestFile(folder).records()
    }


def test_a_record_comes_after_its_file_and_line(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    out = tmp_path / "out"
    for number, record in enumerate(run(plan(masks, out), generator, batch=3), start=1):
        Image.open(out / record.file).load()
        assert number <= (out / "manifest.jsonl").read_text().count("\n") <= len(list(out.glob("*.png")))


def test_stopping_leaves_what_is_finished(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    with closing(run(plan(masks, tmp_path / "out"), generator)) as records:
        first = next(records)
    finished = [record.file for record in ManifestFile(tmp_path / "out").records()]
    assert finished[0] == first.file
    assert sorted(files_below(tmp_path / "out")) == sorted([*finished, "manifest.jsonl"])
    before = files_below(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        list(run(plan(masks, tmp_path / "all.npy"), generator, on_progress=interrupt_second))
    assert files_below(tmp_path) == before


def interrupt_second(progress: Progress) -> None:
    if progress.done == 1:
        raise KeyboardInterrupt


def test_progress(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    seen: list[Progress] = []
    list(run(plan(masks, tmp_path / "out"), generator, batch=2, on_progress=seen.append))
    assert [(state.done, state.batch, state.step.index) for state in seen] == [
        *((0, 2, step) for step in range(STEPS)),
        *((2, 1, step) for step in range(STEPS)),
    ]
    assert {state.total for state in seen} == {3}


def test_where_nobody_listens_steps_are_not_told(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An engine that is told so runs all steps as one.
    heard: list[object] = []
    session_run = HostSession.run
    monkeypatch.setattr(HostSession, "run", lambda self, *run: heard.append(run[2]) or session_run(self, *run))
    list(run(plan(masks, tmp_path / "out"), generator, batch=4))
    assert heard == [None]


def test_other_sizes_are_resized_and_that_is_said_once(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator, golden_mask: NDArray[np.uint8]
) -> None:
    large = np.kron(golden_mask, np.ones((2, 2), np.uint8))
    for name in ("c", "d"):
        np.save(masks / f"{name}.npy", large)
    np.save(masks / "e.npy", large[:40, :53])
    message = r"3 of 6 masks are not 24x32, .* by nearest neighbour \(48x64: 2, 40x53: 1\)"
    with pytest.warns(ResizedMaskWarning, match=message) as caught:
        planned = plan(masks, tmp_path / "out.npy", seed=1)
    assert len(caught) == 1
    list(run(planned, generator))
    images = np.load(tmp_path / "out.npy")
    exact = generator(golden_mask, seed=derive_seed(1, 3), steps=STEPS)
    np.testing.assert_array_equal(images[3], exact)
    fitted = generator(resize_nearest(large[:40, :53], 24, 32), seed=derive_seed(1, 5), steps=STEPS)
    np.testing.assert_array_equal(images[5], fitted)


def test_labels_outside_of_a_crop_are_said_once(masks: Path, tmp_path: Path) -> None:
    large = np.zeros((2, 48, 64), np.uint8)
    large[:, 20:28, 0:20] = 1  # columns 16 to 47 are taken
    np.save(masks / "c.npy", large)
    message = r"2 of 5 masks have labels outside the 24x32 pixels .*: use --fit resize, or crop the masks: .*c.npy\[0\]"
    with pytest.warns(CutMaskWarning, match=message) as caught:
        plan(masks, tmp_path / "out.npy", reading=Reading(fit=Fit.CROP_PAD))
    assert len(caught) == 1
    assert "256 of " in str(caught[0].message)


def test_another_aspect_ratio_is_said_once(masks: Path, tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    np.save(masks / "c.npy", np.stack([golden_mask[:20], golden_mask[4:]]))
    with pytest.warns() as caught:
        plan(masks, tmp_path / "out.npy")
    assert [warning.category for warning in caught] == [ResizedMaskWarning, AspectRatioWarning]
    note = (
        "2 of 5 masks are distorted: 20x32 to 24x32 changes the aspect ratio: crop or pad first, or have them fitted "
        "by letterbox"
    )
    assert str(caught[1].message) == note


def test_a_stack_of_classes_is_said(masks: Path, tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    one_hot = (np.arange(1, 4)[:, None, None] == golden_mask).astype(np.uint8)
    np.save(masks / "c.npy", one_hot)
    with pytest.warns(OneHotWarning, match=r"c\.npy: a stack of 3 label maps of zeros and ones looks one-hot"):
        plan(masks, tmp_path / "out.npy")


def test_masks_without_foreground_are_said_once_with_counts(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator
) -> None:
    np.save(masks / "c.npy", np.zeros((3, 24, 32), np.uint8))
    with pytest.warns(seggd_rt.EmptyMaskWarning, match=r"3 of 6 masks have no foreground.*c.npy\[0\]") as caught:
        planned = plan(masks, tmp_path / "out.npy")
    assert len(caught) == 1
    assert len(list(run(planned, generator, batch=2))) == 6  # and no warning again: it would be an error here


def test_a_mask_that_loses_its_only_class_is_empty(masks: Path, tmp_path: Path) -> None:
    np.save(masks / "c.npy", np.ones((24, 32), np.uint8))
    with pytest.warns(seggd_rt.EmptyMaskWarning, match="1 of 4"):
        plan(masks, tmp_path / "out", drop=["cavity"])


def test_what_a_folder_holds_besides_is_said(masks: Path, tmp_path: Path) -> None:
    (masks / "readme.txt").touch()
    with pytest.warns(SkippedFilesWarning, match="readme.txt"):
        plan(masks, tmp_path / "out")


def test_a_mask_that_changes_under_way(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    # Far behind the images that are drawn, written or read ahead when the first is reported.
    np.save(masks / "b.npy", np.repeat(np.load(masks / "a.npy")[:1], 20, axis=0))
    records = run(plan(masks, tmp_path / "out"), generator)
    next(records)
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(masks / "b.png")
    with pytest.raises(LabelMapError, match=r"b.png: label 77"):
        list(records)
    finished = [record.file for record in ManifestFile(tmp_path / "out").records()]
    assert len(finished) == 22
    assert sorted(files_below(tmp_path / "out")) == sorted([*finished, "manifest.jsonl"])


def test_an_output_that_becomes_unwritable(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    planned = plan(masks, tmp_path / "out")
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="out cannot be written"):
        list(run(planned, generator))


def test_a_foreign_manifest_is_not_overwritten(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.jsonl").write_text("somebody else's\n")
    before = files_below(tmp_path)
    with pytest.raises(DataError, match="is not a seggd-rt record"):
        list(run(plan(masks, tmp_path / "out"), generator))
    assert files_below(tmp_path) == before


def test_an_engine_that_fails_leaves_what_is_finished(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator
) -> None:
    def fail(progress: Progress) -> None:
        if progress.done == 2:
            raise EngineError("the network is gone")

    with pytest.raises(EngineError, match="gone"):
        list(run(plan(masks, tmp_path / "out"), generator, on_progress=fail))
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_a_plan_is_for_its_bundle(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    with pytest.warns((ResizedMaskWarning, AspectRatioWarning)):
        other = plan_run(Bundle.open(TINY_RGB), masks, tmp_path / "out")
    with pytest.raises(OptionError, match="planned for the bundle"):
        run(other, generator)
    with pytest.raises(OptionError, match="batch is 0"):
        run(plan(masks, tmp_path / "out"), generator, batch=0)


@pytest.mark.parametrize(
    ("name", "is_folder"), [("x", True), ("x/", True), ("x.png/", True), ("there.npy", True), ("x.npy", False)]
)
def test_what_is_a_folder(name: str, is_folder: bool, masks: Path, tmp_path: Path) -> None:
    (tmp_path / "there.npy").mkdir()
    assert plan_run(BUNDLE, masks, f"{tmp_path}/{name}").output.is_folder is is_folder


def test_a_run_that_is_started_again_draws_what_is_missing(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    list(run(plan(masks, whole, count=3), generator))
    with closing(run(plan(masks, out, count=3), generator)) as records:
        next(records)
    there = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert 0 < len(there) < 9
    with pytest.warns(FinishedImagesWarning, match=f"{len(there)} of 9 images"):
        drawn = list(run(plan(masks, out, count=3), generator))
    assert len(drawn) == 9 - len(there)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert images_in(out) == images_in(whole)
    assert sorted(record.file for record in ManifestFile(out).records()) == sorted(images_in(whole))
    with pytest.warns(FinishedImagesWarning, match="9 of 9"):
        assert list(run(plan(masks, out, count=3), generator)) == []


def test_an_image_that_was_lost_is_drawn_again(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    first, *_ = run(plan(masks, tmp_path / "out"), generator)
    (tmp_path / "out" / first.file).unlink()
    with pytest.warns(FinishedImagesWarning, match="2 of 3"):
        assert [record.file for record in run(plan(masks, tmp_path / "out"), generator)] == [first.file]


def spoiled_pixels(path: Path) -> bytes:
    """Return another image with the file's own record."""
    with Image.open(path) as image:
        record, text = PngInfo(), image.text  # type: ignore[attr-defined]
        for name, value in text.items():
            record.add_text(name, value)
        black = io.BytesIO()
        Image.new("L", image.size).save(black, "PNG", pnginfo=record)
    return black.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: b"",
        lambda path: path.read_bytes()[:300],
        lambda path: b"a text",
        lambda path: (GOLDEN / "mask.png").read_bytes(),
    ],
    ids=["empty", "cut", "text", "foreign"],
)
@pytest.mark.filterwarnings("ignore::seggd_rt.runs.dataset.FinishedImagesWarning")
def test_a_damaged_or_foreign_file_in_place_of_a_finished_one_is_refused(
    spoil: Callable[[Path], bytes], masks: Path, tmp_path: Path, generator: seggd_rt.Generator
) -> None:
    first, *_ = run(plan(masks, tmp_path / "out"), generator)
    path = tmp_path / "out" / first.file
    path.write_bytes(spoiled := spoil(path))
    for force in (False, True):
        with pytest.raises(OutputError, match="not written by seggd-rt, or is damaged: delete it"):
            list(run(plan(masks, tmp_path / "out"), generator, force=force))
        assert path.read_bytes() == spoiled


@pytest.mark.parametrize("spoil", [spoiled_pixels, lambda path: path.read_bytes() + b" "], ids=["black", "longer"])
@pytest.mark.filterwarnings("ignore::seggd_rt.runs.dataset.FinishedImagesWarning")
def test_a_finished_file_that_was_edited_is_drawn_again(
    spoil: Callable[[Path], bytes], masks: Path, tmp_path: Path, generator: seggd_rt.Generator
) -> None:
    first, *_ = run(plan(masks, tmp_path / "out"), generator)
    path = tmp_path / "out" / first.file
    whole = path.read_bytes()
    path.write_bytes(spoil(path))
    assert [record.file for record in run(plan(masks, tmp_path / "out"), generator)] == [first.file]
    assert path.read_bytes() == whole


@pytest.mark.filterwarnings("ignore::seggd_rt.runs.dataset.FinishedImagesWarning")
def test_another_image_of_the_run_in_place_of_a_finished_one_is_refused(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator
) -> None:
    first, second, *_ = run(plan(masks, tmp_path / "out"), generator)
    (tmp_path / "out" / first.file).write_bytes((tmp_path / "out" / second.file).read_bytes())
    with pytest.raises(OptionError, match=r"was made with mask sha256 .* seed"):
        list(run(plan(masks, tmp_path / "out"), generator))
    list(run(plan(masks, tmp_path / "out"), generator, force=True))
    assert len(list(run(plan(masks, tmp_path / "again"), generator))) == 3
    assert without_batch(tmp_path / "out") == without_batch(tmp_path / "again")


def test_a_mask_that_changed_since_is_no_finished_one(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator, golden_mask: NDArray[np.uint8]
) -> None:
    list(run(plan(masks, tmp_path / "out"), generator))
    Image.fromarray(golden_mask[::-1, ::-1]).save(masks / "b.png")
    with pytest.raises(OptionError, match="mask sha256"):
        run(plan(masks, tmp_path / "out"), generator)
    assert len(list(run(plan(masks, tmp_path / "out"), generator, force=True))) == 3


def images_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_equal_runs_at_once_leave_whole_files_and_list_each_once(masks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_at_once(masks, out, [(STEPS, 0)] * 3) == [(0, "")] * 3
    images = sorted(path.name for path in out.glob("*.png"))
    assert len(images) == 60
    for name in images:
        Image.open(out / name).load()
    assert sorted(record.file for record in ManifestFile(out).records()) == images
    assert sorted(path.name for path in out.iterdir()) == [*images, "manifest.jsonl"]


def test_runs_at_once_into_one_file_leave_it_with_its_own_record(masks: Path, tmp_path: Path) -> None:
    ends = run_at_once(masks, tmp_path / "all.npy", [(STEPS, 0), (STEPS, 0), (STEPS, 1), (STEPS, 1)])
    made = NpyWriter().made(tmp_path / "all.npy")
    seed = 0 if made[0].seed == derive_seed(0, 0, 0) else 1
    for (code, said), own in zip(ends, (0, 0, 1, 1), strict=True):  # the later ones would replace other images
        assert (code == 0) == (own == seed), said
        assert (code == 0) == ("was made with seed" not in said), said
    assert [each.seed for each in made] == [derive_seed(seed, place, copy) for place in range(3) for copy in range(20)]
    assert np.load(tmp_path / "all.npy").shape == (60, 24, 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.npy", "all.npy.json", "masks"]


@pytest.mark.parametrize("of", [2, 3, 7])
def test_shards_make_the_whole_run(masks: Path, tmp_path: Path, generator: seggd_rt.Generator, of: int) -> None:
    noise = np.random.default_rng(0).standard_normal((6, 1, 24, 32)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    settings: dict[str, object] = {"count": 2, "noise": tmp_path / "noise.npy", "random_classes": True}
    list(run(plan(masks, tmp_path / "whole", **settings), generator))
    for index in range(1, of + 1):
        part = plan(masks, tmp_path / "parts", shard=Shard(index, of), **settings)
        assert len(list(run(part, generator, batch=2))) == len(part) == len(list(part))
    assert without_batch(tmp_path / "parts") == without_batch(tmp_path / "whole")


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_what_is_no_shard(shard: tuple[int, int]) -> None:
    with pytest.raises(OptionError, match="must be i/n"):
        Shard(*shard)


def test_a_single_file_has_no_shards(masks: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="give a folder"):
        plan(masks, tmp_path / "out.npy", shard=Shard(1, 2))


def test_classes_may_be_random(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    planned = plan(masks / "b.png", tmp_path / "out", count=40, random_classes=True)
    records = list(run(planned, generator, batch=8))
    subsets = {record.classes for record in records}
    assert len(subsets) == 7
    mask = np.asarray(Image.open(masks / "b.png"))
    for record in records[:5]:
        alone = generator(mask, seed=record.seed, steps=STEPS, keep=record.classes)
        drawn = np.asarray(Image.open(tmp_path / "out" / record.file))
        np.testing.assert_array_equal(drawn, np.rint(alone * np.float32(255)))
    with pytest.raises(OptionError, match="neither keep nor drop"):
        plan(masks, tmp_path / "out", random_classes=True, keep=["cavity"])


def test_all_may_be_drawn_from_a_real_image(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    real = np.random.default_rng(0).uniform(0, 1, (24, 32)).astype(np.float32)
    np.save(tmp_path / "real.npy", real)
    planned = plan(masks, tmp_path / "out", real=tmp_path / "real.npy", at=0.5, sampler="dpm-solver++")
    for record, item in zip(run(planned, generator), planned, strict=True):
        assert (record.real, record.at, record.sampler) == ("real.npy", 0.5, "dpm-solver++")
        alone = generator.translate(
            real, planned.label_map(item), at=0.5, seed=item.seed, steps=STEPS, sampler="dpm-solver++"
        )
        drawn = np.asarray(Image.open(tmp_path / "out" / record.file))
        np.testing.assert_array_equal(drawn, np.rint(alone * np.float32(255)))
    with pytest.raises(OptionError, match="at says"):
        plan(masks, tmp_path / "out", at=0.5)
    with pytest.raises(OptionError, match=r"--slice-noise shared needs a volume \(.* holds images\)"):
        plan(masks, tmp_path / "out", slice_noise="shared")
    with pytest.raises(OptionError, match="a slice is given without a real image"):
        plan(masks, tmp_path / "out", reading=Reading(index=0))
