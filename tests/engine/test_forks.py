"""Engines in forked processes: they work, or they refuse in one line; none hangs. Each test forks a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from seggd_rt.engine import registry
from tests.bundles import TINY

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

_PARENT = """
import gc, os, signal, sys
import numpy as np
import seggd_rt
from seggd_rt.errors import EngineError

bundle, engine, threads, wanted, parent, child = sys.argv[1:]

def load(name=engine):
    return seggd_rt.load(bundle, engine=name, precision="fp32", threads=int(threads))

def draw(generator, count=1):
    return generator(np.stack([generator.bundle.golden.label_map] * count), steps=2)

exec(parent)
for _ in range(int(wanted)):
    process = os.fork()
    if not process:
        signal.alarm(20)  # ends a child that hangs
        try:
            exec(child)
        except EngineError as error:
            print(f"EngineError: {error}")
        sys.exit()
    status = os.waitpid(process, 0)[1]
    print(f"status {status}")
"""


def fork(engine: str, parent: str, child: str, *, threads: int = 1, times: int = 1) -> list[str]:
    """Run `parent` in a fresh process, then `child` in forks of it; return what was printed."""
    there = registry.find_engine(engine).availability("cpu")
    if not there.usable:
        pytest.skip(f"{engine}: {there.reason}")
    ran = subprocess.run(
        [sys.executable, "-u", "-c", _PARENT, str(TINY), engine, str(threads), str(times), parent, child],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    return ran.stdout.splitlines()


@pytest.mark.parametrize("child", ["draw(generator)", "draw(generator, 2)", "load()", "load('auto')"])
def test_openvino_refuses_after_it_was_used(child: str) -> None:
    said, status = fork("openvino", "generator = load(); draw(generator)", child)
    assert said.startswith("EngineError: OpenVINO was used before this process was forked")
    assert "multiprocessing_context='spawn'" in said
    assert status == "status 0"


def test_openvino_works_where_the_parent_has_not_used_it() -> None:
    asks = "from seggd_rt.engine import registry; registry.find_engine(engine).availability('cpu')"
    assert fork("openvino", asks, "draw(load())") == ["status 0"]


def test_other_engines_work_after_openvino_was_used() -> None:
    assert fork("openvino", "draw(load())", "draw(load('onnxruntime'))") == ["status 0"]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_onnxruntime_refuses_a_network_with_threads_of_the_parent() -> None:
    said, status = fork("onnxruntime", "generator = load()", "draw(generator)", threads=2)
    assert said.startswith("EngineError: ONNX Runtime opened this graph before this process was forked")
    assert "load the bundle in each process" in said
    assert status == "status 0"


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_onnxruntime_can_be_loaded_again() -> None:
    assert fork("onnxruntime", "draw(load())", "draw(load())", threads=2) == ["status 0"]


def test_onnxruntime_with_one_thread_is_shared() -> None:
    assert fork("onnxruntime", "generator = load(); draw(generator)", "draw(generator, 2)") == ["status 0"]


@pytest.mark.parametrize(("engine", "threads"), [("onnxruntime", 2), ("openvino", 1)])
@pytest.mark.parametrize("child", ["pass", "generator.close()", "del generator; gc.collect()"])
def test_a_generator_of_the_parent_ends_without_hanging(engine: str, threads: int, child: str) -> None:
    if threads > (os.cpu_count() or 1):
        pytest.skip("needs two cores")
    said = fork(engine, "generator = load(); draw(generator)", child, threads=threads, times=4)
    assert said == ["status 0"] * 4
