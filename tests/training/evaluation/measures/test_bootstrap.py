"""Means over patients and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seggd_training.evaluation.measures import Estimate, estimate_images
from seggd_training.evaluation.measures.bootstrap import estimate_change, estimate_each, resample


def test_bootstrap_interval_is_that_of_normal_theory_and_repeats() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, (60, 2))
    (first, _), mean = estimate_each(values, seed=3)
    assert first is not None and mean is not None
    error = values[:, 0].std(ddof=1) / math.sqrt(60)
    assert first.mean == pytest.approx(values[:, 0].mean())
    assert first.low == pytest.approx(first.mean - 1.96 * error, abs=0.15 * error)
    assert first.high == pytest.approx(first.mean + 1.96 * error, abs=0.15 * error)
    assert mean.mean == pytest.approx(values.mean())
    assert mean.high - mean.low < first.high - first.low
    assert estimate_each(values, seed=3)[1] == mean
    assert estimate_each(values, seed=4)[1] != mean


def test_missing_values_are_left_out_of_means_and_counts() -> None:
    nan = np.nan
    estimates, mean = estimate_each(np.array([[0.5, nan, nan], [0.7, 0.2, nan]]), seed=0)
    assert estimates[0] is not None and estimates[0].mean == pytest.approx(0.6) and estimates[0].count == 2
    assert estimates[1] is not None and estimates[1].low == estimates[1].high == pytest.approx(0.2)
    assert estimates[1].count == 1
    assert estimates[2] is None
    assert mean is not None and mean.mean == pytest.approx(0.4)
    assert estimate_each(np.full((2, 1), nan), seed=0) == ((None,), None)


def test_each_patient_counts_once_however_many_images_it_has() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0, np.nan])
    estimate = estimate_images(values, np.array([4, 4, 4, 2, 3]), seed=0)
    assert estimate is not None and (estimate.mean, estimate.count) == (0.5, 2)
    assert (estimate.low, estimate.high) == (0, 1)
    assert estimate_images(np.array([np.nan]), np.array([1]), seed=0) is None


def test_an_estimate_reads_as_a_figure_with_its_interval() -> None:
    assert str(Estimate(mean=0.8391, low=0.8104, high=0.861, count=10)) == "0.839 [0.810, 0.861]"
    assert str(Estimate(mean=0.8391, low=0.8391, high=0.8391, count=1)) == "0.839", "one patient has no interval"
    assert Estimate(mean=0.01, low=-0.02, high=0.04, count=3).text(2, "+") == "+0.01 [-0.02, +0.04]"
    assert str(Estimate(mean=12.24, low=9.8, high=14.2, count=10)) == "12.2 [9.8, 14.2]"


def test_blocks_of_draws_are_those_of_one() -> None:
    whole = np.random.default_rng(5).multinomial(3000, np.full(3000, 1 / 3000), size=4000)
    blocks = list(resample(3000, seed=5, draws=4000))
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_the_mean_lies_within_its_interval() -> None:
    # Ten classes that one patient each has: draws without them leave them out.
    values = np.full((20, 11), np.nan)
    values[:, 0] = 0.3
    values[range(10), range(1, 11)] = np.linspace(0, 1, 10)
    mean = estimate_each(values, seed=0)[1]
    assert mean is not None and mean.low <= mean.mean <= mean.high
    alone = estimate_each(np.array([[0.1 + 0.2]]), seed=0)[1]
    assert alone is not None and alone.low <= alone.mean <= alone.high


def test_a_change_counts_what_is_made_up_where_there_is_nothing() -> None:
    nan = np.nan
    base, new = np.array([[0.8], [0.8], [nan], [nan]]), np.array([[0.8], [0.8], [0.0], [0.0]])
    change = estimate_change(new, base, seed=0)
    assert change is not None and change.mean == pytest.approx(-0.4)
    assert change.low < -0.4 < change.high <= 0
    assert estimate_change(new, np.full((4, 1), nan), seed=0) is None


def test_a_change_of_the_same_patients_is_narrower_than_its_parts() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(0.6, 0.2, (12, 3))
    change = estimate_change(base + rng.normal(0.05, 0.01, base.shape), base, seed=0)
    mean = estimate_each(base, seed=0)[1]
    assert change is not None and mean is not None
    assert change.mean == pytest.approx(0.05, abs=0.01)
    assert change.high - change.low < 0.2 * (mean.high - mean.low)
