"""The configuration of a diffusers scheduler, read as a noise schedule; what has no counterpart is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from seggd_export.forms.unet_folder import read_json
from seggd_rt.diffusion import BetaCurve, NoiseSchedule, Prediction, Spacing
from seggd_rt.errors import CheckpointError

_T = TypeVar("_T")

_CLASSES = ("DDIMScheduler", "DDPMScheduler")
_BETAS = {
    "linear": BetaCurve.LINEAR,
    "scaled_linear": BetaCurve.SCALED_LINEAR,
    "squaredcos_cap_v2": BetaCurve.COSINE,
}
_PREDICTIONS = {"epsilon": Prediction.EPSILON, "sample": Prediction.SAMPLE, "v_prediction": Prediction.V}
_SPACINGS = {str(spacing): spacing for spacing in Spacing}
_DEFAULTS: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "rescale_betas_zero_snr": False,
    "set_alpha_to_one": True,
}
"""diffusers' defaults, for keys that a file of an older version lacks."""
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "thresholding": (False, None),
    "trained_betas": (None,),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", None),
}
"""Keys with the values that change nothing here: a fixed variance is the sampler's choice, not the network's."""
_IDLE = {"dynamic_thresholding_ratio", "sample_max_value"}
"""Keys that only mean something with thresholding."""


def read_schedule(path: Path) -> NoiseSchedule:
    """Read `scheduler_config.json` of a DDIM or DDPM scheduler.

    Raises
    ------
    CheckpointError
        The file is missing or damaged, or states what seggd-rt cannot do.
    """
    return parse_schedule(read_json(path), str(path))


def parse_schedule(config: Mapping[str, Any], where: str) -> NoiseSchedule:
    """Return the noise schedule that a scheduler's configuration states; `where` names it in errors.

    Raises
    ------
    CheckpointError
        It states what seggd-rt cannot do.
    """
    name = config.get("_class_name")
    if name not in _CLASSES:
        raise CheckpointError(f"{where} is of a {name}; supported: {', '.join(_CLASSES)}")
    for key, value in config.items():
        if key in _REFUSED and value not in _REFUSED[key]:
            raise CheckpointError(f"{where} has {key} {value!r}, which is not supported")
        if not key.startswith("_") and key not in {*_DEFAULTS, *_REFUSED, *_IDLE}:
            raise CheckpointError(f"{where} has '{key}', which this version does not know")
    stated = {key: config.get(key, default) for key, default in _DEFAULTS.items()}
    try:
        return NoiseSchedule(
            train_steps=stated["num_train_timesteps"],
            beta_curve=_one_of(_BETAS, stated, "beta_schedule", where),
            beta_start=stated["beta_start"],
            beta_end=stated["beta_end"],
            prediction=_one_of(_PREDICTIONS, stated, "prediction_type", where),
            spacing=_one_of(_SPACINGS, stated, "timestep_spacing", where),
            steps_offset=stated["steps_offset"],
            clip_x0=stated["clip_sample_range"] if stated["clip_sample"] else None,
            zero_terminal_snr=stated["rescale_betas_zero_snr"],
            final_alpha_bar_one=stated["set_alpha_to_one"],
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{where}: {error}") from error


def _one_of(table: Mapping[str, _T], stated: Mapping[str, Any], key: str, where: str) -> _T:
    if stated[key] not in table:
        raise CheckpointError(f"{where} has {key} {stated[key]!r}; supported: {', '.join(table)}")
    return table[stated[key]]
