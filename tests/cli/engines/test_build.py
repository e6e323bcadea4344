"""`seggd-rt build`, `cache` and `export --build`: where plans go, what is said, what an interrupt leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seggd_rt.gpu import devices as gpus
from tests.bundles import TINY, copy_bundle, edit_manifest
from tests.commands import run_command
from tests.engines.tensorrt.plans import needs_rtx
from tests.paths import EXAMPLES

CARDIAC = EXAMPLES / "cardiac" / "cardiac.pt"
FP32 = ("--precision", "fp32")
RTX = ("--engine", "tensorrt-rtx")


@pytest.fixture(autouse=True)
def _own_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("WIN_PD_OVERRIDE_LOCAL_APPDATA", str(tmp_path / "cache"))


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_look", lambda: ((), "no NVIDIA driver is installed here: install one"))


def one_error(*arguments: str | Path) -> str:
    done = run_command(*arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.error_lines if not line.startswith("building the ")]
    return line


def test_a_gpu_for_a_build_that_needs_none_is_refused() -> None:
    said = one_error("build", TINY, *RTX, *FP32, "--device", "cuda:0")
    assert "--device is cuda:0, and tensorrt-rtx builds this plan without a GPU: leave it out" in said


@needs_rtx
def test_builds_once_and_prints_where(tmp_path: Path) -> None:
    first = run_command("build", TINY, *RTX, *FP32, "--batch", "1:2:4")
    assert first.code == 0
    assert first.err == "building the TensorRT-RTX plan of tiny.seggd in fp32, batch 1:2:4\n"
    plan = Path(first.out.strip())
    assert plan.is_relative_to(tmp_path / "cache")
    assert plan.stat().st_size > 100_000
    again = run_command("build", TINY, *RTX, *FP32, "--batch", "1:2:4")
    assert (again.code, again.out, again.err) == (0, first.out, "")


@needs_rtx
def test_a_folder_a_list_and_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = run_command("build", TINY, *RTX, *FP32, "--compute-capability", "8.6,8.9", "-o", tmp_path / "new" / "plans")
    plan = Path(built.out.strip())
    assert plan.parent == tmp_path / "new" / "plans"
    listed = run_command("cache", "list")
    assert f"{plan}" in listed.out
    assert "8.6, 8.9" in listed.out
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("WIN_PD_OVERRIDE_LOCAL_APPDATA", str(tmp_path / "other"))
    assert run_command("cache", "list").err.startswith("no plans in ")
    added = run_command("cache", "add", plan)
    assert added.code == 0
    assert Path(added.out.strip()).is_relative_to(tmp_path / "other")
    assert "tiny.seggd" in run_command("cache", "list").out
    cleared = run_command("cache", "clear")
    assert "1 plans removed" in cleared.out
    assert run_command("cache", "list").out == ""
    assert plan.is_file()
    assert "not what its record says" in one_error("cache", "add", _damaged(plan))


def _damaged(plan: Path) -> Path:
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    return plan


@needs_rtx
def test_a_damaged_plan_is_built_again_with_one_warning() -> None:
    plan = Path(run_command("build", TINY, *RTX, *FP32).out.strip())
    _damaged(plan)
    done = run_command("build", TINY, *RTX, *FP32)
    assert done.code == 0
    warning, said = done.err.splitlines()
    assert warning.startswith(f"warning: the plan {plan} is damaged")
    assert said.startswith("building the TensorRT-RTX plan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--engine", "openvino"), "no plans for engine 'openvino', only for tensorrt and tensorrt-rtx"),
        (("--precision", "fp8"), "--precision is 'fp8'; it must be one of fp32, fp16, bf16"),
        (("--batch", "8:1:1"), "the batch profile is 8:1:1"),
        (("--batch", "many"), "the batch profile is 'many'"),
        (("--optimisation-level", "9"), "the optimisation level is 9"),
        ((*RTX, "--hardware-compatible"), "only tensorrt has hardware- and version-compatible plans"),
        (("--engine", "tensorrt", "--compute-capability", "8.9"), "tensorrt builds for the GPU it runs on"),
    ],
)
def test_arguments_that_cannot_be(arguments: tuple[str, ...], message: str) -> None:
    assert message in one_error("build", TINY, *arguments)


@needs_rtx
@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("arguments", [("--strip-weights",), ("--compute-capability", "current")])
def test_no_driver_is_one_line(arguments: tuple[str, ...]) -> None:
    line = one_error("build", TINY, *RTX, *FP32, *arguments)
    assert line == (
        "error: TensorRT-RTX cannot build this without a GPU: no NVIDIA driver is installed here: install one"
    )


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    missing = ("tensorrt", "tensorrt_rtx")
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, package=None: None if name in missing else find_spec(name, package)
    )
    for engine in ("tensorrt", "tensorrt-rtx"):
        assert f"pip install 'seggd-rt[{engine}]'" in one_error("build", TINY, "--engine", engine, *FP32)


@needs_rtx
def test_a_graph_that_is_not_there_or_not_what_it_is_called(tmp_path: Path) -> None:
    assert "no fp16 graph, only fp32: export it with --precision fp16" in one_error("build", TINY, *RTX)
    liar = copy_bundle(TINY, tmp_path)
    edit_manifest(liar, {"graphs.0.precision": "fp16"})
    assert "unet.fp32.onnx is not a graph in fp16" in one_error("build", liar, *RTX)
    with (liar / "unet.fp32.onnx").open("ab") as graph:
        graph.write(b"\0")
    assert "changed after export" in one_error("build", liar, *RTX)
    assert "is not a bundle" in one_error("build", tmp_path / "missing", *RTX)


@needs_rtx
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise here")
def test_a_signal_ends_a_build_and_leaves_nothing_of_it(tmp_path: Path, number: signal.Signals, code: int) -> None:
    # A network that takes seconds to build would need an export: so the child's own progress is what waits.
    child = subprocess.Popen(
        [sys.executable, "-c", _SLOW_BUILD, str(TINY)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    assert child.stderr.readline().startswith("building the TensorRT-RTX plan")
    assert child.stdout is not None
    assert child.stdout.readline() == "in the middle\n"
    started = time.monotonic()
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (code, "", "")
    assert time.monotonic() - started < 20
    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {".lock"}
    done = run_command("build", TINY, *RTX, *FP32)
    assert done.code == 0, "the lock of a process that ended holds nobody up"


_SLOW_BUILD = """
import sys, time
from seggd_engines.tensorrt import progress as tensorrt_progress
from seggd_cli import main

