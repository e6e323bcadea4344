"""The kernels' arithmetic equals the NumPy reference, and the kernels compile for every GPU."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from seggd_engines.cuda import kernel_source
from seggd_engines.cuda.session import STATE
from seggd_engines.cuda.stream import KERNELS, compile_kernels
from seggd_rt.diffusion import Blend, Column, advance, guide, noise
from tests.engines.cuda.emulated import compiled, pointer

WORD = st.integers(0, 2**32 - 1)
SEED = st.integers(0, 2**64 - 1)
FINITE = st.floats(-1e3, 1e3, width=32)
IMAGES = hnp.arrays(np.float32, (9, 2, 3), elements=FINITE)
ARCHITECTURES = ("75", "80", "86", "89", "90", "100", "120")


def test_the_state_lies_in_memory_as_python_writes_it() -> None:
    found = (ctypes.c_size_t * (1 + len(STATE)))()
    compiled().layout(found)
    fields = STATE.fields
    assert fields is not None
    assert list(found) == [STATE.itemsize, *(fields[name][1] for name in STATE.names or ())]


@given(hnp.arrays(np.uint32, (5, 4), elements=WORD), SEED)
def test_philox_is_the_same(counters: NDArray[np.uint32], seed: int) -> None:
    words = np.zeros_like(counters)
    compiled().philox(pointer(counters), ctypes.c_uint64(seed), ctypes.c_longlong(len(counters)), pointer(words))
    np.testing.assert_array_equal(words, noise.philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32)))


def test_philox_gives_the_published_words() -> None:
    # Random123's known answers for philox4x32-10.
    words = np.zeros((1, 4), np.uint32)
    for value, expected in (
        (0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**32 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ):
        counters = np.full((1, 4), value, np.uint32)
        key = ctypes.c_uint64(value << 32 | value)
        compiled().philox(pointer(counters), key, ctypes.c_longlong(1), pointer(words))
        assert " ".join(f"{word:08x}" for word in words[0]) == expected


@settings(deadline=None)
@given(SEED, st.integers(0, 999), st.sampled_from(noise.Stream))
def test_noise_is_the_same_number_for_number(seed: int, step: int, stream: noise.Stream) -> None:
    z = np.zeros(4096, np.float32)
    compiled().normal(
        ctypes.c_uint64(seed), ctypes.c_uint(step), ctypes.c_uint(stream), ctypes.c_longlong(1024), pointer(z)
    )
    expected = noise.normal(seed, (4096,), stream=stream, step=step)
    # Logarithms and sines differ in the last of 53 bits, which may fall on an edge of float32 once in 2^29.
    np.testing.assert_array_max_ulp(z, expected, maxulp=1)
    assert (z != expected).mean() < 1e-3


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, (len(Column),), elements=st.floats(-4, 4, width=32)),
    IMAGES,
    st.booleans(),
    st.booleans(),
    st.floats(0, 2, width=32) | st.just(math.inf),
)
def test_the_update_is_the_same_bit_for_bit(
    row: NDArray[np.float32], images: NDArray[np.float32], guided: bool, blended: bool, clip: float
) -> None:
    row[Column.CLIP] = clip
    x, x0, o, ablated, z, real, noised, _, _ = images.copy()
    pixel_map = np.abs(images[7]) / 1000
    found_x, found_x0 = x.copy(), x0.copy()
    compiled().update(
        pointer(row),
        ctypes.c_longlong(x.size),
        pointer(found_x),
        pointer(found_x0),
        pointer(o),
        pointer(ablated) if guided else None,
        pointer(z),
        pointer(real) if blended and row[Column.M] else None,
        pointer(noised),
        pointer(pixel_map),
    )
    if not blended:
        row[Column.M] = 0
    used = guide(o, ablated, row) if guided else o
    advance(x, used, x0, row, z=z, blend=Blend(real, noised, pixel_map))
    np.testing.assert_array_equal(found_x, x)
    np.testing.assert_array_equal(found_x0, x0)


def test_what_is_not_a_number_stays_so() -> None:
    row = np.zeros(len(Column), np.float32)
    row[[Column.KX, Column.CLIP, Column.C0]] = 1
    x, zero = np.array([np.nan, 5], np.float32), np.zeros(2, np.float32)
    x0 = zero.copy()
    size = ctypes.c_longlong(2)
    none = (None, pointer(zero), None, None, None)
    compiled().update(pointer(row), size, pointer(x), pointer(x0), pointer(zero), *none)
    np.testing.assert_array_equal(x, np.array([np.nan, 1], np.float32))


@given(hnp.arrays(np.float32, (64,), elements=st.floats(-2, 2, width=32)))
def test_pixels_are_the_same(x: NDArray[np.float32]) -> None:
    pixels, found = np.zeros_like(x), np.zeros(x.shape, np.uint8)
    compiled().finish(ctypes.c_longlong(x.size), pointer(x), pointer(pixels), pointer(found))
    expected = np.clip(x / np.float32(2) + np.float32(0.5), 0, 1)
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(found, np.rint(expected * np.float32(255)))


def test_the_source_includes_nothing() -> None:
    text = kernel_source()
    assert '#include "' not in text
    assert text.count("struct Sampling {") == 1
    outside = [line for line in text.splitlines() if line.startswith("#include")]
    assert outside == ["#include <cmath>"]  # which NVRTC does not see


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile_for_every_gpu(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install 'seggd-rt[cuda]'")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = compile_kernels(architecture).code
    assert code.startswith(b"\x7fELF")
    for name in (b"seggd_begin", b"seggd_step", b"seggd_finish"):
        assert name in code
    kept = list((tmp_path / "seggd-rt" / "kernels").rglob("*"))
    assert any(path.is_file() and path.read_bytes() == code for path in kept)
    assert compile_kernels(architecture).code == code


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc here")
def test_nvcc_compiles_them_too(tmp_path: Path) -> None:
    command = ["nvcc", "-std=c++17", "-arch=sm_90", "--fmad=false", "-Werror", "all-warnings", "-cubin"]
    subprocess.run([*command, "-o", tmp_path / "sampling.cubin", KERNELS / "sampling.cu"], check=True)
    assert (tmp_path / "sampling.cubin").stat().st_size > 1000
