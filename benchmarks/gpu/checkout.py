"""The checkout this script runs from: its packages need not be installed, and its paths stay out of what is written."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = (ROOT, ROOT / "engines", ROOT / "export", ROOT / "training")
_NEEDED = ("numpy", "msgspec", "platformdirs", "rich", "torch", "diffusers")
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])/(?:[\w.+@~-]+/)+([\w.+@~-]+)")


def use_checkout() -> None:
    """Let this process and its children import the checkout's packages."""
    folders = [str(folder) for folder in _SOURCES]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*folders, *([before] if before else [])])


def missing_packages() -> list[str]:
    """Return the packages without which nothing here runs and that are not installed."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def portable(text: str) -> str:
    """Cut every absolute path in a text to its last name: folders tell of a user and a machine."""
    return _ABSOLUTE.sub(r"\1", text)
