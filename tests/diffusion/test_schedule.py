import math

import msgspec
import numpy as np
import pytest

from seggd_rt.diffusion import BetaCurve, NoiseSchedule, Prediction, Spacing
from seggd_rt.errors import OptionError


def test_reference_schedule() -> None:
    schedule = NoiseSchedule()
    alpha_bar = schedule.alpha_bar()
    assert alpha_bar.dtype == np.float64
    assert alpha_bar[0] == pytest.approx(1 - 1e-4, abs=1e-15)
    # The first steps of a run divide by sqrt(alpha_bar), about 1/76 at t = 980.
    assert 1 / math.sqrt(alpha_bar[980]) == pytest.approx(129, abs=2)
    assert schedule.timesteps(50).tolist() == list(range(980, -1, -20))


@pytest.mark.parametrize(
    ("spacing", "steps", "expected"),
    [
        (Spacing.LEADING, 4, [750, 500, 250, 0]),
        (Spacing.TRAILING, 4, [999, 749, 499, 249]),
        (Spacing.LINSPACE, 4, [999, 666, 333, 0]),
        (Spacing.LEADING, 1, [0]),
        (Spacing.TRAILING, 1, [999]),
    ],
)
def test_spacings(spacing: Spacing, steps: int, expected: list[int]) -> None:
    assert NoiseSchedule(spacing=spacing).timesteps(steps).tolist() == expected


def test_leading_offset_stays_inside() -> None:
    times = NoiseSchedule(steps_offset=1).timesteps(1000)
    assert times[0] == 999
    assert times[-1] == 1


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_outside_the_training_steps(steps: int) -> None:
    with pytest.raises(OptionError, match=r"must lie in \[1, 1000\]"):
        NoiseSchedule().timesteps(steps)


@pytest.mark.parametrize("curve", list(BetaCurve))
def test_alpha_bar_falls_from_one(curve: BetaCurve) -> None:
    alpha_bar = NoiseSchedule(beta_curve=curve).alpha_bar()
    assert (np.diff(alpha_bar) < 0).all()
    assert 0 <= alpha_bar[-1] < alpha_bar[0] < 1


def test_zero_terminal_snr_ends_at_zero_and_keeps_its_start() -> None:
    plain = NoiseSchedule(prediction=Prediction.V).alpha_bar()
    zero = NoiseSchedule(prediction=Prediction.V, zero_terminal_snr=True).alpha_bar()
    assert zero[-1] == 0
    assert zero[0] == pytest.approx(plain[0], rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_steps": 0}, "train_steps"),
        ({"beta_start": 0.5, "beta_end": 0.1}, "start <= end"),
        ({"steps_offset": 1000}, "steps_offset"),
        ({"clip_x0": -1.0}, "clip_x0"),
        ({"clip_x0": math.inf}, "clip_x0"),
        ({"zero_terminal_snr": True}, "epsilon"),
        ({"zero_terminal_snr": True, "prediction": Prediction.V, "train_steps": 1}, "at least 2"),
        ({"beta_start": 0.9, "beta_end": 0.99}, "leave no signal"),
    ],
)
def test_bad_fields_are_named(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**change)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(NoiseSchedule()) | change, NoiseSchedule)
