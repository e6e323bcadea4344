import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seggd_rt.diffusion import Blend, Column, advance, guide
from seggd_rt.diffusion.rows import empty_rows

SHAPE = (2, 1, 4, 5)
coefficients = st.floats(-3, 3, width=32)


def draws(seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(SHAPE).astype(np.float32) for _ in range(6)]


@given(
    values=st.lists(coefficients, min_size=8, max_size=8),
    clip=st.sampled_from([0.5, 1.0, np.inf]),
    seed=st.integers(0, 2**32),
    weight=st.floats(0, 1, width=32),
)
def test_advance_is_the_formula_in_float64(values: list[float], clip: float, seed: int, weight: float) -> None:
    x, o, last, z, real, noise = draws(seed)
    row = empty_rows(1)[0]
    names = (Column.KX, Column.KO, Column.CX, Column.CO, Column.C0, Column.CP, Column.SIGMA, Column.A)
    row[list(names)] = values
    row[Column.CLIP], row[Column.B], row[Column.M] = clip, 0.25, weight
    pixel_map = np.linspace(0, 1, 20, dtype=np.float32).reshape(1, 1, 4, 5)

    kx, ko, cx, co, c0, cp, sigma, a = values
    x0 = np.clip(kx * x.astype(np.float64) + ko * o, -clip, clip)
    expected = cx * x.astype(np.float64) + co * o + c0 * x0 + cp * last + sigma * z
    m = weight * pixel_map
    expected = (1 - m) * expected + m * (a * real.astype(np.float64) + 0.25 * noise)

    advance(x, o, last, row.astype(np.float32), z=z, blend=Blend(real, noise, pixel_map))
    np.testing.assert_allclose(x, expected, atol=2e-4)
    np.testing.assert_allclose(last, x0, atol=1e-4)


def test_x_may_be_a_strided_view() -> None:
    x, o, last, z, *_ = draws(0)
    whole = np.zeros((2, 4, 4, 5), np.float32)
    whole[:, :1] = x
    row = np.linspace(0.1, 0.9, len(Column), dtype=np.float32)
    row[Column.M] = 0
    last_twice = last.copy()
    advance(x, o, last, row, z=z)
    advance(whole[:, :1], o, last_twice, row, z=z)
    assert np.array_equal(whole[:, :1], x)
    assert not whole[:, 1:].any()


def test_missing_draws_are_errors() -> None:
    x, o, last, *_ = draws(0)
    for column in (Column.SIGMA, Column.M):
        row = empty_rows(1)[0].astype(np.float32)
        row[column] = 1
        with pytest.raises(ValueError, match="needed"):
            advance(x, o, last, row)


def test_guidance_extrapolates() -> None:
    full, ablated, *_ = draws(0)
    row = empty_rows(1)[0].astype(np.float32)
    assert np.array_equal(guide(full, ablated, row), full)
    row[Column.G] = 2
    np.testing.assert_allclose(guide(full, ablated, row), 3 * full - 2 * ablated, atol=1e-5)