finish = tensorrt_progress.Phases.step
def slow(phases, name, step):
    if step == 2:
        print("in the middle", flush=True)
        time.sleep(1)  # in TensorRT's own thread: the one that hears signals goes on
    return finish(phases, name, step)
tensorrt_progress.Phases.step = slow
sys.argv = ["seggd-rt", "build", sys.argv[1], "--engine", "tensorrt-rtx", "--precision", "fp32"]
main()
"""


@needs_rtx
@pytest.mark.slow
def test_export_and_build_the_demo_bundle_in_one_go(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the export side is not installed")
    bundle = tmp_path / "cardiac.seggd"
    done = run_command("export", CARDIAC, "-o", bundle, "--build", "tensorrt-rtx")
    assert done.code == 0, done.err
    half = Path(done.out.splitlines()[-1])
    assert done.out.splitlines()[0] == str(bundle)
    assert "building the TensorRT-RTX plan of cardiac.seggd in fp16, batch 1:1:8" in done.err
    built = run_command("build", bundle, *RTX, *FP32, "--batch", "1:4:16")
    assert built.code == 0
    sizes = {plan: plan.stat().st_size for plan in (half, Path(built.out.strip()))}
    assert 2 * 5.6e6 < sizes[half] < 25e6 < max(sizes.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--build", "onnx"), "no plans for engine 'onnx'"), (("--build", "tensorrt"), "seggd-rt[tensorrt]")],
)
def test_export_refuses_what_cannot_be_built_before_it_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    pytest.importorskip("torch", reason="the export side is not installed")
    from importlib.util import find_spec

    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, package=None: None if name == "tensorrt" else find_spec(name, package)
    )
    assert message in one_error("export", CARDIAC, "-o", tmp_path / "cardiac.seggd", *arguments)
    assert not (tmp_path / "cardiac.seggd").exists()
