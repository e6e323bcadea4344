"""What of `stream.py` and `capture.py` needs no driver; the rest is in `on_fake_driver.py`."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from seggd_engines.cuda import nothing_collected
from seggd_engines.cuda.stream import compile_kernels

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install 'seggd-rt[cuda]'")


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compile_kernels("90").code.startswith(b"\x7fELF")


def test_nothing_is_collected_while_anybody_records() -> None:
    begun, end = threading.Event(), threading.Event()

    def record() -> None:
        with nothing_collected():
            begun.set()
            end.wait(10)

    other = threading.Thread(target=record)
    with nothing_collected():
        assert not gc.isenabled()
        other.start()
        assert begun.wait(10)
    assert not gc.isenabled(), "the other thread still records"
    end.set()
    other.join()
    assert gc.isenabled()


def test_who_collects_nothing_at_all_still_does_not() -> None:
    gc.disable()
    try:
        with nothing_collected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
