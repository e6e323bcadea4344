"""`benchmarks.engine_differences` compares every pair, and the limits of `verify` hold for what it measured."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.engine_differences import Report, main
from seggd_rt.diffusion import Precision
from seggd_rt.diffusion.precision import PIXEL_LIMIT, RMS_LIMIT
from tests.bundles import TINY
from tests.paths import REPOSITORY

SHIPPED = REPOSITORY / "benchmarks" / "results" / "engine-differences-cardiac64.json"


def test_every_pair_is_compared(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    (tmp_path / "masks").mkdir()
    Image.fromarray(golden_mask).save(tmp_path / "masks" / "a.png")
    arguments = [str(TINY), str(tmp_path / "masks"), str(tmp_path / "out.json"), "--seeds", "1", "--threads", "1"]
    assert main(arguments) == 0
    found = msgspec.json.decode((tmp_path / "out.json").read_bytes(), type=Report)
    count = len(found.variants)
    assert len(found.pairs) == count * (count - 1) // 2
    assert found.images == 1
    assert max(pair.largest for pair in found.pairs) == max(found.fp32, found.lower)
    assert max(pair.largest_rms for pair in found.pairs) == max(found.fp32_rms, found.lower_rms)
    assert all(pair.largest_rms <= pair.largest for pair in found.pairs)
    assert main([str(tmp_path), *arguments[1:]]) == 2


def test_the_limits_are_beyond_what_was_measured() -> None:
    measured = msgspec.json.decode(SHIPPED.read_bytes(), type=Report)
    assert {str(each.engine.precision) for each in measured.variants} == {"fp32", "bf16"}
    assert 0 < measured.fp32 < PIXEL_LIMIT[Precision.FP32]
    assert PIXEL_LIMIT[Precision.FP32] < measured.lower < PIXEL_LIMIT[Precision.BF16]
    assert 0 < measured.fp32_rms < RMS_LIMIT[Precision.FP32]
    assert RMS_LIMIT[Precision.FP32] < measured.lower_rms < RMS_LIMIT[Precision.BF16]
