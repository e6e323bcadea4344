"""The stream of cuda.core, as far as it goes without a GPU: what an error while recording leaves, and its caches."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace

import pytest

from seggd_engines.cuda_stream import CudaStream, compile_kernels
from seggd_rt.errors import EngineError

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install 'seggd-rt[cuda]'")


class Builder:
    """cuda.core's GraphBuilder: a recording that an error ended must be closed, and says so once more."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken, self.closed, self.ended = broken, False, False

    def begin_building(self, mode: str) -> Builder:
        return self

    def end_building(self) -> Builder:
        if self.broken:
            raise RuntimeError("Build process encountered an error")
        self.ended = True
        return self

    def complete(self) -> SimpleNamespace:
        return SimpleNamespace(upload=lambda stream: None)

    def close(self) -> None:
        self.closed = True
        if not self.ended:
            raise RuntimeError("the capture was invalidated")


def stream_around(builder: Builder) -> CudaStream:
    stream = CudaStream.__new__(CudaStream)
    stream._stream = SimpleNamespace(create_graph_builder=lambda: builder)
    return stream


def test_an_error_while_recording_is_told_and_ends_the_recording() -> None:
    builder = Builder()

    def work() -> None:
        raise EngineError("the network failed")

    with pytest.raises(EngineError, match=r"^the network failed$"):
        stream_around(builder).capture(work)
    assert builder.closed
    assert gc.isenabled()


def test_a_recording_that_cuda_ended_is_an_error() -> None:
    builder = Builder(broken=True)
    with pytest.raises(EngineError, match=r"cannot be captured as a CUDA graph .*encountered an error"):
        stream_around(builder).capture(lambda: None)
    assert builder.closed


def test_nothing_is_collected_while_recording() -> None:
    seen, builder = [], Builder()
    stream_around(builder).capture(lambda: seen.append(gc.isenabled()))
    assert seen == [False]
    assert gc.isenabled()
    assert builder.closed


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compile_kernels("90").code.startswith(b"\x7fELF")
