"""What every test may use: the tiny bundles, a generator on them, and a cache that is not the user's."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import seggd_rt
from seggd_engines.onnxruntime import OnnxRuntimeEngine
from seggd_rt.bundle import Bundle
from seggd_rt.telemetry import opt_out
from tests.bundles import TINY, TINY_RGB

opt_out()  # also for tests that import ONNX Runtime themselves, and for processes that they start


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep engine checks in a folder of this run, also those of subprocesses."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("cache"))
        patch.setenv("XDG_CACHE_HOME", folder)  # Linux and macOS
        patch.setenv("WIN_PD_OVERRIDE_LOCAL_APPDATA", folder)  # Windows, platformdirs' own
        yield


@pytest.fixture(scope="session", autouse=True)
def _heed_interrupts() -> Iterator[None]:
    """Undo what a shell does to its background jobs: they, and their children, ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def tiny_bundle() -> Path:
    """A bundle of a few hundred weights: grey, 24x32, three classes one-hot. Copy it before changing it."""
    return TINY


@pytest.fixture(scope="session")
def tiny_rgb_bundle() -> Path:
    """The same in RGB, 16x20, label-over-255 and v prediction."""
    return TINY_RGB


@pytest.fixture(scope="session")
def golden_mask() -> NDArray[np.uint8]:
    """(24, 32) uint8: the tiny bundle's own label map, with every class in it."""
    return Bundle.open(TINY).golden.label_map


@pytest.fixture(scope="session")
def needs_onnxruntime() -> None:
    """Skip where ONNX Runtime cannot run, saying why."""
    there = OnnxRuntimeEngine().availability("cpu")
    if not there.usable:
        pytest.skip(f"onnxruntime: {there.reason}")


@pytest.fixture(scope="session")
def tiny_generator(needs_onnxruntime: None) -> Iterator[seggd_rt.Generator]:
    """A generator of the tiny bundle by ONNX Runtime in fp32 on one thread."""
    with seggd_rt.load(TINY, engine="onnxruntime", precision="fp32", threads=1) as generator:
        yield generator
