"""Each part of `benchmarks.gpu` where no GPU is: what it counts, reads and refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.gpu import profile
from benchmarks.gpu.checks import sanitizer, sanitizer_driver, suites
from benchmarks.gpu.command import PARTS, _chosen, _parser, _without_limit
from benchmarks.gpu.contenders import subjects
from benchmarks.gpu.contenders.networks import CALLS, LoopContender, Task
from benchmarks.gpu.contenders.subjects import DEMO, SMALL, Subject, read_network
from benchmarks.gpu.machine import floor
from benchmarks.gpu.machine.checkout import ROOT
from benchmarks.gpu.record import Record
from benchmarks.gpu.results import Absent, Cost, Rate, Sanitized, Suite
from benchmarks.gpu.run import Context, Deadline
from seggd_rt.diffusion import Precision
from seggd_rt.errors import EngineError
from tests.benchmarks.gpu.late import LateDevice, tiny_unet
from tests.engines.cuda.emulated import EmulatedStream

# The command


def run_script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = run_script(tmp_path / "out.json")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "GPU" in line
    assert not list(tmp_path.iterdir())


def test_its_options_choose_parts() -> None:
    def chosen(*arguments: str) -> list[str]:
        return [part.name for part in _chosen(_parser().parse_args(["out.json", *arguments]))]

    assert chosen() == ["floor", "suites", "sanitizer", "bundles", "latency"]
    assert chosen("--profile", "--train-demo", "3") == [part.name for part in PARTS]
    assert chosen("--part", "latency", "--part", "floor", "--train-demo", "3") == ["floor", "latency"]


def test_the_measuring_process_is_given_all_but_the_outer_ones_options() -> None:
    given = ["o.json", "--limit-s", "5", "--append", "--redo=a", "--redo", "b", "--part", "floor", "--limit-s=7"]
    assert _without_limit(given) == ["o.json", "--part", "floor"]


# The floor


class Known(nn.Module):
    """A convolution and a linear layer, whose products can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.Linear(8, 4, bias=False)
        self.config = type("Config", (), {"sample_size": [6, 8], "in_channels": 3})

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.linear(self.conv(sample))
        return result


def test_products_weights_and_activations_are_counted() -> None:
    found = floor.count_cost(Known())
    assert found.flop == 2 * (5 * 6 * 8 * 3 * 9) + 2 * (5 * 6 * 8 * 4)
    assert found.weights == 5 * 3 * 9 + 8 * 4
    assert found.activations == 5 * 6 * 8 + 5 * 6 * 4


def test_the_reference_network_costs_what_the_design_says() -> None:
    found = floor.cost_of(subjects.REFERENCE)
    assert found.weights == pytest.approx(113.67e6, rel=1e-3)
    assert found.flop == pytest.approx(495.9e9, rel=5e-3)


def test_the_floor_is_the_larger_bound(tmp_path: Path) -> None:
    record = Record(tmp_path / "out.json")
    record.keep("floor", "copy", Rate(per_second=1e9, unit="byte", of="copy"), 0)
    record.keep("floor", "cost tiny", Cost(flop=1e6, weights=1000, activations=250), 0)
    assert floor.floor_of(record, "tiny", Precision.FP16, 2) is None
    record.keep("floor", "matrix fp16", Rate(per_second=1e12, unit="FLOP", of="product"), 0)
    found = floor.floor_of(record, "tiny", Precision.FP16, 2)
    assert found is not None
    assert (found.flop_ms, found.bytes_ms) == (pytest.approx(2e-3), pytest.approx(4e-3))
    assert found.ms == found.bytes_ms
    assert "floor 0.004 ms" in str(found)
    assert floor.floor_of(record, "other", Precision.FP16, 2) is None


def test_rates_are_what_is_done_over_the_time_it_took() -> None:
    class Second(LateDevice):
        def timed(self, work, stream=None):  # type: ignore[no-untyped-def]
            super().timed(work, stream)
            return type("Duration", (), {"device_s": 0.5})

    assert floor.copy_rate(Second(), 1 << 20).per_second == 4 << 20
    assert floor.matrix_rate(Second(), Precision.FP32, 64).per_second == 4 * 64**3


# The suites


def file_of_tests(folder: Path, text: str) -> Path:
    path = folder / "test_some.py"
    path.write_text(text)
    return path


def test_a_suite_is_counted(tmp_path: Path) -> None:
    path = file_of_tests(
        tmp_path,
        "import pytest, warnings\n"
        "def test_good(): warnings.warn('old', DeprecationWarning)\n"
        "def test_bad(): assert 1 == 2, 'one is not two, see /home/me/x.txt'\n"
        "def test_skipped(): pytest.skip('no TensorRT here')\n"
        "@pytest.fixture\ndef broken(): raise OSError('no file')\n"
        "def test_error(broken): pass\n",
    )
    found = suites.run_suite([str(path)], [path], 100)
    assert isinstance(found, Suite)
    assert (found.passed, found.failed, found.skipped) == (1, 2, 1)
    assert found.skips == {"no TensorRT here": 1}
    assert found.failures[0].startswith("test_bad: AssertionError: one is not two, see x.txt")
    assert "no file" in found.failures[1]


