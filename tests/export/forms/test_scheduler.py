"""diffusers' schedulers become noise schedules with the same numbers, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DDIMScheduler, DDPMScheduler

from seggd_export.forms.scheduler import parse_schedule, read_schedule
from seggd_rt.diffusion import NoiseSchedule, Prediction
from seggd_rt.errors import CheckpointError


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_train_timesteps": 400, "beta_start": 0.001, "beta_end": 0.05},
        {"beta_schedule": "scaled_linear", "steps_offset": 1, "prediction_type": "sample"},
        {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "linspace"},
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    ],
    ids=lambda settings: ",".join(settings) or "defaults",
)
def test_numbers_are_those_of_diffusers(scheduler: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = scheduler(**settings)
    theirs.save_pretrained(tmp_path)
    ours = read_schedule(tmp_path / "scheduler_config.json")
    np.testing.assert_allclose(ours.alpha_bar(), theirs.alphas_cumprod.numpy(), rtol=2e-5, atol=1e-6)
    theirs.set_timesteps(20)
    assert ours.timesteps(20).tolist() == theirs.timesteps.tolist()
    assert ours.prediction.value == {"v_prediction": "v"}.get(
        theirs.config.prediction_type, theirs.config.prediction_type
    )


def test_defaults_are_the_references(tmp_path: Path) -> None:
    DDIMScheduler(num_train_timesteps=1000).save_pretrained(tmp_path)
    assert read_schedule(tmp_path / "scheduler_config.json") == NoiseSchedule()


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        ({"clip_sample": False}, "clip_x0", None),
        ({"clip_sample_range": 3.0}, "clip_x0", 3.0),
        ({"set_alpha_to_one": False}, "final_alpha_bar_one", False),
        ({"steps_offset": 1}, "steps_offset", 1),
        ({"prediction_type": "v_prediction"}, "prediction", Prediction.V),
        ({"variance_type": "fixed_large"}, "clip_x0", 1.0),
        ({"_diffusers_version": "0.1"}, "train_steps", 1000),
    ],
)
def test_settings_are_carried(config: dict[str, Any], field: str, value: object) -> None:
    assert getattr(parse_schedule({"_class_name": "DDIMScheduler", **config}, "here"), field) == value


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "PNDMScheduler"}, "here is of a PNDMScheduler; supported: DDIMScheduler, DDPMScheduler"),
        ({"_class_name": None}, "here is of a None"),
        ({"thresholding": True}, "thresholding True, which is not supported"),
        ({"trained_betas": [0.1]}, r"trained_betas \[0.1\], which is not supported"),
        ({"variance_type": "learned_range"}, "variance_type 'learned_range', which is not supported"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'; supported: linear, scaled_linear, squaredcos_cap_v2"),
        ({"prediction_type": "flow"}, "prediction_type 'flow'"),
        ({"timestep_spacing": "karras"}, "timestep_spacing 'karras'"),
        ({"use_karras_sigmas": True}, "'use_karras_sigmas', which this version does not know"),
        ({"num_train_timesteps": 0}, "train_steps is 0"),
        ({"num_train_timesteps": "many"}, "here: "),
        ({"rescale_betas_zero_snr": True}, "zero_terminal_snr needs v or sample prediction"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse_schedule({"_class_name": "DDIMScheduler", **config}, "here")
