"""Plans in the user's cache: what the key covers, what is trusted, and that of several processes one builds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seggd_engines.tensorrt import BatchProfile, BuildOptions, Flavour, PlanCache, find_or_build
from seggd_engines.tensorrt import plans as tensorrt_plans
from seggd_engines.tensorrt.build import Plan
from seggd_engines.tensorrt.plan_cache import StoredPlan
from seggd_engines.tensorrt.plan_key import PlanKey
from seggd_engines.tensorrt.plans import newest_plan
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.errors import DataError, EngineError, OutputError
from seggd_rt.gpu import Gpu
from tests.bundles import TINY
from tests.engines.tensorrt.plans import ADA, GRAPH, SHAPE, needs_filelock, needs_rtx, rtx

AMPERE = Gpu(0, "NVIDIA A100", (8, 0), 80 << 30)
TURING = Gpu(0, "NVIDIA RTX 2080", (7, 5), 8 << 30)
TUNED = BuildOptions(Flavour.TENSORRT, Precision.FP16)


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "cache" / "plans")


PORTABLE = rtx()


def key(
    options: BuildOptions = PORTABLE, version: str = "1.7.1", gpu: Gpu | None = ADA, graph: str = "0" * 64
) -> PlanKey:
    return PlanKey.of(graph, options, version, gpu)


def find(cache: PlanCache, wanted: PlanKey) -> StoredPlan | None:
    return cache.find(lambda other: other == wanted)


def test_what_is_kept_is_found(cache: PlanCache) -> None:
    kept = cache.keep(key(), "tiny.seggd", b"plan")
    assert kept.path.read_bytes() == b"plan"
    found = find(cache, key())
    assert found is not None
    assert (found.data, found.record, found.path.parent) == (b"plan", kept.record, cache.folder)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


def test_an_empty_cache_is_silent(cache: PlanCache) -> None:
    assert cache.records() == []
    assert find(cache, key()) is None
    assert cache.clear() == (0, 0)
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    "other",
    [
        key(graph="1" * 64),
        key(version="1.7.2"),
        key(rtx(Precision.FP16)),
        key(rtx(batch=BatchProfile(1, 2, 8))),
        key(rtx(compute_capabilities=("8.9",))),
        key(rtx(compute_capabilities=("current",))),
        key(rtx(strip_weights=True)),
        key(rtx(optimisation_level=5)),
        key(BuildOptions(Flavour.TENSORRT, Precision.FP32)),
    ],
)
def test_whatever_changes_a_plan_changes_its_key(cache: PlanCache, other: PlanKey) -> None:
    cache.keep(key(), "tiny.seggd", b"plan")
    assert find(cache, other) is None
    assert other.stem != key().stem


def test_a_plan_that_is_tuned_belongs_to_its_gpu() -> None:
    assert key(TUNED, gpu=ADA) != key(TUNED, gpu=AMPERE)
    assert key(TUNED, gpu=ADA) != key(TUNED, gpu=dataclasses.replace(ADA, compute_capability=(9, 0)))
    assert key(rtx(), gpu=ADA) == key(rtx(), gpu=None), "a plan for every GPU has one key"
    assert key(rtx(compute_capabilities=("8.9", "8.6"))) == key(rtx(compute_capabilities=("8.6", "8.9")))


@pytest.mark.parametrize(
    ("options", "built_by", "version", "gpu", "runs"),
    [
        (rtx(), "1.7.1", "1.7.1", AMPERE, True),
        (rtx(), "1.7.1", "1.7.2", AMPERE, False),
        (rtx(compute_capabilities=("8.6", "8.9")), "1.7.1", "1.7.1", ADA, True),
        (rtx(compute_capabilities=("8.6", "8.9")), "1.7.1", "1.7.1", AMPERE, False),
        (TUNED, "10.13.0", "10.13.0", ADA, True),
        (TUNED, "10.13.0", "10.13.0", AMPERE, False),
        (dataclasses.replace(TUNED, hardware_compatible=True), "10.13.0", "10.13.0", AMPERE, True),
        (dataclasses.replace(TUNED, hardware_compatible=True), "10.13.0", "10.13.0", TURING, False),
        (TUNED, "10.13.0", "10.14.0", ADA, False),
        (dataclasses.replace(TUNED, version_compatible=True), "10.13.0", "10.14.0", ADA, True),
        (dataclasses.replace(TUNED, version_compatible=True), "10.13.0", "10.12.9", ADA, False),
        (dataclasses.replace(TUNED, version_compatible=True), "10.13.0", "11.0.0", ADA, False),
    ],
)
def test_where_a_plan_runs(options: BuildOptions, built_by: str, version: str, gpu: Gpu, runs: bool) -> None:
    assert key(options, built_by, ADA).runs(version, gpu) is runs


def test_a_tuned_plan_of_another_system_does_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned, portable = key(TUNED, "10.13.0"), key(rtx())
    monkeypatch.setattr("platform.system", lambda: "Windows")
    assert not tuned.runs("10.13.0", ADA)
    assert portable.runs("1.7.1", ADA)


def test_engines_take_the_plan_that_was_asked_for_last(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))

    def newest() -> StoredPlan:
        found = newest_plan(cache, "0" * 64, Flavour.TENSORRT_RTX, Precision.FP32, "1.7.1", ADA)
        assert found is not None
        return found

    first = cache.keep(key(rtx(batch=BatchProfile(1, 1, 8))), "tiny.seggd", b"one")
    cache.keep(key(rtx(batch=BatchProfile(1, 1, 32))), "tiny.seggd", b"two")
    cache.keep(key(rtx(Precision.FP16)), "tiny.seggd", b"another precision")
    cache.keep(key(version="1.7.2"), "tiny.seggd", b"another version")
    cache.keep(key(graph="1" * 64), "other.seggd", b"another graph")
    assert newest().data == b"two"
    cache.ask_again(first)
    assert newest().data == b"one"


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_folder_that_cannot_be_written_is_told_before_a_build(
    cache: PlanCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*arguments: object, **options: object) -> None:
        raise AssertionError("it was built")

    monkeypatch.setattr(tensorrt_plans, "build_plan", build)
    monkeypatch.setattr(Flavour, "load", lambda flavour: SimpleNamespace(version="1.0"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"):
        find_or_build(cache, GRAPH, SHAPE, rtx(), folder=tmp_path / "file" / "plans")


def repeat_key(record: Path) -> None:
    data = record.read_bytes()
    record.write_bytes(b'{"path": "/elsewhere", ' + data.lstrip()[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage, "is damaged, or not the one that was built"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "is damaged, or not the one that was built"),
        (lambda path: path.write_bytes(b""), "is damaged, or not the one that was built"),
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "is damaged: its plan is not used"),
        (lambda path: path.with_suffix(".json").write_bytes(b"\xff"), "is damaged: its plan is not used"),
        (lambda path: repeat_key(path.with_suffix(".json")), "is damaged: its plan is not used"),
        (
            lambda path: path.with_suffix(".json").rename(path.with_name("tensorrt-rtx-fp32-foreign.json")),
            "not the record of the plan it names",
        ),
    ],
)
def test_what_is_not_what_was_built_is_passed_over_with_one_warning(
    cache: PlanCache, change: Callable[[Path], object], message: str
) -> None:
    change(cache.keep(key(), "tiny.seggd", b"a plan").path)
    with pytest.warns(RuntimeWarning, match=message) as warned:
        assert find(cache, key()) is None
    assert len(warned) == 1


def test_a_record_with_unknown_fields_or_another_schema_is_passed_over(cache: PlanCache) -> None:
    path = cache.keep(key(), "tiny.seggd", b"plan").path.with_suffix(".json")
    whole = json.loads(path.read_bytes())
    for change in ({"more": 1}, {"key": {**whole["key"], "schema": "seggd-plan/2"}}):
        path.write_text(json.dumps({**whole, **change}))
        with pytest.warns(RuntimeWarning, match="its plan is not used"):
            assert cache.records() == []


@pytest.mark.skipif(os.name != "posix", reason="folders have no such modes here")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o750])
def test_a_folder_that_others_may_enter_is_refused(cache: PlanCache, mode: int) -> None:
    cache.keep(key(), "tiny.seggd", b"plan")
    cache.folder.chmod(mode)
    for use in (cache.records, lambda: find(cache, key()), lambda: cache.keep(key(), "tiny.seggd", b"plan")):
        with pytest.raises(EngineError, match="others than you may write there: empty it"):
            use()
    assert cache.clear()[0] == 1


@needs_filelock
def test_a_plan_beside_its_bundle_is_trusted_only_by_who_built_it(cache: PlanCache, tmp_path: Path) -> None:
    kept = cache.keep(key(), "tiny.seggd", b"plan", tmp_path / "beside")
    assert sorted(path.name for path in (tmp_path / "beside").iterdir()) == [
        f"{key().stem}.json",
        f"{key().stem}.plan",
    ]
    found = find(cache, key())
    assert found is not None
    assert found.path == kept.path
    stranger = PlanCache(tmp_path / "stranger")
    assert find(stranger, key()) is None
    stranger.add(kept.path)
    added = find(stranger, key())
    assert added is not None
    assert (added.data, added.path.parent) == (b"plan", stranger.folder)


def test_plans_that_cannot_be_added(cache: PlanCache, tmp_path: Path) -> None:
    path = cache.keep(key(), "tiny.seggd", b"plan", tmp_path / "beside").path
    with pytest.raises(DataError, match="must be a plan of seggd-rt build"):
        cache.add(tmp_path / "missing.plan")
    damage(path)
    with pytest.raises(DataError, match="not what its record says"):
        cache.add(path)
    path.with_suffix(".json").write_text("[]")
    with pytest.raises(DataError, match="must be a plan of seggd-rt build"):
        cache.add(path)


@needs_filelock
def test_clearing_leaves_plans_elsewhere(cache: PlanCache, tmp_path: Path) -> None:
    cache.keep(key(), "tiny.seggd", b"plan")
    outside = cache.keep(key(rtx(Precision.FP16)), "tiny.seggd", b"plan", tmp_path / "beside").path
    cache.side_file("kernels.bin").write_bytes(b"kernels")
    with cache.lock("one"):
        plans, size = cache.clear()
    assert plans == 2
    assert size > len(b"plan" + b"kernels")
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]
    assert outside.exists()
    assert find(cache, key(rtx(Precision.FP16))) is None


@needs_filelock
def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = PlanCache(tmp_path / "file" / "plans")
    with pytest.raises(OutputError, match=r"plans cannot be kept in .*XDG_CACHE_HOME"):
        cache.keep(key(), "tiny.seggd", b"plan")
    with pytest.raises(OutputError, match="plans cannot be kept in"), cache.lock("one"):
        pass


def test_the_hash_of_a_graph_covers_its_external_data(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the export side is not installed")
    path = tmp_path / "unet.fp32.onnx"
    onnx.save(
        onnx.load_from_string(GRAPH.model), path, save_as_external_data=True, location="weights", size_threshold=0
    )
    before = OnnxGraph.read(path).digest
    damage(tmp_path / "weights")
    assert OnnxGraph.read(path).digest != before
    (tmp_path / "weights").unlink()
    with pytest.raises(EngineError, match=r"cannot open unet.fp32.onnx"):
        OnnxGraph.read(path)


class Builder:
    """Stands in for `build_plan`, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, timing: bytes = b"") -> None:
        self.built: list[BuildOptions] = []
        self.given: list[bytes] = []
        self.timing = timing
        monkeypatch.setattr(tensorrt_plans, "build_plan", self.build)
        monkeypatch.setattr(Flavour, "load", lambda flavour: self)
        self.version = "10.13.0"

    def build(self, graph: OnnxGraph, shape: Any, options: BuildOptions, **more: Any) -> Plan:
        self.built.append(options)
        self.given.append(more["timing_cache"])
        return Plan(memoryview(f"plan {len(self.built)}".encode()), self.version, self.timing)