def test_a_suite_that_dies_says_so(tmp_path: Path) -> None:
    path = file_of_tests(tmp_path, "import os\ndef test_dies(): os._exit(9)\n")
    with pytest.raises(EngineError, match="code 9"):
        suites.run_suite([str(path)], [path], 100)
    path = file_of_tests(tmp_path, "import time\ndef test_hangs(): time.sleep(60)\n")
    with pytest.raises(EngineError, match="more than 1 s"):
        suites.run_suite([str(path)], [path], 1)


def test_a_suite_that_needs_what_is_not_there_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of_tests(tmp_path, "from hypothesis import given\n")
    monkeypatch.setattr(suites.importlib.util, "find_spec", lambda name: None if name == "hypothesis" else name)
    assert suites.run_suite([str(path)], [path], 100) == Absent(reason="hypothesis not installed")


def test_what_is_marked_for_gpus_is_a_suite(tmp_path: Path) -> None:
    context = Context(Record(tmp_path / "o.json"), Deadline(None), LateDevice(), tmp_path)
    names = [piece.name for piece in suites.SUITES.pieces(context)]
    assert names == ["test_gpu", "test_gpu_contract"]


# The sanitizer


def test_the_driver_draws_with_every_kernel_and_sees_a_wrong_image(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[EmulatedStream] = []

    def make() -> EmulatedStream:
        streams.append(EmulatedStream())
        return streams[-1]

    assert sanitizer_driver.drive(make) == 4 * 2 * 2 * 9
    assert len(streams) == 8
    assert all(stream.kernels for stream in streams)
    monkeypatch.setattr(sanitizer_driver.HostCopyNetwork, "bind", lambda self, sample, timestep, out: lambda: None)
    with pytest.raises(RuntimeError, match="differs from the host's"):
        sanitizer_driver.drive(make)


MEMCHECK = """========= COMPUTE-SANITIZER
36 images equal the host's
========= ERROR SUMMARY: 0 errors
"""
FOUND = """========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at seggd_step+0x80 in /home/me/.cache/sampling.cu:12
========= ERROR SUMMARY: 2 errors
"""


def test_what_a_tool_prints_is_read() -> None:
    assert sanitizer.read_output(MEMCHECK, 0) == Sanitized(errors=0, summary=("ERROR SUMMARY: 0 errors",))
    found = sanitizer.read_output(FOUND, 99)
    assert found.errors == 2
    assert "at seggd_step+0x80 in sampling.cu:12" in found.summary
    with pytest.raises(EngineError, match="Device not supported"):
        sanitizer.read_output("========= COMPUTE-SANITIZER\n========= Error: Device not supported\n", 1)
    with pytest.raises(EngineError, match="code 1"):
        sanitizer.read_output("Traceback\n========= ERROR SUMMARY: 0 errors\n", 1)


def test_a_host_without_the_sanitizer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanitizer.shutil, "which", lambda name, path=None: None)
    assert sanitizer.sanitize("memcheck", 10) == Absent(reason="compute-sanitizer is not installed")


# Subjects and profile


def test_subjects_are_drawn_from_one_noise_and_every_class() -> None:
    found = read_network(DEMO)
    maps, noise = found.label_maps(2), found.noise(2)
    assert set(np.unique(maps)) == {0, 1, 2, 3}
    assert found.masks(2).shape[0] == len(maps) == 2
    assert np.abs(noise[0] - noise[1]).max() > 1
    np.testing.assert_array_equal(found.noise(1)[0], noise[0])
    assert found.build() is not found.build()
    assert (DEMO.trained, SMALL.trained) == (True, False)
    assert read_network(SMALL).checkpoint.config.height == 128


def test_layers_are_named_and_the_costliest_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    device = LateDevice()
    made = LoopContender(Task(Subject("tiny", "tiny", 16), Precision.FP32, 1), device)
    monkeypatch.setattr(profile, "STEPS", (1,))
    found = profile.profiled(lambda: made)
    assert found.step_ms > 0
    layers = {layer.name: layer for layer in found.layers}
    assert "conv_in" in layers
    assert layers["conv_in"].calls == 1
    event = type("Event", (), {})

    def kernel(name: str, total: float, kind: str = "CUDA") -> object:
        made = event()
        made.key, made.count, made.self_device_time_total = name, CALLS * 2, total  # type: ignore[attr-defined]
        made.device_time_total = total  # type: ignore[attr-defined]
        made.device_type = type("Kind", (), {"name": kind})  # type: ignore[attr-defined]
        return made

    events = [kernel("small", 1e3), kernel("large", 5e3), kernel("layer a", 9e3, "CPU"), kernel("layer a", 9e3)]
    summary = profile.summarise(events, 1.0)
    assert [(k.name, k.calls, k.device_ms) for k in summary.kernels] == [("large", 2, 0.5), ("small", 2, 0.1)]
    assert [(layer.name, layer.device_ms) for layer in summary.layers] == [("a", 0.9)]


def test_naming_layers_leaves_no_hooks() -> None:
    unet = tiny_unet()
    with profile.layers_named(unet):
        assert any(module._forward_hooks for module in unet.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())
