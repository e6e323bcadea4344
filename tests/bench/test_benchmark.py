"""`seggd_rt.bench.benchmark` and `seggd-rt bench`: what is measured and said. No test asks how fast this machine is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

import seggd_rt
from seggd_cli.engines.profile_tables import layer_table, operator_table
from seggd_engines.cuda import CudaSession
from seggd_engines.onnxruntime import OnnxRuntimeEngine
from seggd_rt.bench import Report, Settings, bench
from seggd_rt.bench.benchmark import DeviceSubject, overhead, subject_of
from seggd_rt.bench.cold_start import ColdRequest, cold_start
from seggd_rt.bench.profile import step_profile
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import Precision
from seggd_rt.engine import Average, Buffer, Clock, Layer, LayerProfile, NetworkShape, spread
from seggd_rt.errors import EngineError, EngineUnavailableError, OptionError
from seggd_rt.inference import Generator
from tests.commands import run_command
from tests.engines.analytic import AnalyticNetwork, host_array
from tests.engines.cuda.emulated import EmulatedNetwork

pytestmark = pytest.mark.usefixtures("needs_onnxruntime")


@pytest.fixture(scope="module")
def report(tiny_bundle: Path) -> Report:
    return bench(tiny_bundle, Settings(engine="onnxruntime", steps=4, batch=2, threads=1, repeats=3))


def hide_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "openvino" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def test_a_report_counts_what_was_asked_for(report: Report, tiny_bundle: Path) -> None:
    (figures,) = report.engines
    assert (figures.engine, figures.precision, figures.threads) == ("onnxruntime", "fp32", 1)
    assert (report.steps, figures.image.count, figures.step.count) == (4, 3, 3 * 3)
    assert figures.images_per_second == pytest.approx(2e3 / figures.image.p50_ms)
    assert figures.step.p50_ms < figures.image.p50_ms
    assert report.bundle_sha256 == Bundle.open(tiny_bundle).sha256
    assert report.machine.versions["seggd-rt"] == seggd_rt.__version__
    assert report.machine.versions["numpy"] == np.__version__
    assert (report.machine.cores >= 1, bool(report.machine.device)) == (True, True)


def test_a_cold_start_is_a_process_of_its_own(report: Report) -> None:
    cold = report.engines[0].cold
    parts = (cold.import_ms, cold.load_ms, cold.first_image_ms)
    assert min(parts) > 0
    assert cold.total_ms > sum(parts)
    assert cold.peak_memory_mib is None or cold.peak_memory_mib > 20


def test_a_report_survives_its_json(report: Report) -> None:
    assert msgspec.json.decode(report.to_json(), type=Report) == report


class CountedNetwork(AnalyticNetwork):
    """Notes the timestep of each call, and takes its time."""

    def __init__(self, seconds: float = 0) -> None:
        super().__init__(NetworkShape(1, 3, 24, 32), std=0.2)
        self.seconds = seconds
        self.called: list[float] = []

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        evaluate, times = super().bind(sample, timestep, out), host_array(timestep)

        def call() -> None:
            self.called.append(float(times[0]))
            time.sleep(self.seconds)
            evaluate()

        return call


def test_images_and_calls_run_the_same_network_on_the_same_buffers(tiny_bundle: Path) -> None:
    network = CountedNetwork()
    called = network.called
    with Generator(Bundle.open(tiny_bundle), network) as generator:
        subject = subject_of(generator, steps=5, batch=3)
        subject.draw()
        assert len(called) == len(set(called)) == 5
        last = called[-1]
        subject.call()
        assert called[5:] == [last] * 5
        subject.settle()
        assert called[10:] == [last] * 2
    assert network.bound == 1


def test_time_in_the_network_is_not_outside_it(tiny_bundle: Path, report: Report) -> None:
    with Generator(Bundle.open(tiny_bundle), CountedNetwork(0.05)) as generator:
        subject = subject_of(generator, steps=4, batch=1)
        subject.draw()
        found = subject.figures([0.3], [0.2], report.engines[0].cold).overhead
    assert 0 < found.outside_step_us < 50_000


def test_warm_ups_are_not_in_the_steps(tiny_generator: seggd_rt.Generator, report: Report) -> None:
    subject = subject_of(tiny_generator, steps=3, batch=1)
    for _ in range(4):
        subject.draw()
    figures = subject.figures([1.0, 1.0], [0.5, 0.5], report.engines[0].cold)
    assert figures.step.count == 2 * 2
    single = subject_of(tiny_generator, steps=1, batch=1)
    single.draw()
    assert single.figures([1.0], [0.5], report.engines[0].cold).step.count == 1


def test_on_a_gpu_the_loop_is_one_graph_and_the_hosts_work_is_told(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    opened = Bundle.open(tiny_bundle)
    graph = opened.read_graph(opened.graph(Precision.FP32))
    network = OnnxRuntimeEngine().open(
        graph, NetworkShape(1, 3, 24, 32), device="cpu", precision=Precision.FP32, threads=1
    )
    with Generator(opened, EmulatedNetwork(network)) as generator:  # type: ignore[arg-type]
        subject = subject_of(generator, steps=4, batch=2)
        assert isinstance(subject, DeviceSubject)
        with generator.acquire(2) as session:
            assert isinstance(session, CudaSession)
        calls: list[int] = []
        monkeypatch.setattr(session, "call", calls.append)
        subject.settle()
        subject.call()
        assert calls == [2, 4]
        for _ in range(3):
            subject.draw()
        (found,) = session._stream.graphs  # type: ignore[attr-defined]
        assert found.launches == 3
        figures = subject.figures([0.3, 0.2], [0.2, 0.1], report.engines[0].cold)
    assert figures.step == spread([0.05, 0.025])
    overhead = figures.overhead
    assert (overhead.outside_percent, overhead.outside_step_us) == (None, None)
    assert overhead.host_ms is not None
    assert 0 < overhead.host_ms < 1e4
    assert overhead.percent == pytest.approx(100 * 0.1 / 0.25)


def test_the_hosts_own_work_is_an_image_less_what_was_waited_for(
    tiny_generator: seggd_rt.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Session:
        waited_s = 0.0

        def call(self, times: int = 1) -> None:
            raise AssertionError("it is not called")

    session, clock = Session(), [0.0]
    monkeypatch.setattr("seggd_rt.bench.benchmark.time.perf_counter", lambda: clock[0])

    def draw(masks: object, steps: int) -> None:
        clock[0] += 0.5
        session.waited_s += 0.375

    subject = DeviceSubject(tiny_generator, 4, 1, session)  # type: ignore[arg-type]
    monkeypatch.setattr(subject, "generator", draw)
    subject.draw()
    assert subject.overhead([0.5], [0.25]).host_ms == 125


def test_a_table_of_cpu_and_gpu_has_the_rows_of_both(report: Report) -> None:
    from seggd_cli.engines.bench import _table

    (on_cpu,) = report.engines
    told = msgspec.structs.replace(on_cpu.overhead, outside_percent=None, outside_step_us=None, host_ms=0.75)
    both = msgspec.structs.replace(report, engines=(on_cpu, msgspec.structs.replace(on_cpu, overhead=told)))
    console = Console(width=100, record=True, file=sys.stderr)
    console.print(_table(both))
    (line,) = (line for line in console.export_text().splitlines() if line.startswith("host's own work"))
    assert line.split()[-1] == "0.75"


def test_overhead_is_the_median_of_paired_differences() -> None:
    # The machine slows down by half in the middle: the differences are 10, 20 and 30 ms all the same.
    found = overhead([1.01, 1.52, 1.03], [1.0, 1.5, 1.0], steps=10, outside=[0.001, 0.9, 0.003])
    assert found.percent == pytest.approx(100 * 0.02 / 1.03)
    assert found.quartiles_percent == pytest.approx((100 * 0.015 / 1.03, 100 * 0.025 / 1.03))
    assert found.outside_percent == pytest.approx(100 * 0.003 / 1.03)
    assert found.outside_step_us == pytest.approx(300)
    assert found.calls_ms == pytest.approx(1000)


def test_all_names_the_engines_it_leaves_out(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_openvino(monkeypatch)
    said: list[str] = []
    found = bench(tiny_bundle, Settings(steps=1, repeats=1), said.append)
    assert [figures.engine for figures in found.engines] == ["onnxruntime"]
    assert "not installed" in found.skipped["openvino"]
    assert {"openvino: loading and checking", "onnxruntime fp32 calls: 1 of 1"} <= set(said)
    with pytest.raises(EngineUnavailableError, match="computes in fp32"):
        bench(tiny_bundle, Settings(steps=1, repeats=1, precision="fp16"))
    with pytest.raises(EngineUnavailableError, match="not installed"):
        bench(tiny_bundle, Settings(engine="openvino"))


@pytest.fixture(scope="module")
def profiled(tiny_bundle: Path) -> Report:
    return bench(tiny_bundle, Settings(engine="onnxruntime", steps=2, threads=1, repeats=3, profile=True))


def test_a_profile_tells_all_layers_and_what_they_explain(profiled: Report, report: Report) -> None:
    assert report.engines[0].profile is None
    (figures,) = profiled.engines
    found = figures.profile
    assert found is not None
    assert (found.clock, found.average, found.runs) == (Clock.HOST, Average.MEDIAN, 3)
    assert {"Conv", "Mul", "Tanh"} <= {layer.operator for layer in found.layers}
    assert found.layers_ms > 0
    for times in (found.layers, found.operators):
        assert sum(time.ms for time in times) == pytest.approx(found.layers_ms)
        assert sum(time.percent for time in times) == pytest.approx(100)
        assert [time.ms for time in times] == sorted((time.ms for time in times), reverse=True)
    assert sum(time.calls for time in found.operators) == sum(time.calls for time in found.layers)
    assert found.layers_ms + found.between_ms + found.beyond_ms == pytest.approx(found.step_ms)
    assert msgspec.json.decode(profiled.to_json(), type=Report) == profiled
    assert (profiled.unprofiled, report.unprofiled) == ({}, {})


def test_layers_are_timed_when_nothing_else_is(tiny_bundle: Path) -> None:
    said: list[str] = []
    bench(tiny_bundle, Settings(engine="onnxruntime", steps=1, repeats=1, threads=1, profile=True), said.append)
    assert said[-2:] == ["onnxruntime fp32: a cold start", "onnxruntime fp32: a profile"]


def test_an_engine_that_cannot_be_profiled_is_measured_and_named(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EngineError("the trace cannot be read")

    monkeypatch.setattr("seggd_engines.onnxruntime.cpu.trace", fail)
    options = ("--engine", "onnxruntime", "--steps", "1", "--repeats", "1", "--threads", "1", "--profile")
    done = run_command("bench", tiny_bundle, *options)
    assert done.code == 0, done.err
    assert "onnxruntime: not profiled: the trace cannot be read" in done.out.splitlines()
    assert "images a second" in done.out
    assert "operators" not in done.out


def test_a_layer_that_takes_no_time_has_no_share() -> None:
    found = LayerProfile(Clock.HOST, Average.MEAN, 1, 1.0, 1.0, (Layer("a", "Add", 1, 0.0),))
    assert step_profile(found).layers[0].percent == 0


def test_the_command_prints_operators_and_layers(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ("--engine", "onnxruntime", "--steps", "2", "--repeats", "2", "--threads", "1", "--profile")
    done = run_command("bench", tiny_bundle, *options, "--json", file)
    assert done.code == 0, done.err
    (figures,) = json.loads(file.read_text())["engines"]
    lines = done.out.splitlines()
    assert any(line.startswith("onnxruntime fp32, operators") for line in lines)
    assert any(line.startswith("onnxruntime fp32, layers") for line in lines)
    for title in ("Conv ", "all layers", "between layers", "interruptions", "step, profiled"):
        assert any(line.startswith(title) for line in lines), title
    step = next(line for line in lines if line.startswith("step, profiled")).split()[-1]
    assert step == f"{figures['profile']['step_ms']:.3f}"
    assert "medians of 2 steps, layers by the host's clock; counting costs time" in done.out


def test_long_names_are_cut_to_fit_a_terminal(profiled: Report) -> None:
    (figures,) = profiled.engines
    assert figures.profile is not None
    layers = tuple(
        msgspec.structs.replace(layer, name="up_blocks.3." * 9, operator="ConvolutionBackpropData" * 2)
        for layer in figures.profile.layers
    )
    wide = msgspec.structs.replace(figures.profile, layers=layers, average=Average.MEAN)
    console = Console(width=80, record=True, file=sys.stderr)
    table = layer_table(figures, wide)
    console.print(table)
    lines = console.export_text().splitlines()
    assert len(lines) == 1 + table.row_count
    assert lines[1].split()[-1] == f"{layers[0].percent:.1f}"
    console.print(operator_table(figures, wide))
    assert "interruptions" not in console.export_text(), "means add up to the step"


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"repeats": 0}])
def test_settings_outside_their_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="must be at least 1"):
        Settings(**wrong)


def test_a_failing_cold_process_says_why(tmp_path: Path) -> None:
    request = ColdRequest(
        bundle=str(tmp_path / "none.seggd"), engine="auto", precision="auto", threads=None, steps=1, batch=1
    )
    with pytest.raises(EngineError, match=r"code 1: .*none\.seggd is not a bundle"):
        cold_start(request)


def test_measuring_needs_neither_pytorch_nor_an_engine_until_it_measures() -> None:
    code = "import sys, seggd_cli.engines.bench; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "onnxruntime", "openvino", "PIL"} & set(loaded)


def test_the_command_prints_a_table_and_writes_the_figures(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ("--engine", "onnxruntime", "--steps", "2", "--repeats", "1", "--threads", "1", "--json", file)
    done = run_command("bench", tiny_bundle, *options)
    assert done.code == 0, done.err
    found = msgspec.json.decode(file.read_bytes(), type=Report)
    assert (found.steps, found.settings.repeats) == (2, 1)
    lines = done.out.splitlines()
    assert lines[0].split() == ["onnxruntime", "fp32"]
    for title in (
        "step, ms",
        "image, ms",
        "images a second",
        "runtime overhead",
        "outside",
        "cold process",
        "peak memory",
    ):
        assert any(line.startswith(title) for line in lines), title
    assert found.bundle_sha256[:12] in done.out
    assert "recall the engine's self-check" in done.out
    assert "onnxruntime fp32 image: 1 of 1" in done.err.splitlines()


def test_the_table_fits_a_terminal(report: Report) -> None:
    from seggd_cli.engines.bench import _table

    twice = msgspec.structs.replace(report, engines=report.engines * 2)
    console = Console(width=80, record=True, file=sys.stderr)
    console.print(_table(twice))
    lines = console.export_text().splitlines()
    assert len(lines) == 1 + _table(report).row_count


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--repeats", "0"), "repeats is 0"),
        (("--batch", "0"), "batch is 0"),
        (("--steps", "0"), "steps is 0"),
        (("--engine", "openvin"), "did you mean 'openvino'"),
        (("--precision", "fp8"), "there is no precision 'fp8'"),
    ],
)
def test_the_command_refuses_in_one_line(
    options: tuple[str, str], reason: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = () if "--engine" in options else ("--engine", "onnxruntime")
    done = run_command("bench", tiny_bundle, *engine, *options)
    assert (done.code, done.out) == (2, "")
    assert reason in done.error_lines[-1]
    assert done.error_lines[-1].startswith("error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file/f.json", "folder", "link", "pipe", f"{'n' * 250}.json"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    place: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*arguments: object, **options: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr("seggd_rt.bench.benchmark.bench", measure)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    done = run_command("bench", tiny_bundle, "--engine", "onnxruntime", "--json", tmp_path / place)
    assert (done.code, done.out, len(done.error_lines)) == (2, "", 1)
    assert str((tmp_path / place).name) in done.err or "file" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link", "pipe"]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "pipe").is_fifo()


def test_the_figures_may_be_printed(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--engine", "onnxruntime", "--steps", "2", "--repeats", "1", "--threads", "1", "--json", "-")
    done = run_command("bench", tiny_bundle, *options)
    assert done.code == 0, done.err
    assert [figures["engine"] for figures in json.loads(done.out)["engines"]] == ["onnxruntime"]
    assert not list(tmp_path.iterdir())
