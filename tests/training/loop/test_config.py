"""Options are checked when made, and a resumed run must repeat those that count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seggd_rt.errors import OptionError
from seggd_training.loop import TrainOptions
from seggd_training.loop.config import check_same_run

Make = Callable[..., TrainOptions]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0), ("batch_size", 0), ("accumulate", 0), ("warmup_steps", -1), ("seed", -1),
        ("checkpoint_every", 0), ("sample_every", -1), ("validate_every", -1), ("stop_after", 0), ("threads", 0),
        ("lr", 0.0), ("lr", float("nan")), ("clip_norm", -1.0), ("min_snr", 0.0), ("min_snr", float("inf")),
        ("ema_decay", 1.0), ("weight_decay", -0.1), ("empty_subset", 1.5),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(options: Make, field: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"{field.replace('_', '-')} is {value}"):
        options(**{field: value})


def test_rate_warms_up_and_falls_to_zero(options: Make) -> None:
    run = options(lr=1.0, warmup_steps=4, steps=104)
    assert [run.learning_rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    rates = [run.learning_rate(step) for step in range(4, 104)]
    assert rates[0] == 1.0
    assert rates[50] == pytest.approx(0.5)
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 1e-3


@pytest.mark.parametrize(
    "change",
    [{"lr": 2e-3}, {"seed": 1}, {"steps": 9}, {"image_size": (8, 8)}, {"intensity_range": (0, 9)}, {"ablation": False}],
)
def test_a_change_that_counts_is_named(options: Make, change: dict[str, Any]) -> None:
    flag = next(iter(change)).replace("_", "-")
    with pytest.raises(OptionError, match=f"--{flag}"):
        check_same_run(options().binding(), options(**change))


def test_a_change_that_does_not_count_is_allowed(options: Make) -> None:
    other = options(threads=1, stop_after=5, resume=True, checkpoint_every=7, validate_every=3, licence="MIT")
    check_same_run(options().binding(), other)


def test_an_option_newer_than_the_state_has_its_default(options: Make) -> None:
    saved = options().binding()
    del saved["weight_decay"]
    check_same_run(saved, options())
    with pytest.raises(OptionError, match="--weight-decay"):
        check_same_run(saved, options(weight_decay=0.5))
