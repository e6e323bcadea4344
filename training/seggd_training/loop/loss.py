"""The denoising objective: noise an image, name the target, weigh the squared error.

Symbol                                          Here
x_t = sqrt(alpha_bar_t) x0 + sigma_t eps        `Objective.add_noise`       sigma_t^2 = 1 - alpha_bar_t
v_t = sqrt(alpha_bar_t) eps - sigma_t x0        `Objective.target`          arXiv 2202.00512, appendix D
SNR_t = alpha_bar_t / sigma_t^2                 `Objective.snr`
w_t                                             `min_snr_weight`            arXiv 2303.09556, section 3.4
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from seggd_rt.diffusion import NoiseSchedule, Prediction


def min_snr_weight(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Return the min-SNR-gamma weight of a squared error in the network's own output, any shape.

    The paper weighs errors in x0 by min(SNR, gamma); an error in eps is SNR times as large there, one in v
    SNR + 1 times.
    """
    clipped = snr.clamp(max=gamma)
    if prediction is Prediction.EPSILON:
        return clipped / snr
    if prediction is Prediction.V:
        return clipped / (snr + 1)
    return clipped


class Objective:
    """What a network is trained for: the noise schedule's arithmetic on tensors of one device.

    Parameters
    ----------
    schedule
        The forward process and the prediction type.
    min_snr
        gamma of the min-SNR weighting; None weighs every timestep alike.
    """

    def __init__(self, schedule: NoiseSchedule, *, min_snr: float | None, device: torch.device) -> None:
        alpha_bar = torch.from_numpy(schedule.alpha_bar())
        self.prediction = schedule.prediction
        self.snr = alpha_bar / (1 - alpha_bar)
        weight = torch.ones_like(self.snr)
        if min_snr is not None:
            weight = min_snr_weight(self.snr, min_snr, schedule.prediction)
        self._weight = weight.to(device, torch.float32)
        self._signal = alpha_bar.sqrt().to(device, torch.float32)
        self._sigma = (1 - alpha_bar).sqrt().to(device, torch.float32)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Return x_t, (B, C, H, W), of x0 and eps of that shape at timesteps t, (B,) int64."""
        return _column(self._signal, t) * x0 + _column(self._sigma, t) * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Return what the network should say at x_t, (B, C, H, W)."""
        if self.prediction is Prediction.EPSILON:
            return eps
        if self.prediction is Prediction.V:
            return _column(self._signal, t) * eps - _column(self._sigma, t) * x0
        return x0

    def loss(self, output: Tensor, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Return each image's weighted mean squared error, (B,) float32."""
        error = functional.mse_loss(output.float(), self.target(x0, eps, t), reduction="none")
        return self._weight[t] * error.mean(dim=(1, 2, 3))


def _column(values: Tensor, t: Tensor) -> Tensor:
    return values[t][:, None, None, None]
