"""Means over patients and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seggd_training.evaluation.bootstrap import Estimate, estimate_each, estimate_images


def test_bootstrap_interval_is_that_of_normal_theory_and_repeats() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, (60, 2))
    (first, _), mean = estimate_each(values, seed=3)
    assert first is not None
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
    assert mean.mean == pytest.approx(0.4)


def test_each_patient_counts_once_however_many_images_it_has() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0, np.nan])
    estimate = estimate_images(values, np.array([4, 4, 4, 2, 3]), seed=0)
    assert estimate is not None and (estimate.mean, estimate.count) == (0.5, 2)
    assert (estimate.low, estimate.high) == (0, 1)
    assert estimate_images(np.array([np.nan]), np.array([1]), seed=0) is None


def test_an_estimate_reads_as_a_figure_with_its_interval() -> None:
    assert str(Estimate(mean=0.8391, low=0.8104, high=0.861, count=10)) == "0.839 [0.810, 0.861]"
    assert str(Estimate(mean=12.24, low=9.8, high=14.2, count=10)) == "12.2 [9.8, 14.2]"
