"""Python gives the vectors that C++ is tested on too (cpp/tests)."""

import importlib.util
import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.bundles import GOLDEN


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", GOLDEN / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_alike(found: Any, expected: Any, where: str) -> None:
    """Compare JSON values; logarithms and exponentials may differ in a last bit between builds of NumPy."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-12), where
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_alike(one, other, f"{where}[{i}]")
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_alike(found[key], expected[key], f"{where}.{key}")
    else:
        assert found == expected, where


def test_vectors(maker: ModuleType) -> None:
    assert_alike(maker.vectors(), json.loads(maker.VECTORS.read_text()), "")


def test_images(maker: ModuleType) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'seggd-rt[cpu]'")
    expected = load_file(maker.IMAGES)
    found = maker.images()
    assert found.keys() == expected.keys()
    for name, image in expected.items():
        np.testing.assert_allclose(found[name], image, rtol=0, atol=1e-5, err_msg=name)
