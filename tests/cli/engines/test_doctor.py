"""`seggd-rt doctor`: what it reports here, and on machines that lack things."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seggd_rt
from seggd_engines.onnxruntime import OnnxRuntimeEngine
from seggd_engines.onnxruntime import cpu as onnxruntime
from seggd_rt.engine import cpu
from seggd_rt.errors import EngineUnavailableError
from seggd_rt.gpu import devices as gpus
from tests.commands import run_command


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages look installed, by their metadata."""
    real = importlib.metadata.distribution

    def distribution(name: str) -> Any:
        return real("numpy") if name in names else real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


def uninstall(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages look absent, to whoever looks for their module or metadata."""
    find, distribution = importlib.util.find_spec, importlib.metadata.distribution

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name in names else find(name, package)

    def absent(name: str) -> Any:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(importlib.metadata, "distribution", absent)


def test_reports_this_machine() -> None:
    done = run_command("doctor", "--json")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert report["python"] == platform.python_version()
    assert report["seggd_rt"] == seggd_rt.__version__
    assert report["cpu_cores"] >= 1
    versions = {package["name"]: package["version"] for package in report["packages"]}
    assert versions["numpy"] == importlib.metadata.version("numpy")
    assert {engine["name"] for engine in report["engines"]} >= {"onnxruntime", "openvino", "onnxruntime-cuda"}
    assert bool(report["gpus"]) == (report["no_gpu"] is None)
    for engine in report["engines"]:
        assert engine["precisions"] if engine["usable"] else engine["reason"]


def test_the_table_says_the_same() -> None:
    done = run_command("doctor")
    assert done.code == 0
    for word in (platform.python_version(), "onnxruntime", "openvino", "CPU features", "package"):
        assert word in done.out


def test_says_why_not_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(monkeypatch, "onnxruntime", "openvino", "torch")
    report = json.loads(run_command("doctor", "--json").out)
    assert not any(engine["usable"] for engine in report["engines"] if engine["device"] == "cpu")
    assert {package["name"]: package["version"] for package in report["packages"]}["torch"] is None
    advice = " ".join(report["advice"])
    assert "no engine can run here" in advice
    assert re.search(r"torch.* not installed: pip install 'seggd-rt\[export\]'", advice)
    shown = run_command("doctor")
    assert shown.code == 0
    assert "openvino: not installed: pip install 'seggd-rt[cpu]'" in shown.out


@pytest.mark.usefixtures("needs_onnxruntime")
def test_two_builds_of_onnxruntime_are_noticed(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    install(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    report = json.loads(run_command("doctor", "--json").out)
    engine = next(engine for engine in report["engines"] if engine["name"] == "onnxruntime")
    assert not engine["usable"]
    assert "onnxruntime and onnxruntime-gpu are installed together" in engine["reason"]
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in " ".join(report["advice"])
    with pytest.raises(EngineUnavailableError, match="installed together"):
        seggd_rt.load(tiny_bundle, engine="onnxruntime")


def test_the_gpu_build_alone_has_its_version(monkeypatch: pytest.MonkeyPatch, needs_onnxruntime: None) -> None:
    monkeypatch.setattr(onnxruntime, "installed_builds", lambda: ("numpy",))  # any name that is installed
    assert OnnxRuntimeEngine().availability("cpu").version == importlib.metadata.version("numpy")


def test_looking_imports_nothing_heavy() -> None:
    code = (
        "import sys; from seggd_cli.engines.doctor import examine; examine();"
        "print(*sorted({name.partition('.')[0] for name, module in sys.modules.items() if module}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "diffusers", "onnx", "onnxruntime", "PIL", "monai", "accelerate"} & set(loaded)


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        ("processor: 0\nmodel name\t: Fast 3\nflags\t\t: sse avx2 amx_bf16\n", "Fast 3", ("AVX2", "AMX bf16")),
        ("processor: 0\nFeatures\t: fp asimd bf16\n", None, ("NEON", "NEON bf16")),
        ("", None, None),
    ],
)
def test_cpuinfo(
    text: str, name: str | None, features: tuple[str, ...] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    found = cpu.this_cpu.__wrapped__()
    assert found.name == (name or platform.processor() or platform.machine())
    assert found.features == features


def test_gpus_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (gpus.Gpu(0, "GPU of a test", (8, 9), 24 << 30), gpus.Gpu(1, "another", (9, 0), 80 << 30))
    monkeypatch.setattr(gpus, "_look", lambda: (found, None))
    report = json.loads(run_command("doctor", "--json").out)
    assert report["gpus"][0] == {
        "device": "cuda:0", "name": "GPU of a test", "compute_capability": "8.9", "memory_bytes": 24 << 30,
    }  # fmt: skip
    engines = [engine["device"] for engine in report["engines"] if engine["name"] == "onnxruntime-cuda"]
    assert engines == ["cuda:0", "cuda:1"]
    assert "GPU of a test, compute capability 8.9, 24 GiB" in run_command("doctor").out


def test_without_a_driver_a_gpu_engine_says_so_in_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    if gpus.find_gpus():
        pytest.skip("there is a GPU here")
    mask = tmp_path / "m.npy"
    np.save(mask, np.ones((24, 32), np.uint8))
    arguments = ("generate", tiny_bundle, "-m", mask, "-o", tmp_path / "o.png", "--engine", "onnxruntime-cuda")
    done = run_command(*arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert re.search("onnxruntime-cuda: .*(NVIDIA|cuda-core)", done.err)
