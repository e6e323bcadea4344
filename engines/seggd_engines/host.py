"""The session on the CPU: NumPy buffers around a bound network."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from seggd_rt.diffusion import Blend, Precision, Stream, advance, encode, guide, mix, normal
from seggd_rt.engine import (
    Buffer,
    DeviceArray,
    Latents,
    LayerProfile,
    Network,
    OnStep,
    Pixels,
    ProfiledNetwork,
    Run,
    Step,
    no_profile,
)
from seggd_rt.errors import EngineError


class HostSession:
    """One run's buffers in host memory.

    The network's input holds [x | mask]: the mask is written once, x is updated in place, so no step copies or
    concatenates. With two lanes, an image's second lies a batch behind its first.
    """

    def __init__(self, network: Network, batch: int, lanes: int = 1) -> None:
        shape = network.shape
        self._network, self._info = network, network.info
        self._batch, self._lanes = batch, lanes
        self._input = np.zeros((lanes * batch, shape.channels, shape.height, shape.width), np.float32)
        self._mask = self._input[:, shape.image_channels :]
        self._x, *self._copies = np.split(self._input[:, : shape.image_channels], lanes)
        self._o = np.zeros((lanes * batch, *self._x.shape[1:]), np.float32)
        self._o_full, *self._o_ablated = np.split(self._o, lanes)
        self._x0 = np.zeros(self._x.shape, np.float32)
        self._z = np.zeros(self._x.shape, np.float32)
        self._scratch = np.zeros(self._x.shape, np.float32)
        self._t = np.zeros(lanes * batch, np.float32)
        self._blend: Blend | None = None
        self._next = 0
        self._buffers = (Buffer.of(self._input), Buffer.of(self._t), Buffer.of(self._o))
        self._network_call = network.bind(*self._buffers)
        self._waited_s = 0.0

    @property
    def batch(self) -> int:
        """How many images one run draws."""
        return self._batch

    @property
    def lanes(self) -> int:
        """Network lanes an image."""
        return self._lanes

    def run(self, run: Run, out: Pixels, on_step: OnStep | None = None) -> None:
        """Draw a batch: see `Session.run`."""
        self.start(run)
        steps = len(run.table)
        for index, timestep in enumerate(run.table.timesteps[run.first :].tolist(), run.first):
            self.advance(1)
            if on_step is not None:
                on_step(Step(index, steps, timestep))
        self.finish(out)

    def start(self, run: Run, dtype: DTypeLike = np.float32) -> None:
        """Begin a run: see `Session.start`."""
        label_maps = self._in_host_memory(run.label_maps)
        for lane, tables in enumerate(run.encode_tables):
            for image, (label_map, table) in enumerate(zip(label_maps, tables, strict=True)):
                self._mask[lane * self._batch + image] = encode(label_map, table)
        if run.noise is None:
            self._draw(self._x, run.seeds, Stream.START, 0)
        else:
            self._x[...] = self._in_host_memory(run.noise)
        self._x0[...] = 0 if run.last_x0 is None else self._in_host_memory(run.last_x0)
        self._blend = self._real_of(run) if run.blends else None
        if self._blend is not None and run.entries is not None:
            for image, row in enumerate(run.entries):
                one = slice(image, image + 1)
                mix(self._x[one], row, self._blend[one])
        self._run, self._next = run, run.first

    def advance(self, steps: int) -> None:
        """Do the next steps: see `Session.advance`."""
        run, table = self._run, self._run.table
        draws_noise = table.draws_noise
        for index in range(self._next, self._next + steps):
            for copy in self._copies:
                copy[...] = self._x
            self._t.fill(table.timesteps[index])
            self.call()
            if draws_noise:
                self._draw(self._z, run.seeds, Stream.STEP, index)
            self._update(table.rows[..., index, :])
        self._next += steps

    def preview(self, out: Pixels) -> None:
        """Write the last estimates of x0: see `Session.preview`."""
        _write_pixels(self._x0, out)

    def latents(self) -> Latents:
        """Return what the steps done left: see `Session.latents`."""
        return Latents(self._x.copy(), self._x0.copy())

    def finish(self, out: Pixels) -> None:
        """Write the images: see `Session.finish`."""
        if not np.isfinite(self._x).all():
            advice = "" if self._info.precision is Precision.FP32 else ": try precision='fp32'"
            raise EngineError(f"{self._info.engine} in {self._info.precision} gave an image that is not finite{advice}")
        _write_pixels(self._x, out)

    def evaluate(self, x: NDArray[np.float32], mask: NDArray[np.float32], timestep: float) -> NDArray[np.float32]:
        """Evaluate the network once: see `Session.evaluate`."""
        self._input[:, : x.shape[1]] = x
        self._mask[...] = mask
        self._t[:] = timestep
        self.call()
        return self._o.copy()

    def wait_for(self, stream: int) -> None:
        """Refuse: nothing here is in a GPU's memory. See `Session.wait_for`."""
        raise self._only_host_memory()

    def enqueue(self, run: Run, out: DeviceArray, stream: int) -> None:
        """Refuse: nothing here is in a GPU's memory. See `Session.enqueue`."""
        raise self._only_host_memory()

    def synchronize(self) -> None:
        """Return at once: a run on the CPU is done when it returns."""

    @property
    def waited_s(self) -> float:
        """Seconds in the network's calls so far: see `Session.waited_s`."""
        return self._waited_s

    def call(self, times: int = 1) -> None:
        """Evaluate the network on the session's buffers: see `Session.call`."""
        started = time.perf_counter()
        for _ in range(times):
            self._network_call()
        self._waited_s += time.perf_counter() - started

    def profile(self, runs: int) -> LayerProfile:
        """Time the network's layers: see `Session.profile`."""
        if not isinstance(self._network, ProfiledNetwork):
            raise no_profile(self._info)
        return self._network.profile(*self._buffers, runs)

    def close(self) -> None:
        """Drop the binding; the buffers go with the session."""
        del self._network_call

    def _in_host_memory(self, array: NDArray[Any] | DeviceArray) -> NDArray[Any]:
        if isinstance(array, DeviceArray):
            raise self._only_host_memory()
        return array

    def _only_host_memory(self) -> EngineError:
        return EngineError(f"{self._info.engine} runs on the CPU: give it arrays in host memory")

    def _update(self, rows: NDArray[np.float32]) -> None:
        """Update x by one row, or by one row an image."""
        if rows.ndim == 1:
            self._update_part(slice(None), rows)
            return
        for image, row in enumerate(rows):
            self._update_part(slice(image, image + 1), row)

    def _update_part(self, part: slice, row: NDArray[np.float32]) -> None:
        o = self._o_full[part]
        for ablated in self._o_ablated:
            o = guide(o, ablated[part], row)
        blend = None if self._blend is None else self._blend[part]
        advance(self._x[part], o, self._x0[part], row, z=self._z[part], blend=blend, scratch=self._scratch[part])

    def _real_of(self, run: Run) -> Blend:
        if run.real is None:
            raise ValueError("rows that blend need a real image")
        noise = np.empty_like(self._x)
        self._draw(noise, run.seeds, Stream.START, 0)
        return Blend(run.real, noise, None if run.pixel_map is None else run.pixel_map[:, None])

    def _draw(self, into: NDArray[np.float32], seeds: tuple[int, ...], stream: Stream, step: int) -> None:
        for image, seed in zip(into, seeds, strict=True):
            image[...] = normal(seed, image.shape, stream=stream, step=step)


def _write_pixels(x: NDArray[np.float32], out: Pixels) -> None:
    pixels = np.moveaxis(x, 1, -1) / np.float32(2) + np.float32(0.5)
    pixels.clip(0, 1, out=pixels)
    out[...] = pixels if out.dtype == np.float32 else np.rint(pixels * np.float32(255))
