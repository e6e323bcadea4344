"""The contracts of an engine, Network, Session and Engine, and what passes between them.

A Network evaluates o = unet(concat(x, mask), t) on buffers it is given. A Session owns one run's buffers and drives a
Network through a row table. A new engine is one file with one Network and one Engine, registered as `registry.py` says.
`tests/engines/analytic.py` is a Network in a few lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision, RowTable
from seggd_rt.engine.layers import LayerProfile
from seggd_rt.errors import EngineUnavailableError


@dataclass(frozen=True)
class NetworkShape:
    """The sizes a network is built for; the batch is free."""

    image_channels: int
    mask_channels: int
    height: int
    width: int

    @property
    def channels(self) -> int:
        """Channels of the network's input: [x | mask]."""
        return self.image_channels + self.mask_channels


@dataclass(frozen=True)
class Buffer:
    """Memory of a session: contiguous float32 of a shape, at an address on the network's device."""

    address: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: NDArray[np.float32]) -> Buffer:
        """Describe a host array, which must outlive every use of the buffer."""
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError(f"a buffer must be contiguous float32; this array is {array.dtype} {array.strides}")
        return cls(array.ctypes.data, array.shape)


@dataclass(frozen=True)
class DeviceArray:
    """A contiguous array in a GPU's memory that somebody else owns."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: str
    """As engines name it: "cuda:0"."""
    owner: object = None
    """Kept alive as long as this is."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class EngineInfo:
    """What really runs: engine and version, device, and the precision it computes in."""

    engine: str
    version: str
    device: str
    device_name: str
    precision: Precision
    threads: int | None = None
    notes: tuple[str, ...] = ()
    """What was passed over on the way to it, and why."""


class Network(Protocol):
    """A UNet on one device, ready to run. Any number of threads may bind and call it."""

    @property
    def info(self) -> EngineInfo:
        """What really runs."""

    @property
    def shape(self) -> NetworkShape:
        """The sizes it is built for."""

    @property
    def max_batch(self) -> int | None:
        """The largest batch it can be bound to, None for any."""

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer) -> Callable[[], None]:
        """Return a call that evaluates the network on these buffers, each time it is called.

        Parameters
        ----------
        sample
            (N, image_channels + mask_channels, H, W): [x | mask].
        timestep
            (N,): the training timestep of each image.
        out
            (N, image_channels, H, W): overwritten.
        """

    def session(self, batch: int, lanes: int = 1) -> Session:
        """Return a session with buffers for a batch of images, where the network runs."""

    def close(self) -> None:
        """Give back what the network holds; bound calls must not be used after it."""


class CudaNetwork(Protocol):
    """A Network on an NVIDIA GPU: its calls are enqueued on a stream, and return before they are done."""

    @property
    def info(self) -> EngineInfo:
        """What really runs."""

    @property
    def shape(self) -> NetworkShape:
        """The sizes it is built for."""

    @property
    def capturable(self) -> bool:
        """Whether its calls may be captured in a CUDA graph."""

    @property
    def max_batch(self) -> int | None:
        """The largest batch it can be bound to, None for any."""

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Callable[[], None]:
        """Return a call that enqueues one evaluation: see `Network.bind`.

        Parameters
        ----------
        sample, timestep, out
            Device memory.
        stream
            The handle of the CUDA stream, `CUstream`, that every call is enqueued on.
        """

    def session(self, batch: int, lanes: int = 1) -> Session:
        """Return a session with buffers on the GPU."""

    def close(self) -> None:
        """Give back what the network holds; bound calls must not be used after it."""


AnyNetwork = Network | CudaNetwork


@dataclass(frozen=True)
class Availability:
    """Whether an engine can run on a device here; if not, why, and what to do."""

    usable: bool
    version: str = ""
    device_name: str = ""
    precisions: tuple[Precision, ...] = ()
    """What it can compute in, its own choice first."""
    reason: str = ""


