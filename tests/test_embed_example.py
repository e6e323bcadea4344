"""The example for applications in Python runs."""

import runpy
import sys

import pytest

from tests.bundles import TINY
from tests.paths import EXAMPLES

EXAMPLE = EXAMPLES / "python" / "embed.py"


def test_embed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(TINY)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    said = capsys.readouterr().out
    for line in ("radius 7:", "8 images by 4 threads", "cancelled", "step 10 of 10"):
        assert line in said
