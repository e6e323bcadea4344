"""Where the tests find what the repository holds."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "examples"
GOLDEN = REPOSITORY / "tests" / "golden"
