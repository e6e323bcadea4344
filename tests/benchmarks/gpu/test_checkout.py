"""A checkout that is not installed has the engines of an installed one."""

from __future__ import annotations

import subprocess
import sys
import tomllib

from tests.paths import REPOSITORY

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from benchmarks.gpu.machine.checkout import use_checkout
use_checkout()
from importlib.metadata import entry_points
print(*sorted(point.name for point in entry_points(group="seggd_rt.engines")))
"""


def test_the_engines_of_a_checkout_are_registered() -> None:
    # Without the environment's packages, so that nothing is installed.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CODE, REPOSITORY], capture_output=True, text=True, check=True
    )
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert done.stdout.split() == sorted(project["entry-points"]["seggd_rt.engines"])
