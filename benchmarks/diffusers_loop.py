"""What seggd-rt is measured against: the plain loop of diffusers, as the SegGuidedDiff reference draws an image."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from numpy.typing import NDArray

from seggd_rt.diffusion import BetaCurve, NoiseSchedule, Prediction

_CURVES: Mapping[BetaCurve, str] = {
    BetaCurve.LINEAR: "linear",
    BetaCurve.SCALED_LINEAR: "scaled_linear",
    BetaCurve.COSINE: "squaredcos_cap_v2",
}
_PREDICTIONS: Mapping[Prediction, str] = {
    Prediction.EPSILON: "epsilon",
    Prediction.SAMPLE: "sample",
    Prediction.V: "v_prediction",
}


class DiffusersLoop:
    """UNet2DModel and DDIMScheduler, one call a step, the mask concatenated at each.

    Parameters
    ----------
    unet
        The network; it is copied.
    schedule
        What it was trained with.
    mask
        (1, mask channels, H, W) float32.
    dtype
        What the network computes in; the scheduler stays in float32.
    compiled
        Whether torch.compile makes kernels of it, channels-last; else it runs as it is.
    compile_mode
        torch.compile's mode: its default, or "max-autotune".
    device
        A device of PyTorch.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        schedule: NoiseSchedule,
        mask: NDArray[np.float32],
        *,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        compile_mode: str | None = None,
        device: str = "cpu",
    ) -> None:
        network: Any = copy.deepcopy(unet).eval().requires_grad_(False)
        if dtype is not torch.float32:
            network = network.to(dtype)
        network = network.to(device)
        self._format = torch.channels_last if compiled else torch.contiguous_format
        if compiled:
            network = torch.compile(network.to(memory_format=torch.channels_last), mode=compile_mode)
        self._network, self._dtype, self._device = network, dtype, device
        self._scheduler = ddim_scheduler(schedule)
        self._mask = torch.from_numpy(np.array(mask)).to(device)

    def __call__(self, noise: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
        """Draw an image from noise, (1, C, H, W) float32: (1, C, H, W) float32 in [0, 1]."""
        self._scheduler.set_timesteps(steps)
        x = torch.from_numpy(np.array(noise)).to(self._device)
        with torch.inference_mode():
            for timestep in self._scheduler.timesteps:
                sample = torch.cat([x, self._mask], dim=1).to(dtype=self._dtype, memory_format=self._format)
                output = self._network(sample, timestep.to(self._device)).sample.float()
                x = self._scheduler.step(output, timestep, x).prev_sample
            image: NDArray[np.float32] = (x / 2 + 0.5).clamp(0, 1).cpu().numpy()
        return image


def ddim_scheduler(schedule: NoiseSchedule) -> DDIMScheduler:
    """Return diffusers' DDIM of a noise schedule."""
    return DDIMScheduler(
        num_train_timesteps=schedule.train_steps,
        beta_schedule=_CURVES[schedule.beta_curve],
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        prediction_type=_PREDICTIONS[schedule.prediction],
        timestep_spacing=str(schedule.spacing),
        steps_offset=schedule.steps_offset,
        clip_sample=schedule.clip_x0 is not None,
        clip_sample_range=1.0 if schedule.clip_x0 is None else schedule.clip_x0,
        rescale_betas_zero_snr=schedule.zero_terminal_snr,
        set_alpha_to_one=schedule.final_alpha_bar_one,
    )
