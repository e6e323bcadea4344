"""`benchmarks.gpu.checks.smoke` where no GPU is: its items on emulated streams, and what it prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.gpu.checks import smoke
from benchmarks.gpu.checks.smoke import Item
from seggd_rt.errors import EngineUnavailableError
from tests.engines.cuda.emulated import EmulatedStream


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "new_stream", EmulatedStream)


@pytest.mark.parametrize("item", [smoke.streams, smoke.memory, smoke.graphs, smoke.order, smoke.threads, smoke.kernels])
def test_items_pass_on_emulated_streams(item: Callable[[], Any]) -> None:
    state, told = smoke.attempt(Item("an item", item))
    assert state == "PASS", told


def test_engines_tell_their_layers_or_why_not(monkeypatch: pytest.MonkeyPatch, needs_onnxruntime: None) -> None:
    item = Item("an item", lambda: smoke.engine_layers("onnxruntime", "cpu"))
    state, told = smoke.attempt(item)
    assert state == "PASS", told
    assert "layers" in told

    def refuse(*_: object) -> None:
        raise EngineUnavailableError("this build times nothing")

    monkeypatch.setattr("seggd_engines.onnxruntime.cpu.trace", refuse)
    assert smoke.attempt(item) == ("SKIP", "this build times nothing")


def test_recordings_may_fail() -> None:
    state, told = smoke.attempt(Item("an item", smoke.broken_recordings))
    assert state == "PASS", told


def test_it_notices_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmulatedStream, "clear", lambda self, address, size: None)
    state, told = smoke.attempt(Item("an item", smoke.memory))
    assert state == "FAIL"
    assert "what came back" in told
    assert "smoke.py:" in told


def test_it_prints_a_line_an_item(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("a\nb")

    chosen = [Item("good", lambda: "fine"), Item("bad", fail), Item("elsewhere", lambda: smoke.skip("not here"))]  # type: ignore[func-returns-value]
    assert smoke.main(chosen) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("PASS good (")
    assert "FAIL bad (" in lines[2]
    assert "RuntimeError: a b (test_smoke.py:" in lines[2]
    assert lines[3].startswith("SKIP elsewhere (")
    assert lines[4].startswith("1 of 3 failed")


def test_items_can_be_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [Item("driver: graphs", lambda: ""), Item("kernels", lambda: ""), Item("driver: memory", lambda: "")]
    assert smoke.main(chosen, only=["driver*"]) == 0
    out = capsys.readouterr().out
    assert "PASS driver: graphs" in out and "PASS driver: memory" in out
    assert "kernels" not in out
    assert smoke.main(chosen, only=["drivers"]) == 2
    assert "--smoke matches no item (drivers)" in capsys.readouterr().err
