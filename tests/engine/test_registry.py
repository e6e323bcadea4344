"""Engines register themselves: also one of another package, installed from its own folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.engine import registry
from seggd_rt.errors import EngineUnavailableError, OptionError
from tests.bundles import TINY
from tests.commands import COMMAND
from tests.paths import EXAMPLES, REPOSITORY

pytest.importorskip("onnx", reason="onnx, which the example's engine runs on, is not installed")

NAME = "onnx-reference"


def install(folder: Path, project: dict[str, object], module: str) -> dict[str, str]:
    """Install a module with its entry points into a folder; return an environment that finds it."""
    name, version = project["name"], project["version"]
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points: dict[str, str] = project["entry-points"]["seggd_rt.engines"]  # type: ignore[index]
    lines = [f"{point} = {value}" for point, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[seggd_rt.engines]", *lines, ""]))
    (folder / f"{next(iter(points.values())).partition(':')[0]}.py").write_text(module)
    path = os.pathsep.join([str(folder), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])])
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example's engine is installed."""
    folder = EXAMPLES / "engine"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    module = (folder / "seggd_onnx_reference.py").read_text()
    return install(tmp_path_factory.mktemp("site"), project, module)


def run(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, arguments)], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=600
    )


def test_ours_are_registered_in_the_order_in_which_auto_tries_them() -> None:
    names = [engine.name for engine in registry.engines()]
    assert names == ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "openvino", "onnxruntime"]
    assert registry.failed_engines() == ()


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="there is no engine 'openvin': did you mean 'openvino'"):
        registry.find_engine("openvin")
    with pytest.raises(OptionError, match="there is no engine 'x': there are tensorrt, "):
        registry.find_engine("x")


def test_doctor_lists_an_engine_of_another_package(environment: dict[str, str]) -> None:
    done = run(environment, *COMMAND, "doctor", "--json")
    found = {each["name"]: each for each in json.loads(done.stdout)["engines"]}
    assert (found[NAME]["package"], found[NAME]["usable"]) == ("seggd_onnx_reference", True)
    assert found["onnxruntime"]["package"] == "seggd_engines"


@pytest.mark.usefixtures("needs_onnxruntime")
def test_an_engine_of_another_package_generates_what_ours_does(environment: dict[str, str], tmp_path: Path) -> None:
    code = """
import sys, numpy as np, seggd_rt
with seggd_rt.load(sys.argv[1], engine="onnx-reference") as generator:
    assert generator.engine.engine == "onnx-reference"
    np.save(sys.argv[2], generator(generator.bundle.golden.label_map, seed=3, steps=4))
"""
    done = run(environment, sys.executable, "-c", code, TINY, tmp_path / "image.npy")
    assert done.returncode == 0, done.stderr
    with seggd_rt.load(TINY, engine="onnxruntime", threads=1) as generator:
        expected = generator(Bundle.open(TINY).golden.label_map, seed=3, steps=4)
    np.testing.assert_allclose(np.load(tmp_path / "image.npy"), expected, atol=1e-5)


def test_the_contract_suite_runs_over_it(environment: dict[str, str]) -> None:
    suite = REPOSITORY / "tests" / "engines" / "test_network_contract.py"
    done = run(environment, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", suite, "-k", NAME)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_what_gives_no_engine_is_told(tmp_path: Path) -> None:
    module = """
class Other:
    name, rank, kind = "other", 1, "cpu"
def fails(): raise RuntimeError("no licence")
"""
    project = {
        "name": "broken",
        "version": "1",
        "entry-points": {"seggd_rt.engines": {"theirs": "broken:fails", "mine": "broken:Other"}},
    }
    environment = install(tmp_path, project, module)
    done = run(environment, *COMMAND, "doctor", "--json")
    found = {each["name"]: each for each in json.loads(done.stdout)["engines"]}
    assert found["theirs"]["reason"] == "cannot be loaded (RuntimeError: no licence)"
    assert found["mine"]["reason"] == "cannot be loaded (ValueError: the engine calls itself 'other')"
    code = "import sys; from seggd_rt.engine import registry; registry.find_engine('theirs')"
    done = run(environment, sys.executable, "-c", code)
    assert EngineUnavailableError.__name__ in done.stderr
    assert "engine theirs of broken cannot be loaded (RuntimeError: no licence)" in done.stderr
    code = "import sys, seggd_rt; print(*seggd_rt.load(sys.argv[1]).engine.notes, sep='\\n')"
    done = run(environment, sys.executable, "-c", code, TINY)
    assert "theirs: cannot be loaded (RuntimeError: no licence)" in done.stdout, "auto does not hide it"
