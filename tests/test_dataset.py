"""Plans and runs: seeds, order, what is warned about, and what a failure leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from analytic import AnalyticNetwork
from bundles import TINY, TINY_RGB
from commands import files_below
from numpy.typing import NDArray
from PIL import Image

import seggd_rt
from seggd_engines.host import HostSession
from seggd_engines.network import NetworkShape
from seggd_rt.bundle import Bundle
from seggd_rt.dataset import Progress, run
from seggd_rt.errors import DataError, EngineError, LabelMapError, OptionError, OutputError
from seggd_rt.imaging.folder import SkippedFilesWarning
from seggd_rt.labels import AspectRatioWarning, OneHotWarning, resize_nearest
from seggd_rt.noise import derive_seed
from seggd_rt.plan import Plan, ResizedMaskWarning, plan_run

BUNDLE = Bundle.open(TINY)
STEPS = 3


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
    items = list(plan(masks, tmp_path / "out", seed=9, count=2))
    assert [(item.number, item.file.path.name, item.index) for item in items] == [
        (0, "a.npy", 0),
        (1, "a.npy", 0),
        (2, "a.npy", 1),
        (3, "a.npy", 1),
        (4, "b.png", 0),
        (5, "b.png", 0),
    ]
    assert [item.seed for item in items] == [derive_seed(9, place, copy) for place in range(3) for copy in range(2)]
    assert items[3].name == f"a_1_{derive_seed(9, 1, 1)}"
    assert len({item.name for item in items}) == 6


def test_the_only_image_has_the_seed_itself(masks: Path, tmp_path: Path) -> None:
    (item,) = plan(masks / "b.png", tmp_path / "out", seed=9)
    assert (item.seed, item.name) == (9, "b_9")
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
    assert files_below(tmp_path / "1") == files_below(tmp_path / "2") == files_below(tmp_path / "4")


def test_a_record_comes_after_its_file_and_line(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    out = tmp_path / "out"
    for number, record in enumerate(run(plan(masks, out), generator, batch=3), start=1):
        Image.open(out / record.file).load()
        assert (out / "manifest.jsonl").read_text().count("\n") == number
        assert len(list(out.glob("*.png"))) == number


def test_stopping_leaves_what_is_finished(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    with closing(run(plan(masks, tmp_path / "out"), generator)) as records:
        first = next(records)
    assert sorted(files_below(tmp_path / "out")) == [first.file, "manifest.jsonl"]
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


def test_another_aspect_ratio_is_said_once(masks: Path, tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    np.save(masks / "c.npy", np.stack([golden_mask[:20], golden_mask[4:]]))
    with pytest.warns() as caught:
        plan(masks, tmp_path / "out.npy")
    assert [warning.category for warning in caught] == [ResizedMaskWarning, AspectRatioWarning]
    note = "2 of 5 masks are distorted: 20x32 to 24x32 changes the aspect ratio: crop or pad first"
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
    records = run(plan(masks, tmp_path / "out"), generator)
    next(records)
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(masks / "b.png")
    with pytest.raises(LabelMapError, match=r"b.png: label 77"):
        list(records)
    assert len(list((tmp_path / "out").glob("*"))) == 3  # two images and their manifest


def test_an_output_that_becomes_unwritable(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    planned = plan(masks, tmp_path / "out")
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="out cannot be written"):
        list(run(planned, generator))


def test_a_foreign_manifest_is_not_overwritten(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.jsonl").write_text("somebody else's\n")
    before = files_below(tmp_path)
    with pytest.raises(DataError, match="no record of seggd-rt"):
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
