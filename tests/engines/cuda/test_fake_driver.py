"""NVIDIA's own cuda.core on a machine without a GPU, above a driver that emulates one.

So every call that a session makes of it has been made, with arguments that it takes. The tests are in
`on_fake_driver.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seggd_engines.cuda.stream import KERNELS
from tests.paths import REPOSITORY

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install 'seggd-rt[cuda]'")

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in takes the place of libcuda.so.1")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose driver is the fake one."""
    folder = tmp_path_factory.mktemp("driver")
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fPIC", "-shared"]
    source = HERE / "fake_driver.cpp"
    try:
        done = subprocess.run(
            [*command, "-I", KERNELS, "-o", folder / "libcuda.so.1", source], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("there is no g++ to compile the driver with")
    assert done.returncode == 0, done.stderr
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "XDG_CACHE_HOME": str(folder)}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_cuda_core_above_it(environment: dict[str, str]) -> None:
    tests = str(HERE / "on_fake_driver.py")
    done = run(environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_the_doctor_sees_the_gpus(environment: dict[str, str]) -> None:
    done = run(environment, "-m", "seggd_cli", "doctor")
    assert done.returncode == 0, done.stderr
    assert "Emulated GPU" in done.stdout


def test_what_compute_sanitizer_watches_starts_by_itself(environment: dict[str, str]) -> None:
    done = run(environment, "-m", "benchmarks.gpu.checks.sanitizer_driver")
    assert "144 images equal the host's" in done.stdout, done.stderr


def test_other_gpus_are_left_alone(environment: dict[str, str]) -> None:
    work = (
        "from seggd_engines.cuda.stream import CudaStream; CudaStream(1).close(); CudaStream(1).close(); print('done')"
    )
    done = run({**environment, "FAKE_DRIVER_ONLY": "1"}, "-c", work)
    assert done.stdout == "done\n", done.stderr


def test_a_driver_without_a_gpu_is_told(environment: dict[str, str]) -> None:
    ask = "from seggd_rt.gpu.devices import why_no_gpu; print(why_no_gpu())"
    done = run({**environment, "FAKE_DRIVER_NO_DEVICE": "1"}, "-c", ask)
    assert "finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES" in done.stdout
