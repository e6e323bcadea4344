"""Which NVIDIA GPUs this machine has; where there is none to use, why, and what to do.

The driver is asked through cuda.bindings, which the package cuda-core brings: its calls return codes, so that a machine
without a driver, or without a GPU, needs no exception of a vendor to be told apart.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.optional import require

_DEVICE = re.compile(r"cuda:(\d+)")
_CORE = "cuda-core"
_OLDEST_CORE = (1, 0)
"""Of cuda-core; CuPy, Numba and PyTorch are content with older ones, and bring them."""
_NO_DEVICE = "CUDA_ERROR_NO_DEVICE"
_OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes
    ----------
    ordinal
        Its number, as in the device "cuda:0".
    name
        What its maker calls it.
    compute_capability
        Major and minor.
    memory_bytes
        All of its memory.
    """

    ordinal: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int

    @property
    def capability(self) -> str:
        """The compute capability as it is written: "8.9"."""
        return ".".join(map(str, self.compute_capability))


def find_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA programs can use here, in CUDA's order; none where `why_no_gpu` says why."""
    return _look()[0]


def why_no_gpu() -> str | None:
    """Return why no GPU can be used here and what to do, in one line; None where there is one."""
    return _look()[1]


def find_gpu(device: str) -> Gpu:
    """Return the GPU of a device's name.

    Parameters
    ----------
    device
        As "cuda:0".

    Raises
    ------
    EngineUnavailableError
        It is not there, or no GPU is; the message says what to do.
    """
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise EngineUnavailableError(f"this engine runs on an NVIDIA GPU, as device 'cuda:0', not on {device}")
    gpus, reason = _look()
    if reason is not None:
        raise EngineUnavailableError(reason)
    ordinal = int(match[1])
    if ordinal >= len(gpus):
        there = ", ".join(f"cuda:{gpu.ordinal} ({gpu.name})" for gpu in gpus)
        raise EngineUnavailableError(f"there is no device {device}: this machine has {there}")
    return gpus[ordinal]


def make_current(ordinal: int) -> None:
    """Make a GPU's primary context the calling thread's own.

    Raises
    ------
    EngineError
        The driver refuses.
    """
    drive(driver().cuCtxSetCurrent(_primary_context(ordinal)), "use its context")


@contextmanager
def on_gpu(ordinal: int) -> Iterator[None]:
    """Make a GPU's primary context the calling thread's own for a block; then the thread has again what it had.

    Which GPU is current is the caller's affair: PyTorch's next tensor is made on it.

    Raises
    ------
    EngineError
        The driver refuses.
    """
    calls, before = driver(), _current_context()
    make_current(ordinal)
    try:
        yield
    finally:
        calls.cuCtxSetCurrent(before)


def refuse_foreign_context() -> None:
    """Refuse to go on in a thread whose CUDA context is somebody's own, not one that a GPU's users share.

    PyTorch, CuPy and Numba share the primary context; PyCUDA's `autoinit` makes one of its own, whose memory others do
    not see.

    Raises
    ------
    EngineError
        The message says how to share.
    """
    if not find_gpus():  # and the driver is started
        return
    current = int(_current_context())
    # Of its own GPU alone: a primary context takes memory on each GPU that is asked for one.
    if current and current != int(_primary_context(int(drive(driver().cuCtxGetDevice(), "name its device")))):
        raise EngineError(
            "this thread is in a CUDA context of its own, whose memory cannot be shared: use the primary context; with "
            "PyCUDA, import pycuda.autoprimaryctx in place of pycuda.autoinit"
        )


def drive(result: tuple[Any, ...], purpose: str) -> Any:
    """Return what a call of the driver gave.

    Parameters
    ----------
    result
        The driver's code, then at most one value.
    purpose
        What the call was for.

    Raises
    ------
    EngineError
        The code is not success.
    """
    code, *values = result
    if int(code) != 0:
        name = getattr(code, "name", str(code))
        advice = ": choose a smaller batch, or close other programs on this GPU" if name == _OUT_OF_MEMORY else ""
        raise EngineError(f"the GPU cannot {purpose} ({name}){advice}")
    return values[0] if values else None


def _current_context() -> Any:
    return drive(driver().cuCtxGetCurrent(), "name its context")


@cache
def _primary_context(ordinal: int) -> Any:
    """Return the context that a GPU's users in this process share; it is held until the process ends."""
    calls = driver()
    device = drive(calls.cuDeviceGet(ordinal), "be found")
    return drive(calls.cuDevicePrimaryCtxRetain(device), "make a context")


@cache
def _look() -> tuple[tuple[Gpu, ...], str | None]:
    bindings = importlib.util.find_spec("cuda") is not None and importlib.util.find_spec("cuda.bindings") is not None
    core = _core_version() if bindings else None
    if core is None:
        return (), "the package cuda-core, by which GPUs are used, is not installed: pip install 'cuda-core[cu13]'"
    if tuple(int(part) for part in re.findall(r"\d+", core)[:2]) < _OLDEST_CORE:
        oldest = ".".join(map(str, _OLDEST_CORE))
        return (), f"cuda-core {core} is too old: pip install 'cuda-core[cu13]>={oldest}'"
    calls = driver()
    try:
        (code,) = calls.cuInit(0)
    except RuntimeError:  # cuda.pathfinder's, where there is no libcuda
        return (), "no NVIDIA driver is installed here: install one, or run on a machine with an NVIDIA GPU"
    name = getattr(code, "name", str(code))
    if name == _NO_DEVICE:
        return (), "the NVIDIA driver finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES"
    if int(code) != 0:
        return (), f"the NVIDIA driver does not start ({name}): check nvidia-smi, and update the driver"
    count = drive(calls.cuDeviceGetCount(), "be counted")
    return tuple(_describe(calls, ordinal) for ordinal in range(count)), None


def _core_version() -> str | None:
    try:
        return importlib.metadata.version(_CORE)
    except importlib.metadata.PackageNotFoundError:
        return None


def _describe(calls: Any, ordinal: int) -> Gpu:
    attribute = calls.CUdevice_attribute
    device = drive(calls.cuDeviceGet(ordinal), "be found")
    major, minor = (
        drive(calls.cuDeviceGetAttribute(which, device), "be described")
        for which in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    name = drive(calls.cuDeviceGetName(128, device), "be named").partition(b"\0")[0].decode(errors="replace")
    return Gpu(ordinal, name, (major, minor), drive(calls.cuDeviceTotalMem(device), "be measured"))


@cache  # asked for at every call of a session
def driver() -> Any:
    """Return `cuda.bindings.driver`, the calls of the CUDA driver.

    Raises
    ------
    MissingExtraError
        cuda-core is not installed.
    """
    return require("cuda.bindings.driver", extra="cuda", feature="running on a GPU")
