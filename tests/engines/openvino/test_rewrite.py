"""The rewrites for OpenVINO keep a network's value, and find what they are meant for and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_engines.openvino.rewrite import rewrite, upsampling_kernel

ov = pytest.importorskip("openvino", reason="openvino is not installed")
ops = pytest.importorskip("openvino.opset13", reason="openvino is not installed")

RNG = np.random.default_rng(0)
X = RNG.normal(3, 1, (2, 6, 4, 8)).astype(np.float32)
WEIGHT = RNG.normal(size=(5, 6, 3, 3)).astype(np.float32)


def integers(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))


def group_norm(x: Any, *, groups: int = 3, axis: int = 2, eps_mode: str = "inside_sqrt") -> Any:
    """Group normalisation as our graphs have it."""
    grouped = ops.reshape(x, integers(-1, groups, 6 // groups * 32), special_zero=False)
    norm = ops.mvn(grouped, integers(axis), normalize_variance=True, eps=1e-5, eps_mode=eps_mode)
    return ops.reshape(norm, integers(-1, 6, 4, 8), special_zero=False)


def normalize(x: Any, *shape: int) -> Any:
    """Normalize rows of some shape, in which 0 stands for a size of x."""
    grouped = ops.reshape(x, integers(*shape), special_zero=True)
    norm = ops.mvn(grouped, integers(2), normalize_variance=True, eps=1e-5, eps_mode="inside_sqrt")
    return ops.reshape(norm, integers(-1, 6, 4, 8), special_zero=False)


def of_unknown_rank(x: Any) -> Any:
    return ops.reshape(x, ops.reshape(ops.non_zero(ops.shape_of(x)), integers(-1), False), special_zero=False)


def upsample_and_convolve(
    x: Any, *, mode: str = "nearest", scale: float = 2, stride: int = 1, dtype: Any = np.float32
) -> Any:
    upsampled = ops.interpolate(
        x if dtype is np.float32 else ops.convert(x, np.dtype(dtype).name.replace("float", "f")),
        ops.constant(np.array([1, 1, scale, scale], np.float32)),
        mode,
        shape_calculation_mode="scales",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    one = [1, 1]
    return ops.convolution(upsampled, ops.constant(WEIGHT.astype(dtype)), [stride, stride], one, one, one)


def build(network: Callable[[Any], Any]) -> Any:
    x = ops.parameter([-1, *X.shape[1:]], np.float32, name="x")
    return ov.Model([network(x)], [x], "network")


def evaluate(model: Any) -> NDArray[np.float32]:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    output: NDArray[np.float32] = compiled(X)[0]
    return output


def operations(model: Any) -> set[str]:
    return {node.get_type_name() for node in model.get_ordered_ops()}


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("axis", [2, -1])
def test_group_normalisation(groups: int, axis: int) -> None:
    model = build(lambda x: group_norm(x, groups=groups, axis=axis))
    expected = evaluate(model)
    assert rewrite(model) == (1, 0)
    assert "MVN" not in operations(model)
    np.testing.assert_allclose(evaluate(model), expected, atol=2e-6)
    flat = expected.reshape(2, groups, -1)
    np.testing.assert_allclose(flat.mean(2), 0, atol=1e-5)
    np.testing.assert_allclose(flat.std(2), 1, atol=1e-4)


def test_a_grouping_that_copies_sizes() -> None:
    model = build(lambda x: normalize(x, 0, 3, -1))
    expected = evaluate(model)
    assert rewrite(model) == (1, 0)
    np.testing.assert_allclose(evaluate(model), expected, atol=2e-6)


def test_upsampling() -> None:
    model = build(upsample_and_convolve)
    expected = evaluate(model)
    assert expected.shape == (2, 5, 8, 16)
    assert rewrite(model) == (0, 1)
    assert not {"Interpolate", "Convolution"} & operations(model)
    np.testing.assert_allclose(evaluate(model), expected, atol=2e-5)


def test_the_kernel_sums_the_taps_of_one_source_pixel() -> None:
    weight = np.ones((1, 1, 3, 3), np.float32)
    edge = np.array([1, 2, 2, 1])
    # An upsampled row has each pixel twice: of three taps one or two fall on a source pixel.
    np.testing.assert_array_equal(upsampling_kernel(weight)[0, 0], np.outer(edge, edge))
    one_tap = np.zeros((2, 3, 3, 3), np.float32)
    one_tap[1, 2, 0, 0] = 1
    kernel = upsampling_kernel(one_tap)
    assert kernel.shape == (3, 2, 4, 4)
    assert kernel[2, 1].sum() == kernel.sum() == 4


@pytest.mark.parametrize(
    "network",
    [
        lambda x: group_norm(x, axis=1),
        lambda x: group_norm(x, eps_mode="outside_sqrt"),
        lambda x: upsample_and_convolve(x, mode="linear_onnx"),
        lambda x: upsample_and_convolve(x, scale=3),
        lambda x: upsample_and_convolve(x, stride=2),
        lambda x: upsample_and_convolve(x, dtype=np.float16),
        lambda x: normalize(x, -1, 4, 48),
        lambda x: normalize(x, -1, 64, 3),
        lambda x: normalize(of_unknown_rank(x), -1, 3, 64),
    ],
    ids=[
        *("over the groups", "eps outside", "linear", "by three", "strided", "in half precision"),
        *("groups of parts of channels", "groups of pixels", "of unknown rank"),
    ],
)
def test_what_is_something_else_stays(network: Callable[[Any], Any]) -> None:
    model = build(network)
    before = operations(model)
    assert rewrite(model) == (0, 0)
    assert operations(model) == before
