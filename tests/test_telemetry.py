"""Libraries that report to their makers do not: nothing of theirs lies in a fresh home after an image was drawn.

What they would send they first keep on disk, with an identifier; so no test has to look at the network.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seggd_rt.engine import registry
from seggd_rt.telemetry import opt_out, silenced
from tests.bundles import TINY

DRAW = """
import sys, seggd_rt
with seggd_rt.load(sys.argv[1], engine=sys.argv[2], precision="fp32", threads=1) as generator:
    generator(generator.bundle.golden.label_map, steps=1)
"""
EXPORT = """
import seggd_export.parity.network_parity, onnxruntime
onnxruntime.InferenceSession(sys.argv[1] + "/unet.fp32.onnx")
"""


def run(home: Path, script: str, *arguments: str | Path) -> list[str]:
    """Run Python in a fresh home, where nothing says that this is CI; return the names of what is there then."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    # The package may be installed so, or be found from where the tests run.
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    places = {name: str(home) for name in ("HOME", "TMPDIR", "LOCALAPPDATA", "USERPROFILE")}
    subprocess.run(
        [sys.executable, "-c", "import sys\n" + script, *map(str, arguments)],
        env={**kept, **places, "XDG_CACHE_HOME": str(home / "cache")},
        check=True,
        timeout=300,
    )
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_drawing_leaves_nothing_of_theirs(engine: str, tmp_path: Path) -> None:
    there = registry.find_engine(engine).availability("cpu")
    if not there.usable:
        pytest.skip(f"{engine}: {there.reason}")
    found = run(tmp_path, DRAW, TINY, engine)
    # Our own: the outcome of the engine's check.
    assert [Path(name).parent for name in found] == [Path("cache", "seggd-rt", "checks")]


def test_exporting_leaves_nothing_of_theirs(tmp_path: Path) -> None:
    for module in ("torch", "diffusers", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason="needs the extras `cpu` and `export`")
    assert run(tmp_path, EXPORT, TINY) == []


def test_what_the_environment_says_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with silenced("numpy"):
        assert "ORT_DISABLE_TELEMETRY" not in os.environ
    opt_out()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    with silenced("onnxruntime"):
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_only_the_import_is_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    with pytest.raises(RuntimeError), silenced("openvino.runtime"):
        with pytest.raises(ImportError):
            importlib.import_module("openvino_telemetry")
        raise RuntimeError
    assert "openvino_telemetry" not in sys.modules
    # What an application imported itself is its own business.
    monkeypatch.setitem(sys.modules, "openvino_telemetry", os)
    with silenced("openvino"):
        assert sys.modules["openvino_telemetry"] is os
    assert sys.modules["openvino_telemetry"] is os
