"""The session on a GPU: buffers made once, three kernels around a bound network, the whole loop as one CUDA graph.

For an image the host uploads one block, launches one graph and downloads one block. The graph holds addresses alone:
rows, timesteps, seeds, label maps and tables are read from the uploaded block, so one graph serves every image of a
number of steps.
"""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from seggd_engines.cuda.capture import ALLOCATING
from seggd_engines.cuda.device import Bytes, DeviceGraph, DeviceMark, DeviceStream, Kernel
from seggd_engines.cuda.nvtx_ranges import in_range
from seggd_rt.diffusion import Precision
from seggd_rt.engine import (
    Buffer,
    CudaNetwork,
    CudaProfiledNetwork,
    DeviceArray,
    Latents,
    LayerProfile,
    OnStep,
    Pixels,
    Run,
    Step,
    no_profile,
)
from seggd_rt.errors import EngineError, LabelMapError

_BLOCK = 128
"""Threads of a block; each has four elements."""
_ALIGNMENT = 256
_MAX_GRAPHS = 4
"""Graphs kept, one for each number of steps."""
_NOT_FINITE, _LABEL_OUTSIDE = 1, 2
"""`Flaw` of kernels/sampling.cuh."""
_COUNTERS = 8
"""Bytes of the two counters, step and finished, that lie before the images' status."""

_SIZES = (
    *("images", "lanes", "channels", "mask_channels", "pixels"),
    *("labels", "steps", "first", "bytes", "reserved"),
)
_INPUTS = (
    *("label_maps", "encode_tables", "seeds", "rows", "timesteps"),
    *("start", "last_x0", "entries", "real", "pixel_map"),
)
_BUFFERS = ("sample", "timestep", "out", "x0", "result", "step", "finished", "status")
STATE = np.dtype([(name, "<i4") for name in _SIZES] + [(name, "<u8") for name in (*_INPUTS, *_BUFFERS)])
"""`Sampling` of kernels/sampling.cuh, as it lies in memory."""


_Args = ParamSpec("_Args")
_T = TypeVar("_T")


def _on_its_gpu(
    method: Callable[Concatenate[CudaSession, _Args], _T],
) -> Callable[Concatenate[CudaSession, _Args], _T]:
    """Let a method find the session's GPU current; the calling thread keeps its own."""

    @functools.wraps(method)
    def call(self: CudaSession, /, *args: _Args.args, **kwargs: _Args.kwargs) -> _T:
        with self._stream.active():
            return method(self, *args, **kwargs)

    return call


