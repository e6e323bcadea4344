"""Sample grids: DDIM with the schedule that was trained, fixed masks, fixed noise."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seggd_rt.diffusion import MaskEncoding, NoiseSchedule, Prediction, Spacing, colorize, name_classes
from seggd_training.data import Dataset
from seggd_training.loop.samples import ddim_scheduler, draw_samples, pick_examples, sample_grid
from tests.training.scenes import CLASSES, draw_scenes

CPU = torch.device("cpu")


class Knowing(nn.Module):
    """An ideal network for images that are their mask: it says the eps or v that goes with x0 = 2 mask - 1."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.alpha_bar, self.prediction = torch.from_numpy(schedule.alpha_bar()).float(), schedule.prediction

    def forward(self, x: Tensor, t: Tensor) -> SimpleNamespace:
        x_t, x0 = x[:, :1], 2 * x[:, 1:2] - 1
        signal, sigma = self.alpha_bar[t].sqrt(), (1 - self.alpha_bar[t]).sqrt()
        eps = (x_t - signal * x0) / sigma
        outputs = {Prediction.EPSILON: eps, Prediction.V: signal * eps - sigma * x0, Prediction.SAMPLE: x0}
        return SimpleNamespace(sample=outputs[self.prediction])


@pytest.fixture
def dataset() -> Dataset:
    images, labels = draw_scenes(6)
    labels[2] = 0  # shows no class
    return Dataset(images[..., None], labels, name_classes(CLASSES), tuple("abcdef"))


@pytest.mark.parametrize("prediction", Prediction)
def test_an_ideal_network_draws_its_mask(prediction: Prediction) -> None:
    schedule = NoiseSchedule(prediction=prediction)
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 2, (3, 1, 6, 5), generator=generator).float()
    images = draw_samples(Knowing(schedule), schedule, mask, torch.randn(3, 1, 6, 5, generator=generator), steps=20)
    torch.testing.assert_close(images, mask, rtol=0, atol=1e-3)


@pytest.mark.parametrize("spacing", Spacing)
def test_timesteps_are_the_schedules(spacing: Spacing) -> None:
    schedule = NoiseSchedule(spacing=spacing)
    scheduler = ddim_scheduler(schedule)
    scheduler.set_timesteps(25)
    np.testing.assert_array_equal(scheduler.timesteps.numpy(), schedule.timesteps(25))


def test_grid_shows_mask_real_and_drawn(dataset: Dataset) -> None:
    schedule = NoiseSchedule(prediction=Prediction.V)
    grid = sample_grid(Knowing(schedule), schedule, dataset, MaskEncoding.ONE_HOT, device=CPU, count=3, steps=5)
    assert grid.shape == (3 * 16, 3 * 16, 3)
    first = dataset.label_maps[0]
    np.testing.assert_array_equal(grid[:16, :16], colorize(first, dataset.classes))
    np.testing.assert_array_equal(grid[16:32, :16, 1], dataset.images[0, ..., 0])
    np.testing.assert_allclose(grid[32:, :16, 0] / 255, first == 1, atol=0.02)  # channel 0 of one-hot is class 1


def test_examples_show_the_most_classes(dataset: Dataset) -> None:
    assert pick_examples(dataset, 3).tolist() == [0, 3, 5]
    assert 2 not in pick_examples(dataset, 10)
