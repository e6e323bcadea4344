"""The session on the CPU: NumPy buffers around a bound network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seggd_engines.network import Buffer, Network, OnStep, Run, Step
from seggd_rt.errors import EngineError
from seggd_rt.labels import encode
from seggd_rt.noise import Stream, normal
from seggd_rt.precision import Precision
from seggd_rt.rows import Column, advance


class HostSession:
    """One run's buffers in host memory.

    The network's input holds [x | mask]: the mask is written once, x is updated in place, so no step copies or
    concatenates. `call` is the network bound to them, for those who time it alone.
    """

    def __init__(self, network: Network, batch: int) -> None:
        shape = network.shape
        self._info = network.info
        self._input = np.zeros((batch, shape.channels, shape.height, shape.width), np.float32)
        self._x = self._input[:, : shape.image_channels]
        self._mask = self._input[:, shape.image_channels :]
        self._o = np.zeros(self._x.shape, np.float32)
        self._x0 = np.zeros(self._x.shape, np.float32)
        self._z = np.zeros(self._x.shape, np.float32)
        self._scratch = np.zeros(self._x.shape, np.float32)
        self._t = np.zeros(batch, np.float32)
        self.call = network.bind(Buffer.of(self._input), Buffer.of(self._t), Buffer.of(self._o))

    @property
    def batch(self) -> int:
        """How many images one run draws."""
        return len(self._t)

    def run(self, run: Run, out: NDArray[np.float32], on_step: OnStep | None = None) -> None:
        """Draw a batch: see `Session.run`."""
        if run.table.rows[:, [Column.G, Column.M]].any():
            raise ValueError("guidance and blending need what a Run does not carry yet: their columns must be 0")
        for image in range(self.batch):
            self._mask[image] = encode(run.label_maps[image], run.encode_tables[image])
        if run.noise is None:
            self._draw(self._x, run.seeds, Stream.START, 0)
        else:
            self._x[...] = run.noise
        steps = len(run.table)
        draws_noise = run.table.draws_noise
        for index, (timestep, row) in enumerate(zip(run.table.timesteps.tolist(), run.table.rows, strict=True)):
            self._t.fill(timestep)
            self.call()
            if draws_noise:
                self._draw(self._z, run.seeds, Stream.STEP, index)
            advance(self._x, self._o, self._x0, row, z=self._z, scratch=self._scratch)
            if on_step is not None:
                on_step(Step(index, steps, timestep))
        self._finish(out)

    def evaluate(self, x: NDArray[np.float32], mask: NDArray[np.float32], timestep: float) -> NDArray[np.float32]:
        """Evaluate the network once: see `Session.evaluate`."""
        self._x[...] = x
        self._mask[...] = mask
        self._t[:] = timestep
        self.call()
        return self._o.copy()

    def close(self) -> None:
        """Drop the binding; the buffers go with the session."""
        del self.call

    def _draw(self, into: NDArray[np.float32], seeds: tuple[int, ...], stream: Stream, step: int) -> None:
        for image, seed in zip(into, seeds, strict=True):
            image[...] = normal(seed, image.shape, stream=stream, step=step)

    def _finish(self, out: NDArray[np.float32]) -> None:
        if not np.isfinite(self._x).all():
            advice = "" if self._info.precision is Precision.FP32 else ": try precision='fp32'"
            raise EngineError(f"{self._info.engine} in {self._info.precision} gave an image that is not finite{advice}")
        np.clip(np.moveaxis(self._x, 1, -1) / np.float32(2) + np.float32(0.5), 0, 1, out=out)
