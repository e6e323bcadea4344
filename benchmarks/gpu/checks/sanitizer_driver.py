"""All kernels, over shapes and branches that differ, in a second and without PyTorch: what compute-sanitizer watches.

The network is a copy within the device: o = x. Images are compared with the host's, so a run that drew nothing fails.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from seggd_engines.cuda import CudaSession, CudaStream, DeviceStream
from seggd_engines.host import HostSession
from seggd_rt.diffusion import (
    Column,
    MaskEncoding,
    NoiseSchedule,
    Precision,
    Prediction,
    RowTable,
    Sampler,
    ablate,
    encode_table,
    sampler_rows,
)
from seggd_rt.engine import Buffer, EngineInfo, NetworkShape, Run, Step

# Pixels in whole quads and not, one channel and several, one block and several.
SHAPES = (NetworkShape(1, 3, 5, 7), NetworkShape(3, 3, 6, 6), NetworkShape(2, 3, 5, 5), NetworkShape(1, 3, 32, 40))
_TABLE = encode_table(MaskEncoding.ONE_HOT, 4)
_SCHEDULE = NoiseSchedule(prediction=Prediction.V)


class CopyNetwork:
    """o = x, on a stream's device: see `CudaNetwork`."""

    capturable = True
    max_batch: int | None = None

    def __init__(self, shape: NetworkShape, stream: DeviceStream) -> None:
        self.shape, self._stream = shape, stream
        self.info = EngineInfo("copy", "1", "cuda:0", "a GPU", Precision.FP32)

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Callable[[], None]:
        """Copy image by image: the mask lies between them."""
        size, stride = (4 * int(np.prod(shape[1:])) for shape in (out.shape, sample.shape))

        def call() -> None:
            for image in range(out.shape[0]):
                self._stream.copy(out.address + image * size, sample.address + image * stride, size)

        return call

    def session(self, batch: int, lanes: int = 1) -> CudaSession:
        """Return a session on the stream that the network copies on."""
        return CudaSession(self, self._stream, batch, lanes)

    def close(self) -> None:
        """Nothing is held."""


class HostCopyNetwork:
    """The same in host memory: see `Network`."""

    max_batch: int | None = None

    def __init__(self, network: CopyNetwork) -> None:
        self.shape, self.info = network.shape, network.info

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        """Copy arrays."""
        import ctypes

        x, o = (
            np.ctypeslib.as_array(ctypes.cast(buffer.address, ctypes.POINTER(ctypes.c_float)), shape=buffer.shape)
            for buffer in (sample, out)
        )
        return lambda: np.copyto(o, x[:, : self.shape.image_channels])

    def session(self, batch: int, lanes: int = 1) -> HostSession:
        """Return a session in host memory."""
        return HostSession(self, batch, lanes)

    def close(self) -> None:
        """Nothing is held."""


def make_run(
    shape: NetworkShape,
    *,
    lanes: int = 1,
    blend: bool = False,
    eta: float = 0.7,
    noise: bool = False,
    steps: int = 5,
) -> Run:
    """Return three images' run that takes the branches asked for."""
    rng, size = np.random.default_rng(0), (3, shape.height, shape.width)
    table = sampler_rows(Sampler.DDIM, _SCHEDULE, steps, eta=eta)
    rows = np.repeat(table.rows[None], 3, axis=0)
    if lanes == 2:
        rows[..., Column.G] = 1.5
    if blend:
        rows[:, 2, Column.M], rows[:, 2, Column.A], rows[:, 2, Column.B] = (0, 0.5, 1), 0.8, 0.6
    images = (3, shape.image_channels, shape.height, shape.width)
    tables = np.stack([np.stack([_TABLE] * 3), np.stack([ablate(_TABLE, [1, 3])] * 3)])[:lanes]
    return Run(
        table=RowTable(table.timesteps, rows),
        label_maps=rng.integers(0, 4, size).astype(np.uint8),
        encode_tables=tables,
        seeds=(1, 2, 3),
        noise=rng.standard_normal(images).astype(np.float32) if noise else None,
        real=rng.uniform(-1, 1, images).astype(np.float32) if blend else None,
        pixel_map=rng.uniform(0, 1, size).astype(np.float32) if blend else None,
    )


def drive(make_stream: Callable[[], DeviceStream]) -> int:
    """Draw every kind of run, as a graph and step by step; return how many images.

    Raises
    ------
    RuntimeError
        An image differs from the host's.
    """
    drawn = 0
    for shape in SHAPES:
        for lanes in (1, 2):
            network = CopyNetwork(shape, make_stream())
            session = network.session(3, lanes)
            for blend, noise in ((False, True), (True, False)):
                run = make_run(shape, lanes=lanes, blend=blend, noise=noise)
                out = np.zeros((3, shape.height, shape.width, shape.image_channels), np.float32)
                expected = np.zeros_like(out)
                HostCopyNetwork(network).session(3, lanes).run(run, expected)
                session.run(run, out)
                _compare(out, expected)
                session.run(run, out, _no_preview)
                _compare(out, expected)
                as_bytes = np.zeros(out.shape, np.uint8)
                session.run(run, as_bytes)
                drawn += 9
            session.close()
    return drawn


def _no_preview(step: Step) -> None:
    """Let the session run step by step."""


def _compare(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    # Noise may differ by an edge of float32; 1e-4 is far below what any wrong address gives.
    if not np.abs(found - expected).max() < 1e-4:
        raise RuntimeError(f"an image differs from the host's by {np.abs(found - expected).max():.1e}")


if __name__ == "__main__":
    print(f"{drive(lambda: CudaStream(0))} images equal the host's")
