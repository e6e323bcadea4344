"""The Frechet distance against what is known of normal distributions, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from seggd_training.evaluation.measures.frechet import FeatureSet, frechet_distance, measure_distance

RNG = np.random.default_rng(0)


def test_the_distance_of_normal_distributions_is_known() -> None:
    some = RNG.standard_normal((20_000, 3))
    assert frechet_distance(some, some) == pytest.approx(0, abs=1e-9)
    # |mean difference|^2 + trace(1 + 4 - 2 * 2) a feature
    other = 2 * RNG.standard_normal((20_000, 3)) + np.array([3, 0, 0])
    assert frechet_distance(some, other) == pytest.approx(9 + 3, rel=0.05)


def test_the_trace_is_that_of_the_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="needs the extra `eval`")
    some, other = RNG.standard_normal((50, 5)) @ RNG.standard_normal((5, 5)), RNG.standard_normal((60, 5))
    covariances = [np.cov(x, rowvar=False) for x in (some, other)]
    means = some.mean(axis=0) - other.mean(axis=0)
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    expected = means @ means + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert frechet_distance(some, other) == pytest.approx(expected)


def test_fewer_images_than_features_do_no_harm() -> None:
    some = RNG.standard_normal((8, 200))
    assert frechet_distance(some, some) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(some, some + 1) == pytest.approx(200)


def make_set(shift: float, seed: int, patients: int = 12) -> FeatureSet:
    rng = np.random.default_rng(seed)
    of_patient = rng.standard_normal((patients, 1, 4)) * 0.5
    values = of_patient + rng.standard_normal((patients, 10, 4)) + shift
    return FeatureSet(values.reshape(-1, 4), np.repeat(np.arange(patients), 10))


def test_an_interval_holds_the_distance_and_grows_with_fewer_patients() -> None:
    many, few = (measure_distance(make_set(1, 1, p), make_set(0, 2, p)).estimate() for p in (40, 5))
    assert many.low < many.mean < many.high and (many.count, few.count) == (40, 5)
    assert few.high - few.low > many.high - many.low
    again = measure_distance(make_set(1, 1, 40), make_set(0, 2, 40)).estimate()
    assert again == many


def test_other_patients_are_drawn_on_their_own() -> None:
    some, other = make_set(1, 1), make_set(0, 2)
    apart = FeatureSet(some.values, some.patients + 100)
    first, second = measure_distance(some, other), measure_distance(apart, other)
    assert first.value == second.value and not np.array_equal(first.drawn, second.drawn)


def test_what_two_distances_share_drops_out_of_their_difference() -> None:
    real, drawn = make_set(0, 2), make_set(1, 1)
    alike = FeatureSet(drawn.values + 0.01, drawn.patients)
    first, second = (measure_distance(some, real) for some in (alike, drawn))
    change = first.less(second)
    assert change.mean == pytest.approx(first.value - second.value)
    assert change.high - change.low < 0.2 * (first.estimate().high - first.estimate().low)
    same = first.less(first)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
