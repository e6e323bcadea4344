"""How fast engines draw a bundle's images, and how much of an image's time the runtime itself takes.

All engines run in one process and in turn, each image followed by the same bound network calls alone: what an image
takes beyond its calls is the runtime's overhead. First images and peak memory come from fresh processes.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np

import seggd_rt
from seggd_engines.catalog import ENGINES
from seggd_engines.cpu import this_cpu
from seggd_engines.host import HostSession
from seggd_engines.network import EngineInfo, Step
from seggd_rt.bundle import Bundle
from seggd_rt.cold_start import ColdRequest, ColdStart, cold_start
from seggd_rt.errors import EngineError, EngineUnavailableError, OptionError
from seggd_rt.generator import Generator, load
from seggd_rt.timing import Spread, interleaved, spread

SCHEMA = "seggd-bench/1"
ALL = "all"
_PACKAGES = ("seggd-rt", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "diffusers")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, and how often.

    Attributes
    ----------
    engine
        An engine's name, "auto", or "all": every one that can run here.
    precision
        As `seggd_rt.load` takes it.
    steps
        Steps of an image; the bundle's default if None.
    batch
        Images drawn at a time.
    threads
        CPU threads of a network call; the engine's choice if None.
    repeats
        Timed images, or batches of them, of each engine.
    """

    engine: str = ALL
    precision: str = "auto"
    steps: int | None = None
    batch: int = 1
    threads: int | None = None
    repeats: int = 10

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
    """What the runtime adds to a network's calls: images and calls alternate, and their medians are compared.

    Attributes
    ----------
    calls_ms
        Median of as many network calls as an image has steps, on the same buffers.
    percent
        Median of (image - calls), in percent of the median image.
    quartiles_percent
        Its quartiles: how far to trust it.
    step_us
        The same a step, in microseconds.
    """

    calls_ms: float
    percent: float
    quartiles_percent: tuple[float, float]
    step_us: float


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

    def to_json(self) -> bytes:
        """Return the report as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


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


def bench(path: str | Path, settings: Settings, say: Callable[[str], None] = lambda line: None) -> Report:
    """Measure a bundle.

    Parameters
    ----------
    path
        The bundle's folder.
    settings
        What to measure.
    say
        Told what is done now.

    Raises
    ------
    OptionError
        A setting is outside its range.
    SeggdError
        What `seggd_rt.load` raises; with "all", engines that cannot run are named in the report, unless none can.
    """
    bundle = Bundle.open(path)
    machine = this_machine()
    steps = bundle.manifest.defaults.steps if settings.steps is None else settings.steps
    with ExitStack() as opened:
        subjects, skipped = {}, {}
        for name in [engine.name for engine in ENGINES] if settings.engine == ALL else [settings.engine]:
            say(f"{name}: loading and checking")
            try:
                generator = opened.enter_context(
                    load(path, engine=name, precision=settings.precision, threads=settings.threads)
                )
            except EngineError as error:
                if settings.engine != ALL:
                    raise
                skipped[name] = str(error)
                continue
            subject = Subject(generator, steps, settings.batch)
            subjects[f"{generator.engine.engine} {generator.engine.precision}"] = subject
        if not subjects:
            raise EngineUnavailableError("no engine can be measured here: " + "; ".join(skipped.values()))
        calls = {f"{name} {what}": call for name, s in subjects.items() for what, call in s.contenders.items()}
        seconds = interleaved(
            calls,
            settings.repeats,
            settle={f"{name} {what}": s.settle for name, s in subjects.items() for what in s.contenders},
            on_turn=lambda name, turn: say(_turn(name, turn, settings.repeats)),
        )
        engines = []
        for name, subject in subjects.items():
            say(f"{name}: a cold start")
            cold = subject.cold_start(settings.threads)
            engines.append(subject.figures(seconds[f"{name} image"], seconds[f"{name} calls"], cold))
    return Report(
        bundle=bundle.path.name,
        bundle_sha256=bundle.sha256,
        machine=machine,
        settings=settings,
        steps=steps,
        engines=tuple(engines),
        skipped=skipped,
    )


class Subject:
    """A generator, and what is timed of it: images, and the network calls of an image alone."""

    def __init__(self, generator: Generator, steps: int, batch: int) -> None:
        self.generator, self.steps, self.batch = generator, steps, batch
        label_map = generator.bundle.golden.label_map
        self._masks = np.broadcast_to(label_map, (batch, *label_map.shape)) if batch > 1 else label_map
        self._step_seconds: list[list[float]] = []

    @property
    def contenders(self) -> dict[str, Callable[[], None]]:
        """What `interleaved` is to run."""
        return {"image": self.draw, "calls": self.call}

    def draw(self) -> None:
        """Draw a batch, and keep how long each step took."""
        marks = [time.perf_counter()]

        def mark(_: Step) -> None:
            marks.append(time.perf_counter())

        self.generator(self._masks, steps=self.steps, on_step=mark)
        # The first step also encodes the mask and draws the start: it counts only where there is no other.
        self._step_seconds.append(np.diff(marks[1:] if self.steps > 1 else marks).tolist())

    def call(self) -> None:
        """Make the network calls of a batch, on the buffers it is drawn in."""
        self._call(self.steps)

    def settle(self) -> None:
        """Make two of them."""
        self._call(2)

    def _call(self, times: int) -> None:
        with self.generator._session(self.batch) as session:
            if not isinstance(session, HostSession):
                raise EngineError(f"network calls of a {type(session).__name__} cannot be timed on the host")
            for _ in range(times):
                session.call()

    def cold_start(self, threads: int | None) -> ColdStart:
        """Draw the first batch in a fresh process, as this generator does. Its self-check is remembered from here."""
        info = self.generator.engine
        return cold_start(
            ColdRequest(
                bundle=str(self.generator.bundle.path),
                engine=info.engine,
                precision=info.precision,
                threads=threads,
                steps=self.steps,
                batch=self.batch,
            )
        )

    def figures(self, images: list[float], calls: list[float], cold: ColdStart) -> EngineFigures:
        """Summarise durations in seconds of timed batches and their calls, round by round."""
        info: EngineInfo = self.generator.engine
        timed_steps = [step for image in self._step_seconds[-len(images) :] for step in image]
        image = spread(images)
        return EngineFigures(
            engine=info.engine,
            version=info.version,
            device=info.device,
            device_name=info.device_name,
            precision=info.precision,
            threads=info.threads,
            notes=info.notes,
            step=spread(timed_steps),
            image=image,
            images_per_second=1e3 * self.batch / image.p50_ms,
            overhead=overhead(images, calls, self.steps),
            cold=cold,
        )


def overhead(images: list[float], calls: list[float], steps: int) -> Overhead:
    """Compare images with their calls, both in seconds and of the same rounds."""
    beyond = 1e3 * (np.asarray(images) - np.asarray(calls))
    image_ms = float(np.median(images)) * 1e3
    low, middle, high = (float(value) for value in np.percentile(beyond, (25, 50, 75)))
    return Overhead(
        calls_ms=float(np.median(calls)) * 1e3,
        percent=100 * middle / image_ms,
        quartiles_percent=(100 * low / image_ms, 100 * high / image_ms),
        step_us=1e3 * middle / steps,
    )


def _turn(name: str, turn: int, repeats: int) -> str:
    return f"{name}: warm-up" if turn < 0 else f"{name}: {turn + 1} of {repeats}"


def _version(package: str) -> str | None:
    if package == "seggd-rt":
        return seggd_rt.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
