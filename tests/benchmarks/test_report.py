"""`benchmarks.report`: what the page says of a file of figures, and that running it again changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from benchmarks import report
from benchmarks.gpu.record import Record
from benchmarks.gpu.results import (
    Absent,
    Cost,
    Failed,
    Group,
    Host,
    Image,
    Layer,
    Profile,
    Rate,
    Run,
    Sanitized,
    Suite,
    Timed,
    Trained,
)
from benchmarks.marked_page import marks
from benchmarks.report import NOTHING, PAGE, RESULTS, SCRIPT, files_of_figures, main, write_page
from benchmarks.report_targets import COMPILED, EAGER_LOOP, TARGETS, WHOLE_LOOP, targets
from seggd_rt.engine import Spread
from seggd_rt.errors import DataError

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
BEGIN, END = marks(SCRIPT)
HOST = Host(
    device="NVIDIA Test", compute_capability="9.0", memory_mib=81920, driver="580.1", cpu="a CPU", cores=16,
    platform="Linux", versions={"torch": "2.11.0"}, commit="0123456789abcdef", changed=False,
)  # fmt: skip
STEP = "reference-256/fp16/batch 1"


def at(ms: float) -> Spread:
    return Spread(count=5, p50_ms=ms, p95_ms=ms, p99_ms=ms)


def timed(step_ms: float, image_ms: float, psnr_db: float | None = 52.0) -> Timed:
    return Timed(
        engine="e", version="1", precision="fp16", notes=(), step=at(step_ms),
        images=(Image(steps=50, image=at(image_ms), device=at(image_ms - 1), host=at(0.5)),),
        images_per_second=1e3 / image_ms, memory_mib=1234.0, make_s=1.0, first_s=2.0, psnr_db=psnr_db,
        peak_mib=1500.0,
    )  # fmt: skip


def fill(path: Path) -> Record:
    record = Record(path)
    record.begin(Run(started="2026-02-03T04:05:06+00:00", command="python -m benchmarks.gpu out.json", host=HOST))
    record.keep("floor", "copy", Rate(per_second=4.3e12, unit="byte", of="copy of 2048 MiB"), 1)
    record.keep("floor", "matrix fp16", Rate(per_second=800e12, unit="FLOP", of="a product"), 1)
    record.keep("floor", "cost reference-256", Cost(flop=495.9e9, weights=113_670_000, activations=200_000_000), 1)
    record.keep("latency", f"{STEP}/{COMPILED}", timed(3.0, 160.0), 1)
    record.keep("latency", f"{STEP}/{WHOLE_LOOP}", timed(2.4, 130.0), 1)
    record.keep("latency", f"{STEP}/broken", Failed(error="EngineError", message="no | memory\nat all"), 1)
    group = Group(
        subject="reference-256", precision="fp16", batch=1, rounds=5, contenders=(COMPILED, WHOLE_LOOP), trained=False,
        absent={"tensorrt": "not installed"},
    )  # fmt: skip
    record.keep("latency", STEP, group, 1)
    record.keep("suites", "test_x", Suite(passed=7, failed=1, skipped=2, failures=("t: bad",), skips={"no T": 2}), 1)
    record.keep("sanitizer", "memcheck", Sanitized(errors=0, summary=()), 1)
    record.keep("sanitizer", "synccheck", Absent(reason="not installed"), 1)
    layer = Layer(name="conv_in", calls=1, device_ms=0.25)
    record.keep("profile", f"{STEP}/x", Profile(step_ms=3, layers=(layer,), kernels=()), 1)
    record.keep(
        "train", "demo",
        Trained(checkpoint="d.pt", megabytes=11.2, step=9000, images_seen=288_000, minutes=8, val_loss=0.0123), 1,
    )  # fmt: skip
    return record


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "docs" / "performance.md"
    path.parent.mkdir()
    path.write_text(f"# Title\n\nby hand\n\n{BEGIN}\nold\n{END}\n\nalso by hand\n")
    return path


def test_the_page_is_filled_and_the_rest_of_it_is_left_alone(page: Path, tmp_path: Path) -> None:
    write_page(page, [fill(tmp_path / "h200.json")])
    text = page.read_text()
    assert text.startswith(f"# Title\n\nby hand\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nalso by hand\n")
    assert "old" not in text.split(BEGIN)[1].split(END)[0].split()
    for piece in (
        "### NVIDIA Test (h200)",
        "driver 580.1; a CPU, 16 cores",
        "Commit 0123456789; 1 runs",
        "| copy of 2048 MiB | 4.30 TB/s |",
        "#### reference-256/fp16/batch 1",
        "floor 0.620 ms",
        "Not measured: tensorrt: not installed",
        "images amplify rounding",
        "| test_x | 7 passed, 1 failed, 2 skipped | t: bad; 2 skipped: no T |",
        "| compute-sanitizer memcheck | 0 errors |  |",
        "| synccheck | not run | not installed |",
        "| `conv_in` | 1 | 0.250 |",
        "d.pt: 9,000 steps, 288,000 images seen in 8 minutes, 11.2 MB, validation loss 0.0123",
        "- latency, reference-256/fp16/batch 1/broken: EngineError: no \\| memory at all",
        "- suites, test_x: see above",
        "![A step of each contender, over the floor](images/performance-h200.png)",
    ):
        assert piece in text, piece
    row = next(line for line in text.splitlines() if line.startswith(f"| {WHOLE_LOOP} fp16 |"))
    assert row == f"| {WHOLE_LOOP} fp16 | 2.4 | 1.25 | 3.87 | 130 | 7.69 | 129 | 0.5 | 1,234 | 1,500 | 3 | 52.0 |"
    assert NOTHING not in text


def test_running_it_again_changes_nothing(page: Path, tmp_path: Path) -> None:
    record = fill(tmp_path / "h200.json")
    write_page(page, [record])
    first = page.read_bytes(), (page.parent / "images" / "performance-h200.png").read_bytes()
    write_page(page, [Record(record.path)])
    assert (page.read_bytes(), (page.parent / "images" / "performance-h200.png").read_bytes()) == first
    assert first[1].startswith(b"\x89PNG")


def test_without_figures_it_says_that_nothing_was_run(page: Path) -> None:
    write_page(page, [])
    assert NOTHING in page.read_text()
    assert not (page.parent / "images").exists()


def test_a_file_without_groups_needs_no_picture(page: Path, tmp_path: Path) -> None:
    record = Record(tmp_path / "x.json")
    record.begin(Run(started="2026-02-03T04:05:06+00:00", command="c", host=HOST))
    record.keep("suites", "test_x", Suite(passed=7, failed=0, skipped=0), 1)
    write_page(page, [record])
    assert "7 passed" in page.read_text()
    assert not (page.parent / "images").exists()


def test_targets_are_met_missed_or_not_measured(tmp_path: Path) -> None:
    record = fill(tmp_path / "x.json")
    lines = {line.split(" | ")[0].strip("| "): line for line in targets(record).splitlines()[2:]}
    assert len(lines) == len(TARGETS)
    assert f"2.4 ms ({WHOLE_LOOP}) | met" in lines["a step, batch 1"]
    assert "1.08x" in lines["50 steps over 50 bare calls: PyTorch's network"]  # 130 ms over 50 calls of 2.4 ms
    assert lines["50 steps over 50 bare calls: PyTorch's network"].endswith("missed |")
    assert lines["50 steps, the host's work: PyTorch's network"].endswith("met |")
    assert "not measured" in lines["a step, batch 1: TensorRT over compiled PyTorch"]
    record.keep("latency", f"{STEP}/tensorrt", timed(2.0, 101.0), 1)
    assert "1.5x (tensorrt) | met" in targets(record)


def test_figures_of_two_runs_make_no_ratio(tmp_path: Path) -> None:
    record = fill(tmp_path / "x.json")
    record.begin(Run(started="2026-02-04T04:05:06+00:00", command="c", host=HOST))
    record.keep("latency", f"{STEP}/tensorrt", timed(2.0, 101.0), 1)
    line = next(line for line in targets(record).splitlines() if "TensorRT over compiled" in line)
    assert "not measured" in line


def test_a_group_that_was_cut_short_is_shown_as_one(page: Path, tmp_path: Path) -> None:
    record = fill(tmp_path / "h200.json")
    group = record.find("latency", STEP)
    assert isinstance(group, Group)
    cut = msgspec.structs.replace(group, rounds=0, finished=False, contenders=(EAGER_LOOP,), state="clock 1980 MHz")
    record.keep("latency", STEP, cut, 1)
    record.keep("latency", f"{STEP}/{EAGER_LOOP}", msgspec.structs.replace(timed(2.9, 150.0), notes=("odd",)), 1)
    write_page(page, [record])
    text = page.read_text()
    assert "One turn each; the run ended before the group did; the GPU: clock 1980 MHz; floor 0.620 ms" in text
    assert f"{EAGER_LOOP}: odd" in text
    assert f"| {EAGER_LOOP} fp16 | 2.9 |  | 4.68 |" in text


def test_who_was_measured_another_time_is_shown_without_a_ratio(page: Path, tmp_path: Path) -> None:
    record = fill(tmp_path / "h200.json")
    record.keep("latency", f"{STEP}/later", timed(2.0, 101.0), 1)
    write_page(page, [record])
    assert "| later fp16 (another time) | 2 |  | 3.23 |" in page.read_text()


def test_the_slower_session_stands_in_where_the_compiled_one_was_not_measured(tmp_path: Path) -> None:
    record = fill(tmp_path / "x.json")
    assert record.forget(f"latency/{STEP}/{WHOLE_LOOP}") == 1
    record.keep("latency", f"{STEP}/{EAGER_LOOP}", timed(2.9, 150.0), 1)
    assert f"1.03x ({EAGER_LOOP}) | met" in targets(record)


def test_what_of_the_matrix_rate_a_batch_reaches(tmp_path: Path) -> None:
    record = fill(tmp_path / "x.json")
    # 16 x 495.9 GFLOP in 24.795 ms are 320 TFLOP/s, of 800.
    record.keep("latency", f"reference-256/fp16/batch 16/{WHOLE_LOOP}", timed(24.795, 1300.0), 1)
    line = next(line for line in targets(record).splitlines() if "of the matrix rate" in line)
    assert f"40 % ({WHOLE_LOOP}) | missed" in line


def test_a_page_without_the_marks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("nothing")
    with pytest.raises(DataError, match="lacks the marks"):
        write_page(path, [])
    assert path.read_text() == "nothing"
    assert main([str(fill(tmp_path / "x.json").path), "--page", str(path)]) == 2


def test_other_files_of_results_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"schema": "seggd-bench/1"}))
    (tmp_path / "list.json").write_text("[]")
    ours = fill(tmp_path / "gpu.json").path
    assert files_of_figures(tmp_path) == [ours]
    (tmp_path / "newer.json").write_text(json.dumps({"schema": "seggd-gpu/2"}))
    with pytest.raises(DataError, match="seggd-gpu/2"):
        files_of_figures(tmp_path)


def test_the_page_in_the_repository_is_what_the_results_say(tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    copy.write_bytes(PAGE.read_bytes())
    records = [Record(path) for path in files_of_figures(RESULTS)]
    write_page(copy, records)
    assert copy.read_text() == PAGE.read_text(), "run python -m benchmarks.report"
    if not records:
        assert NOTHING in PAGE.read_text()


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    record = fill(tmp_path / "x.json")
    assert Record(record.path).document == record.document
    assert msgspec.json.decode(record.path.read_bytes())["schema"] == "seggd-gpu/1"
    assert report.groups(record.document)[0][0] == STEP