@needs_filelock
def test_a_plan_is_built_once(cache: PlanCache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    builder, said = Builder(monkeypatch), list[str]()
    first = find_or_build(cache, GRAPH, SHAPE, rtx(), say=said.append)
    again = find_or_build(cache, GRAPH, SHAPE, rtx(), say=said.append)
    assert first.path == again.path
    assert said == ["building the TensorRT-RTX plan of tiny.seggd in fp32, batch 1:1:8"]
    moved = find_or_build(cache, GRAPH, SHAPE, rtx(), folder=tmp_path / "beside")
    assert (moved.path.parent, bytes(moved.data)) == (tmp_path / "beside", b"plan 1")
    assert len(builder.built) == 1
    damage(moved.path)
    with pytest.warns(RuntimeWarning, match="is damaged"):
        rebuilt = find_or_build(cache, GRAPH, SHAPE, rtx())
    assert (rebuilt.path.parent, rebuilt.path.read_bytes()) == (cache.folder, b"plan 2")


@needs_filelock
def test_what_tensorrt_measured_is_kept_for_the_next_build_on_the_same_gpu(
    cache: PlanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = Builder(monkeypatch, timing=b"times")
    for options, gpu in ((TUNED, ADA), (dataclasses.replace(TUNED, optimisation_level=5), ADA), (TUNED, AMPERE)):
        find_or_build(cache, GRAPH, SHAPE, options, gpu=gpu)
    assert builder.given == [b"", b"times", b""]


@needs_rtx
def test_real_plans(cache: PlanCache) -> None:
    plan = find_or_build(cache, GRAPH, SHAPE, rtx())
    assert hashlib.sha256(plan.path.read_bytes()).hexdigest() == plan.record.sha256
    changed = plan.path.stat().st_mtime_ns
    assert find_or_build(cache, GRAPH, SHAPE, rtx()).path.stat().st_mtime_ns == changed
    damage(plan.path)
    with pytest.warns(RuntimeWarning, match="is damaged") as warned:
        rebuilt = find_or_build(cache, GRAPH, SHAPE, rtx())
    assert len(warned) == 1
    assert rebuilt.path == plan.path
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find(cache, plan.record.key) is not None


_CHILD = """
import sys
from pathlib import Path
from seggd_rt.engine.contract import NetworkShape
from seggd_engines.tensorrt.plan_cache import PlanCache
from seggd_engines.tensorrt.flavor import Flavour
from seggd_engines.tensorrt.options import BuildOptions
from seggd_engines.tensorrt.plans import find_or_build
from seggd_rt.bundle.onnx_graph import OnnxGraph
from seggd_rt.diffusion.precision import Precision
options = BuildOptions(Flavour.TENSORRT_RTX, Precision.FP32)
Flavour.TENSORRT_RTX.load()
print("ready", flush=True)
sys.stdin.readline()
graph = OnnxGraph.read(Path(sys.argv[2]))
plan = find_or_build(PlanCache(Path(sys.argv[1])), graph, NetworkShape(1, 3, 24, 32), options, say=print)
print(plan.record.sha256)
"""


@needs_rtx
def test_of_two_processes_one_builds(cache: PlanCache) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, cache.folder, TINY / "unet.fp32.onnx"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    with cache.lock(PlanKey.of(GRAPH.digest, rtx(), Flavour.TENSORRT_RTX.load().version, None).stem):
        # Both find nothing and wait here, so that both would build if the second did not look again.
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
            assert child.stdout is not None
            assert child.stdout.readline() == "waiting for another process that builds a plan\n"
    lines = [child.communicate()[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted(len(said) for said in lines) == [1, 2]
    assert sum("building the TensorRT-RTX plan of tiny.seggd in fp32, batch 1:1:8" in said for said in lines) == 1
    assert lines[0][-1] == lines[1][-1]
    assert len(cache.records()) == 1
