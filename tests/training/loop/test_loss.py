"""The objective against its formulas, and against diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from seggd_rt.diffusion import NoiseSchedule, Prediction
from seggd_training.loop.loss import Objective, min_snr_weight

CPU = torch.device("cpu")


def test_min_snr_weights_follow_the_paper() -> None:
    snr = torch.tensor([0.01, 1.0, 5.0, 100.0], dtype=torch.float64)
    for prediction, wanted in {
        Prediction.EPSILON: [1.0, 1.0, 1.0, 0.05],
        Prediction.V: [0.01 / 1.01, 1 / 2, 5 / 6, 5 / 101],
        Prediction.SAMPLE: [0.01, 1.0, 5.0, 5.0],
    }.items():
        torch.testing.assert_close(min_snr_weight(snr, 5.0, prediction), torch.tensor(wanted).double())


@pytest.mark.parametrize("prediction", Prediction)
def test_weighted_losses_are_one_loss_in_x0(prediction: Prediction) -> None:
    """An error in any prediction, weighted, is the same error in x0 under min(SNR, gamma)."""
    objective = Objective(NoiseSchedule(prediction=prediction), min_snr=5.0, device=CPU)
    generator = torch.Generator().manual_seed(0)
    x0, eps, error = (torch.randn(3, 1, 4, 4, generator=generator) for _ in range(3))
    t = torch.tensor([20, 300, 700])
    x_t = objective.add_noise(x0, eps, t)
    alpha_bar = torch.from_numpy(NoiseSchedule().alpha_bar())[t][:, None, None, None].float()
    guess = x0 + 0.1 * error  # of x0, and the eps and v that go with it at x_t
    guess_eps = (x_t - alpha_bar.sqrt() * guess) / (1 - alpha_bar).sqrt()
    output = {
        Prediction.SAMPLE: guess,
        Prediction.EPSILON: guess_eps,
        Prediction.V: alpha_bar.sqrt() * guess_eps - (1 - alpha_bar).sqrt() * guess,
    }[prediction]
    wanted = objective.snr[t].clamp(max=5.0) * (0.1 * error).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(objective.loss(output, x0, eps, t), wanted.float(), rtol=2e-3, atol=0)


def test_noising_and_v_are_diffusers() -> None:
    objective = Objective(NoiseSchedule(prediction=Prediction.V), min_snr=None, device=CPU)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    generator = torch.Generator().manual_seed(1)
    x0, eps = (torch.randn(4, 2, 5, 3, generator=generator) for _ in range(2))
    t = torch.tensor([0, 250, 500, 999])
    torch.testing.assert_close(objective.add_noise(x0, eps, t), scheduler.add_noise(x0, eps, t))
    torch.testing.assert_close(objective.target(x0, eps, t), scheduler.get_velocity(x0, eps, t))


def test_a_perfect_output_costs_nothing_and_images_are_apart() -> None:
    objective = Objective(NoiseSchedule(), min_snr=None, device=CPU)
    x0, eps, t = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2), torch.tensor([5, 900])
    output = torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2)])
    assert objective.loss(output, x0, eps, t).tolist() == [0.0, 1.0]