def require_usable(engine: str, there: Availability, precision: Precision) -> None:
    """Refuse to open a graph where an engine cannot run, or not in a precision.

    Raises
    ------
    EngineUnavailableError
        The message says why, and what to do.
    """
    if not there.usable:
        raise EngineUnavailableError(f"engine {engine}: {there.reason}")
    if precision not in there.precisions:
        own = ", ".join(there.precisions)
        raise EngineUnavailableError(f"engine {engine} on {there.device_name} computes in {own}, not in {precision}")


class DeviceKind(StrEnum):
    """What a device's name begins with."""

    CPU = "cpu"
    CUDA = "cuda"


class Engine(Protocol):
    """A way of running graphs: opens Networks."""

    name: str
    kind: DeviceKind
    """Where it runs."""
    rank: int
    """`auto` tries engines of a lower rank first: those of this project have 10 to 50, others 100 or more."""

    def availability(self, device: str) -> Availability:
        """Say whether it can run on a device ("cpu", "cuda:0") of this machine."""

    def graph_precision(self, precision: Precision) -> Precision:
        """Return the precision of the graph it wants in order to compute in `precision`."""

    def open(
        self, graph: OnnxGraph, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> AnyNetwork:
        """Open a graph.

        Raises
        ------
        EngineUnavailableError
            The engine is not installed, or cannot run on this device or in this precision.
        EngineError
            The graph cannot be read or built.
        """


@dataclass(frozen=True)
class Step:
    """One finished step of a run."""

    index: int
    steps: int
    timestep: int


OnStep = Callable[[Step], None]
"""Called after every step; raising ends the run."""


@dataclass(frozen=True)
class Run:
    """What a session needs to draw a batch of N images.

    Attributes
    ----------
    table
        Timesteps and update rows.
    label_maps
        (N, H, W) uint8; in device memory also (1, H, W), for all images.
    encode_tables
        (lanes, N, labels, mask_channels) float32: how each image's labels become mask channels. With guidance there are
        two lanes: of the mask, and of the mask without the classes to guide away from.
    seeds
        N seeds in [0, 2^64).
    noise
        (N, C, H, W) float32 to start from in place of the seeds' own draw, or None; in device memory also (1, C, H, W).
    real
        (N, C, H, W) float32 in [-1, 1]: what the rows blend in, noised as a generation of these seeds starts.
    entries
        (N, len(Column)) float32: rows whose blend alone the start goes through, or None.
    pixel_map
        (N, H, W) float32 in [0, 1]: the blend's weight in each pixel, or None for 1.
    first
        The step to begin with: `noise` is then what the steps before it left, and `last_x0` what they last estimated.
    last_x0
        (N, C, H, W) float32, or None for 0; in device memory also (1, C, H, W).
    """

    table: RowTable
    label_maps: NDArray[np.uint8] | DeviceArray
    encode_tables: NDArray[np.float32]
    seeds: tuple[int, ...]
    noise: NDArray[np.float32] | DeviceArray | None = None
    real: NDArray[np.float32] | None = None
    pixel_map: NDArray[np.float32] | None = None
    entries: NDArray[np.float32] | None = None
    first: int = 0
    last_x0: NDArray[np.float32] | DeviceArray | None = None

    def __post_init__(self) -> None:
        """Refuse rows that need what is not given."""
        if self.table.guides and self.lanes != 2:
            raise ValueError("rows that guide need the encode tables of two lanes")
        if self.blends and self.real is None:
            raise ValueError("rows that blend need a real image")

    @property
    def lanes(self) -> int:
        """Network lanes an image."""
        return len(self.encode_tables)

    @property
    def blends(self) -> bool:
        """Whether a real image is mixed in, at the start or by a row."""
        return self.table.blends or self.entries is not None


@dataclass(frozen=True)
class Latents:
    """What some steps of a run left, for another run to go on from.

    Attributes
    ----------
    x, x0
        (N, C, H, W) float32, where the session's memory lies: the state, and the last estimate of x0. In device memory
        they are the session's own, and change with its next run.
    stream
        The stream of a GPU that writes them; 0 in host memory.
    """

    x: NDArray[np.float32] | DeviceArray
    x0: NDArray[np.float32] | DeviceArray
    stream: int = 0


Pixels = NDArray[np.float32] | NDArray[np.uint8]
"""(N, H, W, C): float32 in [0, 1], or uint8 from 0 to 255."""


class Session(Protocol):
    """The buffers of one run on one device, for one thread at a time and one batch size.

    `run` generates a batch at once. `start`, `advance` any number of times, `preview` to look, and `finish` do so in
    parts. `wait_for`, `enqueue` and `synchronize` are for arrays in a GPU's memory; a session in host memory raises
    `EngineError` from the first two and has nothing to wait for. `call`, `profile` and `waited_s` are for measurements.
    """

    @property
    def batch(self) -> int:
        """How many images one run draws."""

    @property
    def lanes(self) -> int:
        """Network lanes an image: 2 where a run guides."""

    def evaluate(self, x: NDArray[np.float32], mask: NDArray[np.float32], timestep: float) -> NDArray[np.float32]:
        """Evaluate the network once.

        Parameters
        ----------
        x
            (lanes * N, C, H, W) float32.
        mask
            (lanes * N, mask_channels, H, W) float32.
        timestep
            The training timestep of all images.

        Returns
        -------
        NDArray
            (lanes * N, C, H, W) float32.
        """

    def run(self, run: Run, out: Pixels, on_step: OnStep | None = None) -> None:
        """Draw a batch.

        Parameters
        ----------
        run
            What to draw.
        out
            Overwritten by the images.
        on_step
            Called after every step.

        Raises
        ------
        EngineError
            An image was not finite.
        """

    def start(self, run: Run, dtype: DTypeLike = np.float32) -> None:
        """Begin a run: encode its label maps, write its start. `dtype` is that of the pixels it will be asked for."""

    def advance(self, steps: int) -> None:
        """Do the next steps of the run that was started; no more than it has."""

    def preview(self, out: Pixels) -> None:
        """Write the last estimates of x0: what the images will become, as far as the steps done can tell."""

    def latents(self) -> Latents:
        """Return what the steps done left."""

    def finish(self, out: Pixels) -> None:
        """Write the images.

        Raises
        ------
        EngineError
            An image was not finite.
        """

    def wait_for(self, stream: int) -> None:
        """Let the next run wait for the work that a caller's CUDA stream already has.

        Raises
        ------
        EngineError
            The session is in host memory.
        """

    def enqueue(self, run: Run, out: DeviceArray, stream: int) -> None:
        """Generate a batch into device memory, in the order of the caller's stream, and return before it is done.

        `synchronize`, or the next `run`, raises what went wrong with the images.

        Parameters
        ----------
        run
            What to generate; its label maps and noise may be device arrays.
        out
            (N, H, W, C) float32 or uint8, overwritten after the work that `stream` already has.
        stream
            The caller's stream, a `CUstream`: its later work finds the images.

        Raises
        ------
        EngineError
            The session is in host memory.
        """

    def synchronize(self) -> None:
        """Wait for what was enqueued.

        Raises
        ------
        EngineError
            An image is not finite.
        LabelMapError
            A label map in device memory held a label outside the classes.
        """

    @property
    def waited_s(self) -> float:
        """Seconds for which callers waited for the network so far: the rest of a run is the session's own work."""

    def call(self, times: int = 1) -> None:
        """Evaluate the network on the session's buffers, as the latest run left them, and wait."""

    def profile(self, runs: int) -> LayerProfile:
        """Time the network's layers on the session's buffers, as the latest run left them.

        Parameters
        ----------
        runs
            How many evaluations.

        Raises
        ------
        EngineUnavailableError
            The engine does not tell how long its layers take.
        """

    def close(self) -> None:
        """Give the buffers back."""
