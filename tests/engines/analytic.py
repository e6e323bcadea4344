"""A Network in a few lines: the exact answer for pixels drawn from N(mu, std^2), mu a grey level for each class."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seggd_engines.host import HostSession
from seggd_rt.diffusion import NoiseSchedule, Precision
from seggd_rt.engine import Buffer, EngineInfo, NetworkShape

SHAPE = NetworkShape(1, 3, 5, 7)
INFO = EngineInfo("analytic", "1", "cpu", "NumPy", Precision.FP32)


def host_array(buffer: Buffer) -> NDArray[np.float32]:
    """Return an array over a buffer's memory."""
    return np.ctypeslib.as_array(ctypes.cast(buffer.address, ctypes.POINTER(ctypes.c_float)), shape=buffer.shape)


@dataclass
class AnalyticNetwork:
    """Predicts epsilon. With `std` 0 every step's x0 is mu itself, so any sampler must end there."""

    shape: NetworkShape = SHAPE
    background: float = -0.5
    levels: tuple[float, ...] = (0.9, 0.6, 0.3)
    """What each mask channel adds to the background."""
    std: float = 0.0
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    info: EngineInfo = INFO
    max_batch: int | None = None
    bound: int = 0
    closed: bool = False

    def mu(self, mask: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean of (..., mask channels, H, W) masks, (..., 1, H, W)."""
        added: NDArray[np.float64] = np.einsum("...chw,c->...hw", mask.astype(np.float64), self.levels)
        return self.background + added[..., None, :, :]

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        """See `Network.bind`."""
        inputs, time, output = host_array(sample), host_array(timestep), host_array(out)
        alpha_bar, channels = self.schedule.alpha_bar(), self.shape.image_channels
        self.bound += 1

        def call() -> None:
            a = alpha_bar[time.astype(np.int64)][:, None, None, None]
            x, mu = inputs[:, :channels].astype(np.float64), self.mu(inputs[:, channels:])
            output[...] = np.sqrt(1 - a) * (x - np.sqrt(a) * mu) / (a * self.std**2 + 1 - a)

        return call

    def session(self, batch: int, lanes: int = 1) -> HostSession:
        """See `Network.session`."""
        return HostSession(self, batch, lanes)

    def close(self) -> None:
        """See `Network.close`."""
        self.closed = True
