"""NVTX ranges, against a stand-in for the package `nvtx`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from seggd_engines.cuda.nvtx_ranges import in_range, nvtx_range
from tests.engines.cuda.test_session import SHAPES, analytic, empty, make_run, session_of


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Install the stand-in; return what it was told."""
    names: list[str] = []
    nvtx: Any = ModuleType("nvtx")
    nvtx.__spec__ = ModuleSpec("nvtx", None)

    class Annotation:
        def __init__(self, name: str, domain: str) -> None:
            assert domain == "seggd-rt"
            self.name = name

        def __enter__(self) -> None:
            names.append(self.name)

        def __exit__(self, *_: object) -> None:
            names.append(f"/{self.name}")

    nvtx.annotate = Annotation
    monkeypatch.setitem(sys.modules, "nvtx", nvtx)
    nvtx_range.cache_clear()
    yield names
    nvtx_range.cache_clear()


def test_what_a_session_does_is_named(told: list[str]) -> None:
    session, _ = session_of(analytic(), 1)
    run, out = make_run(SHAPES[0], seeds=(3,), steps=2), empty(SHAPES[0], 1)
    session.run(run, out)
    drawn = [name for name in told if name in ("upload", "steps", "download")]
    assert drawn == ["upload", "steps", "download"]
    assert {"begin", "network", "finish"} <= set(told), "the loop is enqueued once, to be captured"
    told.clear()
    session.run(run, out)
    assert told == ["upload", "/upload", "steps", "/steps", "download", "/download"]


def test_a_range_ends_with_an_error(told: list[str]) -> None:
    @in_range("risky")
    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert told == ["risky", "/risky"]


def test_without_the_package_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seggd_engines.cuda.nvtx_ranges.importlib.util.find_spec", lambda name: None)
    nvtx_range.cache_clear()

    @in_range("quiet")
    def add(a: int, *, b: int) -> int:
        return a + b

    assert add(1, b=2) == add(1, b=2) == 3
    nvtx_range.cache_clear()
