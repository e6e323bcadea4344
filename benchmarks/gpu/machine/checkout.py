"""The checkout this script runs from: its packages need not be installed, and its paths stay out of what is written."""

from __future__ import annotations

import atexit
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_SOURCES = (ROOT, ROOT / "engines", ROOT / "export", ROOT / "training", ROOT / "cli")
_NEEDED = ("filelock", "numpy", "msgspec", "platformdirs", "rich", "torch", "diffusers")
_ENGINES = "seggd_rt.engines"
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])/(?:[\w.+@~-]+/)+([\w.+@~-]+)")


def use_checkout() -> None:
    """Let this process and its children import the checkout's packages, and find its engines."""
    folders = [str(folder) for folder in _SOURCES]
    if not importlib.metadata.entry_points(group=_ENGINES):
        folders.append(_metadata())
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*folders, *([before] if before else [])])
    # For children alone: the CUDA libraries of PyTorch, which an ONNX Runtime in another folder does not find.
    spec = importlib.util.find_spec("nvidia")
    places = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    libraries = sorted(str(folder) for place in places for folder in place.glob("*/lib") if folder.is_dir())
    before = os.environ.get("LD_LIBRARY_PATH")
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([*([before] if before else []), *libraries])


def _metadata() -> str:
    """Return a new folder that registers the checkout's engines, as an installed package would."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    folder = Path(tempfile.mkdtemp(prefix="seggd-rt-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    info = folder / f"seggd_rt-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: seggd-rt\nVersion: {project['version']}\n")
    engines = "\n".join(f"{name} = {value}" for name, value in project["entry-points"][_ENGINES].items())
    (info / "entry_points.txt").write_text(f"[{_ENGINES}]\n{engines}\n")
    return str(folder)


def missing_packages() -> list[str]:
    """Return the packages without which nothing here runs and that are not installed."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def portable(text: str) -> str:
    """Cut every absolute path in a text to its last name: folders tell of a user and a machine."""
    return _ABSOLUTE.sub(r"\1", text)


def first_line(*command: str) -> str:
    """Return the first line a program prints; nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return lines[0].strip() if lines else ""