class CudaSession:
    """One run's buffers in device memory: see `Session`.

    The network's input holds [x | mask]: the mask is written once, x is updated in place. With two lanes, an image's
    second lies a batch behind its first. Memory grows with the first run of a number of steps, if at all.
    """

    def __init__(self, network: CudaNetwork, stream: DeviceStream, batch: int, lanes: int = 1) -> None:
        self._network, self._stream = network, stream
        self._info, self._shape = network.info, network.shape
        self._batch, self._lanes = batch, lanes
        self._prepare()

    @_on_its_gpu
    def _prepare(self) -> None:
        """Make the buffers, and bind the network to them."""
        network, stream, batch, lanes = self._network, self._stream, self._batch, self._lanes
        height, width = self._shape.height, self._shape.width
        image = (self._shape.image_channels, height, width)
        self._sample = self._buffer(lanes * batch, self._shape.channels, height, width)
        self._timestep = self._buffer(lanes * batch)
        self._out = self._buffer(lanes * batch, *image)
        self._x0 = self._buffer(batch, *image)
        # Counters and status lie before the result, so that all come back in one copy.
        self._head = _padded(_COUNTERS + 4 * batch)
        size = self._head + 4 * batch * image[0] * height * width
        self._result, self._host_result = stream.allocate(size), stream.pinned(size)
        self._inputs, self._host_inputs = 0, np.empty(0, np.uint8)
        self._uploaded: DeviceMark | None = None
        self._grid = (-(-image[0] * height * width // (4 * _BLOCK)), batch)
        self._call = network.bind(self._sample, self._timestep, self._out, stream.handle)
        self._capturable = network.capturable  # some know only once they are bound
        self._called = False
        self._unchecked = False
        self._waited_s = 0.0
        self._graphs: OrderedDict[tuple[bool, int], DeviceGraph] = OrderedDict()
        stream.clear(self._result, self._head)

    @property
    def batch(self) -> int:
        """How many images one run draws."""
        return self._batch

    @property
    def lanes(self) -> int:
        """Network lanes an image."""
        return self._lanes

    @property
    def waited_s(self) -> float:
        """Seconds for which callers waited for the GPU: see `Session.waited_s`."""
        return self._waited_s

    @property
    def stream(self) -> DeviceStream:
        """The stream on which all of the session's work is enqueued."""
        return self._stream

    @property
    def capturable(self) -> bool:
        """Whether the network's calls may be captured in a CUDA graph."""
        return self._capturable

    @_on_its_gpu
    def run(self, run: Run, out: Pixels, on_step: OnStep | None = None) -> None:
        """Draw a batch: see `Session.run`. Without `on_step`, the whole loop is one graph."""
        self.synchronize()
        self._upload(run, as_bytes=out.dtype == np.uint8)
        if on_step is None:
            self._launch(whole=True, steps=len(run.table) - run.first)
        else:
            self._begin()
            for index, timestep in enumerate(run.table.timesteps[run.first :].tolist(), run.first):
                self.advance(1)
                self._wait()
                on_step(Step(index, len(run.table), timestep))
            self._finish()
        self._fetch(out)

    @_on_its_gpu
    def start(self, run: Run, dtype: DTypeLike = np.float32) -> None:
        """Begin a run: see `Session.start`."""
        self.synchronize()
        self._upload(run, as_bytes=np.dtype(dtype) == np.uint8)
        self._begin()

    @_on_its_gpu
    def advance(self, steps: int) -> None:
        """Do the next steps: see `Session.advance`."""
        if steps:
            self._launch(whole=False, steps=steps)

    @_on_its_gpu
    def preview(self, out: Pixels) -> None:
        """Write the last estimates of x0: see `Session.preview`."""
        self._stream.launch(Kernel.PREVIEW, self._grid, _BLOCK, self._inputs)
        self._fetch(out)

    def latents(self) -> Latents:
        """Return what the steps done left: see `Session.latents`. One image's alone lies in one piece."""
        if self._batch != 1:
            raise ValueError("only a batch of one can be gone on from")
        shape, device = self._out.shape[1:], self._info.device
        x, x0 = (
            DeviceArray(buffer.address, (1, *shape), np.dtype(np.float32), device, self)
            for buffer in (self._sample, self._x0)
        )
        return Latents(x, x0, self._stream.handle)

    @_on_its_gpu
    def finish(self, out: Pixels) -> None:
        """Write the images: see `Session.finish`."""
        self._finish()
        self._fetch(out)

    @_on_its_gpu
    def enqueue(self, run: Run, out: DeviceArray, stream: int) -> None:
        """Generate a batch in the order of the caller's stream: see `Session.enqueue`."""
        self._stream.wait_for(stream)
        self._unchecked = True
        self._upload(run, as_bytes=out.dtype == np.uint8)
        self._launch(whole=True, steps=len(run.table) - run.first)
        self._stream.copy(out.address, self._result + self._head, out.nbytes)
        self._stream.hold_back(stream)

    @_on_its_gpu
    def wait_for(self, stream: int) -> None:
        """Let the next run wait for a caller's stream: see `Session.wait_for`."""
        self._stream.wait_for(stream)

    @_on_its_gpu
    def synchronize(self) -> None:
        """Wait for what was enqueued: see `Session.synchronize`."""
        if self._unchecked:
            self._collect(0)

    @_on_its_gpu
    def evaluate(self, x: NDArray[np.float32], mask: NDArray[np.float32], timestep: float) -> NDArray[np.float32]:
        """Evaluate the network once: see `Session.evaluate`."""
        self.synchronize()
        self._stream.synchronize()  # a run that was started and not finished may still be uploading
        sample = np.ascontiguousarray(np.concatenate([x, mask], axis=1), np.float32)
        times = np.full(len(x), timestep, np.float32)
        o = np.empty(self._out.shape, np.float32)
        self._reserve(_padded(sample.nbytes) + _padded(times.nbytes) + o.nbytes)
        at = 0
        for buffer, values in ((self._sample, sample), (self._timestep, times)):
            staged = self._host_inputs[at : at + values.nbytes]
            staged[:] = values.reshape(-1).view(np.uint8)
            self._stream.upload(buffer.address, staged)
            at += _padded(values.nbytes)
        self.enqueue_call()
        found = self._host_inputs[at : at + o.nbytes]
        self._stream.download(found, self._out.address)
        self._stream.synchronize()
        o[...] = found.view(np.float32).reshape(o.shape)
        return o

    @_on_its_gpu
    def close(self) -> None:
        """Give the graphs and the memory back."""
        self._stream.synchronize()
        with ALLOCATING:  # what the network holds goes with its bound call
            self._drop_graphs()
            del self._call
            self._stream.close()

    @_on_its_gpu
    def call(self, times: int = 1) -> None:
        """Evaluate the network on the session's buffers, and wait: see `Session.call`."""
        for _ in range(times):
            self.enqueue_call()
        self._wait()

    @_on_its_gpu
    def profile(self, runs: int) -> LayerProfile:
        """Time the network's layers: see `Session.profile`."""
        if not isinstance(self._network, CudaProfiledNetwork):
            raise no_profile(self._info)
        self.synchronize()
        self._stream.synchronize()
        return self._network.profile(self._sample, self._timestep, self._out, runs, self._stream.handle)

    @in_range("steps")
    def _launch(self, *, whole: bool, steps: int) -> None:
        """Enqueue steps, with beginning and end if it is to be the whole loop: as one graph where that can be."""
        if self._capturable:
            self._graph(whole, steps).launch()
        else:
            self._loop(whole, steps)

    def _loop(self, whole: bool, steps: int) -> None:
        if whole:
            self._begin()
        for _ in range(steps):
            self.enqueue_call()
            self._stream.launch(Kernel.STEP, self._grid, _BLOCK, self._inputs)
        if whole:
            self._finish()

    @in_range("begin")
    def _begin(self) -> None:
        self._stream.launch(Kernel.BEGIN, self._grid, _BLOCK, self._inputs)

    @in_range("finish")
    def _finish(self) -> None:
        self._stream.launch(Kernel.FINISH, self._grid, _BLOCK, self._inputs)

    @in_range("network")
    def enqueue_call(self) -> None:
        """Enqueue one evaluation of the network on the session's buffers; the session's GPU must be current."""
        self._call()
        self._called = True

    def _graph(self, whole: bool, steps: int) -> DeviceGraph:
        """Return captured steps; the latest few graphs are kept."""
        key = (whole, steps)
        if key not in self._graphs:
            if not self._called:
                # What an engine does at its first call cannot be captured; nor may it see a timestep that is none.
                self._begin()
                self.enqueue_call()
                self._stream.synchronize()
            while len(self._graphs) >= _MAX_GRAPHS:
                self._graphs.popitem(last=False)[1].close()
            self._graphs[key] = self._stream.capture(lambda: self._loop(whole, steps))
        self._graphs.move_to_end(key)
        return self._graphs[key]

    @in_range("upload")
    def _upload(self, run: Run, *, as_bytes: bool) -> None:
        """Lay out what varies from image to image, behind the state that points to it, and upload it in one copy."""
        shape, rows = self._shape, run.table.rows
        arrays: dict[str, NDArray[np.generic] | DeviceArray | None] = {
            "encode_tables": run.encode_tables,
            "seeds": np.array(run.seeds, np.uint64),
            "rows": np.broadcast_to(rows, (self._batch, *rows.shape[-2:])),
            "timesteps": run.table.timesteps.astype(np.float32),
            "label_maps": run.label_maps,
            "start": run.noise,
            "last_x0": run.last_x0,
            "entries": run.entries,
            "real": run.real,
            "pixel_map": run.pixel_map,
        }
        given = {name: array for name, array in arrays.items() if array is not None}
        offsets, size = {}, _padded(STATE.itemsize)
        for name, array in given.items():
            offsets[name] = size
            size += _padded(array.nbytes * self._copies(array))
        self._reserve(size)
        state = np.zeros((), STATE)
        state["images"], state["lanes"] = self._batch, self._lanes
        state["channels"], state["mask_channels"] = shape.image_channels, shape.mask_channels
        state["pixels"], state["labels"] = shape.height * shape.width, run.encode_tables.shape[-2]
        state["steps"], state["first"], state["bytes"] = len(run.table), run.first, as_bytes
        for name, offset in offsets.items():
            state[name] = self._inputs + offset
        for name, buffer in (("sample", self._sample), ("timestep", self._timestep), ("out", self._out)):
            state[name] = buffer.address
        state["x0"], state["result"] = self._x0.address, self._result + self._head
        state["step"], state["finished"], state["status"] = (self._result + offset for offset in (0, 4, _COUNTERS))
        if self._uploaded is not None:
            self._uploaded.wait()
        self._host_inputs[: STATE.itemsize] = np.frombuffer(state.tobytes(), np.uint8)
        for name, array in given.items():
            if isinstance(array, np.ndarray):
                _bytes_of(self._host_inputs, offsets[name], array)[...] = array
        self._stream.upload(self._inputs, self._host_inputs[:size])
        self._uploaded = self._stream.mark()
        for name, array in given.items():
            if isinstance(array, DeviceArray):
                for copy in range(self._copies(array)):
                    to = self._inputs + offsets[name] + copy * array.nbytes
                    self._stream.copy(to, array.address, array.nbytes)

    def _copies(self, array: NDArray[np.generic] | DeviceArray) -> int:
        """Return how often an array is laid out: one guest may serve all images."""
        return self._batch if isinstance(array, DeviceArray) and array.shape[0] == 1 else 1

    def _reserve(self, size: int) -> None:
        """Make the block of inputs at least so large; graphs hold its address."""
        if size <= len(self._host_inputs):
            return
        self._stream.synchronize()
        self._drop_graphs()
        self._uploaded = None
        self._inputs, self._host_inputs = self._stream.allocate(2 * size), self._stream.pinned(2 * size)

    @in_range("download")
    def _collect(self, size: int) -> Bytes:
        """Download status and the result's first bytes, wait, and check."""
        found = self._host_result[: self._head + size]
        self._stream.download(found, self._result)
        self._stream.clear(self._result + _COUNTERS, self._head - _COUNTERS)
        self._wait()
        self._unchecked = False
        status = found[_COUNTERS : _COUNTERS + 4 * self._batch].view(np.uint32)
        if (status & _LABEL_OUTSIDE).any():
            raise LabelMapError("a label map in device memory holds a label outside the classes")
        if (status & _NOT_FINITE).any():
            advice = "" if self._info.precision is Precision.FP32 else ": try precision='fp32'"
            raise EngineError(f"{self._info.engine} in {self._info.precision} gave an image that is not finite{advice}")
        return found[self._head :]

    def _wait(self) -> None:
        started = time.perf_counter()
        self._stream.synchronize()
        self._waited_s += time.perf_counter() - started

    def _fetch(self, out: Pixels) -> None:
        images = self._collect(out.nbytes)
        out[...] = images.view(out.dtype).reshape(out.shape)

    def _drop_graphs(self) -> None:
        while self._graphs:
            self._graphs.popitem()[1].close()

    def _buffer(self, *shape: int) -> Buffer:
        return Buffer(self._stream.allocate(4 * int(np.prod(shape))), shape)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _bytes_of(block: Bytes, offset: int, array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the part of a block that holds an array, as an array of its type and shape."""
    return block[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
