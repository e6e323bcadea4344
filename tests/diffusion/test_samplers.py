"""Samplers against a network that knows the answer, and against diffusers' schedulers."""

import sys
from typing import Any

import numpy as np
import pytest

from seggd_rt.diffusion import (
    BetaCurve,
    Column,
    NoiseSchedule,
    Prediction,
    RowTable,
    Sampler,
    Spacing,
    advance,
    sampler_rows,
)
from seggd_rt.errors import OptionError

SIZE = (2, 1, 6, 7)


def analytic_output(schedule: NoiseSchedule, x: np.ndarray, t: int, mean: float = 0.3, std: float = 0.2) -> np.ndarray:
    """Return the exact prediction for pixels drawn from N(mean, std^2), in float64."""
    a = schedule.alpha_bar()[t]
    gain = std**2 * np.sqrt(a) / (a * std**2 + 1 - a)
    x0 = mean + gain * (x - np.sqrt(a) * mean)
    eps = (x - np.sqrt(a) * x0) / np.sqrt(1 - a)
    return {
        Prediction.EPSILON: eps,
        Prediction.SAMPLE: x0,
        Prediction.V: np.sqrt(a) * eps - np.sqrt(1 - a) * x0,
    }[schedule.prediction]


def sample(schedule: NoiseSchedule, table: RowTable, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    x, x0 = x.astype(np.float32), np.zeros_like(x, np.float32)
    for t, row, draw in zip(table.timesteps, table.rows, z, strict=False):
        advance(x, analytic_output(schedule, x, int(t)).astype(np.float32), x0, row, z=draw)
    return x


@pytest.mark.parametrize("prediction", list(Prediction))
def test_ddim_recovers_the_distribution(prediction: Prediction) -> None:
    schedule = NoiseSchedule(prediction=prediction, clip_x0=None)
    noise = np.random.default_rng(0).standard_normal((64, 1, 16, 16))
    images = sample(schedule, sampler_rows(Sampler.DDIM, schedule, 250), noise, np.zeros((250, 1), np.float32))
    assert images.mean() == pytest.approx(0.3, abs=0.01)
    assert images.std() == pytest.approx(0.2, abs=0.01)


def test_predictions_agree() -> None:
    """The same network told in three ways draws the same image."""
    noise = np.random.default_rng(1).standard_normal(SIZE)
    z = np.random.default_rng(2).standard_normal((20, *SIZE)).astype(np.float32)
    images = []
    for prediction in Prediction:
        schedule = NoiseSchedule(prediction=prediction)
        images.append(sample(schedule, sampler_rows(Sampler.DDIM, schedule, 20, eta=0.5), noise, z))
    np.testing.assert_allclose(images[1], images[0], atol=2e-5)
    np.testing.assert_allclose(images[2], images[0], atol=2e-5)


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("spacing", list(Spacing))
@pytest.mark.parametrize(("steps", "eta", "clip"), [(50, 0.0, 1.0), (20, 0.0, None), (17, 1.0, 1.0), (1, 0.0, 1.0)])
def test_ddim_equals_diffusers(
    prediction: Prediction, spacing: Spacing, steps: int, eta: float, clip: float | None
) -> None:
    torch = pytest.importorskip("torch", reason="diffusers' scheduler needs PyTorch")
    diffusers = pytest.importorskip("diffusers")
    schedule = NoiseSchedule(prediction=prediction, spacing=spacing, clip_x0=clip)
    theirs = diffusers.DDIMScheduler(
        prediction_type={"epsilon": "epsilon", "sample": "sample", "v": "v_prediction"}[prediction],
        timestep_spacing=spacing.value,
        clip_sample=clip is not None,
    )
    theirs.set_timesteps(steps)
    table = sampler_rows(Sampler.DDIM, schedule, steps, eta=eta)
    assert theirs.timesteps.tolist() == table.timesteps.tolist()

    start = np.random.default_rng(3).standard_normal(SIZE)
    z = np.random.default_rng(4).standard_normal((steps, *SIZE)).astype(np.float32)
    x = torch.from_numpy(start)
    for t, draw in zip(theirs.timesteps.tolist(), z, strict=True):
        o = torch.from_numpy(analytic_output(schedule, x.numpy(), t))
        noise = torch.from_numpy(draw.astype(np.float64)) if eta else None
        x = theirs.step(o, t, x, eta=eta, variance_noise=noise).prev_sample
    np.testing.assert_allclose(sample(schedule, table, start, z), x.numpy(), atol=1e-4)


@pytest.mark.parametrize("curve", list(BetaCurve))
@pytest.mark.parametrize("zero_snr", [False, True])
def test_schedule_equals_diffusers(curve: BetaCurve, zero_snr: bool) -> None:
    pytest.importorskip("torch", reason="diffusers' scheduler needs PyTorch")
    diffusers = pytest.importorskip("diffusers")
    names = {"linear": "linear", "scaled-linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
    theirs = diffusers.DDIMScheduler(beta_schedule=names[curve], rescale_betas_zero_snr=zero_snr)
    ours = NoiseSchedule(prediction=Prediction.V, beta_curve=curve, zero_terminal_snr=zero_snr)
    np.testing.assert_allclose(ours.alpha_bar(), theirs.alphas_cumprod.numpy(), rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_outside_its_range(eta: float) -> None:
    with pytest.raises(OptionError, match="eta"):
        sampler_rows(Sampler.DDIM, NoiseSchedule(), 10, eta=eta)


def run_both(theirs: Any, schedule: NoiseSchedule, table: RowTable) -> tuple[np.ndarray, np.ndarray]:
    """Run a scheduler of diffusers and our rows from the same noise, with the same draws."""
    torch = pytest.importorskip("torch")
    start = np.random.default_rng(3).standard_normal(SIZE)
    z = np.random.default_rng(4).standard_normal((len(table), *SIZE)).astype(np.float32)
    draws = iter(z)
    module = sys.modules[type(theirs).__module__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "randn_tensor", lambda *_, **__: torch.from_numpy(next(draws).astype(np.float64)))
        x = torch.from_numpy(start)
        for t in theirs.timesteps.tolist():
            x = theirs.step(torch.from_numpy(analytic_output(schedule, x.numpy(), t)), t, x).prev_sample
    return sample(schedule, table, start, z), x.numpy()


NAMES = {Prediction.EPSILON: "epsilon", Prediction.SAMPLE: "sample", Prediction.V: "v_prediction"}


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("spacing", list(Spacing))
@pytest.mark.parametrize(("steps", "clip"), [(1000, 1.0), (50, 1.0), (17, None), (1, 1.0)])
def test_ddpm_equals_diffusers(prediction: Prediction, spacing: Spacing, steps: int, clip: float | None) -> None:
    diffusers = pytest.importorskip("diffusers", reason="it is what this is compared with")
    schedule = NoiseSchedule(prediction=prediction, spacing=spacing, clip_x0=clip)
    theirs = diffusers.DDPMScheduler(
        prediction_type=NAMES[prediction], timestep_spacing=spacing.value, clip_sample=clip is not None
    )
    theirs.set_timesteps(steps)
    table = sampler_rows(Sampler.DDPM, schedule, steps)
    assert theirs.timesteps.tolist() == table.timesteps.tolist()
    found, expected = run_both(theirs, schedule, table)
    np.testing.assert_allclose(found, expected, atol=1e-4)


# What diffusers does with NumPy's newer __array__.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("spacing", list(Spacing))
@pytest.mark.parametrize("steps", [1, 2, 15, 20, 50])
@pytest.mark.parametrize("sampler", [Sampler.DPM_SOLVER, Sampler.DPM_SOLVER_SDE])
def test_dpm_solver_equals_diffusers(prediction: Prediction, spacing: Spacing, steps: int, sampler: Sampler) -> None:
    diffusers = pytest.importorskip("diffusers", reason="it is what this is compared with")
    schedule = NoiseSchedule(prediction=prediction, spacing=spacing, clip_x0=None)
    theirs = diffusers.DPMSolverMultistepScheduler(
        prediction_type=NAMES[prediction],
        timestep_spacing=spacing.value,
        algorithm_type="sde-dpmsolver++" if sampler is Sampler.DPM_SOLVER_SDE else "dpmsolver++",
        beta_start=1e-4,
        beta_end=0.02,
    )
    theirs.set_timesteps(steps)
    table = sampler_rows(sampler, schedule, steps)
    assert theirs.timesteps.tolist() == table.timesteps.tolist()
    found, expected = run_both(theirs, schedule, table)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("sampler", list(Sampler))
@pytest.mark.parametrize("prediction", [Prediction.V, Prediction.SAMPLE])
def test_a_schedule_that_ends_in_pure_noise_is_sampled(sampler: Sampler, prediction: Prediction) -> None:
    schedule = NoiseSchedule(
        prediction=prediction, zero_terminal_snr=True, spacing=Spacing.TRAILING, clip_x0=None, beta_end=0.02
    )
    table = sampler_rows(sampler, schedule, 100)
    assert table.timesteps[0] == 999
    assert np.isfinite(np.delete(table.rows, Column.CLIP, axis=1)).all()
    noise = np.random.default_rng(0).standard_normal((64, 1, 16, 16))
    z = np.random.default_rng(1).standard_normal((100, *noise.shape)).astype(np.float32)
    images = sample(schedule, table, noise, z)
    assert images.mean() == pytest.approx(0.3, abs=0.01)
    # Respaced ancestral sampling with DDPM's smaller variance narrows the distribution; diffusers' does as much.
    assert images.std() == pytest.approx(0.2, abs=0.03 if sampler is Sampler.DDPM else 0.015)


@pytest.mark.parametrize("sampler", [s for s in Sampler if s is not Sampler.DDIM])
def test_only_ddim_has_an_eta(sampler: Sampler) -> None:
    with pytest.raises(OptionError, match="only the sampler ddim"):
        sampler_rows(sampler, NoiseSchedule(), 10, eta=0.5)


@pytest.mark.parametrize("sampler", list(Sampler))
@pytest.mark.parametrize("spacing", list(Spacing))
@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_outside_the_range_are_refused(sampler: Sampler, spacing: Spacing, steps: int) -> None:
    with pytest.raises(OptionError, match="steps is"):
        sampler_rows(sampler, NoiseSchedule(), steps, spacing=spacing)
