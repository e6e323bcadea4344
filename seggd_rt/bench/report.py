"""What a benchmark states: its settings, the machine, and every engine's figures; as JSON, `seggd-bench/1`."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import msgspec

import seggd_rt
from seggd_rt.bench.cold_start import ColdStart
from seggd_rt.bench.profile import StepProfile
from seggd_rt.engine import Spread, this_cpu
from seggd_rt.errors import OptionError
from seggd_rt.files import schema_of

SCHEMA = "seggd-bench/1"
ALL = "all"
_PACKAGES = ("seggd-rt", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "diffusers")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, and how often.

    Attributes
    ----------
    engine
        An engine's name, "auto", or "all": every one that can run here.
    precision, device
        As `seggd_rt.load` takes them.
    steps
        Steps of an image; the bundle's default if None.
    batch
        Images drawn at a time.
    threads
        CPU threads of a network call; the engine's choice if None.
    repeats
        Timed images, or batches of them, of each engine.
    profile
        Whether to tell, when all is timed, where a step's time goes on each engine; of `repeats` steps.
    """

    engine: str = ALL
    precision: str = "auto"
    device: str = "auto"
    steps: int | None = None
    batch: int = 1
    threads: int | None = None
    repeats: int = 10
    profile: bool = False

    def __post_init__(self) -> None:
        """Check every field's range."""
        for name in ("batch", "repeats"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured; `load_average` is that of the last minute, None where the system does not tell."""

    device: str
    cores: int
    features: tuple[str, ...] | None
    platform: str
    python: str
    versions: dict[str, str]
    load_average: float | None


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """What the runtime adds to a network's calls, found in two ways.

    Attributes
    ----------
    calls_ms
        Median of as many network calls as an image has steps, made alone, on the image's own buffers.
    percent
        Images and such calls alternate: the median of (image - calls), in percent of the median image. What the
        runtime costs the network, by its use of the caches, is in it; so is whatever the machine did meanwhile.
    quartiles_percent
        The quartiles of these differences: how far to trust `percent`.
    outside_percent
        The median part of an image that passes outside its own network calls, in percent of the median image. None on a
        GPU, where all steps are one graph.
    outside_step_us
        The same a step, in microseconds.
    host_ms
        On a GPU: what the host does for an image while it does not wait, in milliseconds; None on the CPU.
    """

    calls_ms: float
    percent: float
    quartiles_percent: tuple[float, float]
    outside_percent: float | None = None
    outside_step_us: float | None = None
    host_ms: float | None = None


class EngineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one engine."""

    engine: str
    version: str
    device: str
    device_name: str
    precision: str
    threads: int | None
    notes: tuple[str, ...]
    step: Spread
    image: Spread
    """Of one call: `batch` images."""
    images_per_second: float
    overhead: Overhead
    cold: ColdStart
    profile: StepProfile | None = None
    """Where a step's time goes, if that was asked for and the engine tells it."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that one benchmark found."""

    schema: str = SCHEMA
    bundle: str
    bundle_sha256: str
    machine: Machine
    settings: Settings
    steps: int
    engines: tuple[EngineFigures, ...]
    skipped: dict[str, str]
    """Engines that could not be measured, and why."""
    unprofiled: dict[str, str] = {}
    """Engines that were measured and could not be profiled, and why."""

    def to_json(self) -> bytes:
        """Return the report as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def is_report(data: bytes) -> bool:
    """Say whether a file's bytes are a benchmark's report, of this version or another."""
    return schema_of(data).partition("/")[0] == SCHEMA.partition("/")[0]


def this_machine() -> Machine:
    """Describe this machine and what is installed on it."""
    cpu = this_cpu()
    return Machine(
        device=cpu.name,
        cores=cpu.usable_cores,
        features=cpu.features,
        platform=platform.platform(),
        python=platform.python_version(),
        versions={name: version for name in _PACKAGES if (version := _version(name)) is not None},
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def _version(package: str) -> str | None:
    if package == "seggd-rt":
        return seggd_rt.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
