"""How fast engines draw a bundle's images, and how much of an image's time the runtime itself takes.

All engines run in one process and in turn, each image followed by the same bound network calls alone: what an image
takes beyond its calls is the runtime's overhead. First images and peak memory come from fresh processes. On a GPU an
image's steps are one graph, so single ones are timed by the bare calls. Layers are timed when no more images are, since
engines are slower while they count.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np

from seggd_rt.bench.cold_start import ColdRequest, ColdStart, cold_start
from seggd_rt.bench.profile import step_profile
from seggd_rt.bench.report import ALL, EngineFigures, Overhead, Report, Settings, this_machine
from seggd_rt.bundle import Bundle
from seggd_rt.engine import DeviceKind, EngineInfo, LayerProfile, Session, Step, interleaved, registry, spread
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.inference import Generator, load_bundle


def bench(
    path: str | Path,
    settings: Settings,
    say: Callable[[str], None] = lambda line: None,
    *,
    require_signature: str | Path | None = None,
) -> Report:
    """Measure a bundle.

    Parameters
    ----------
    path
        The bundle's folder.
    settings
        What to measure.
    say
        Told what is done now.
    require_signature
        As for `seggd_rt.load`; cold starts require it too.

    Raises
    ------
    OptionError
        A setting is outside its range.
    SeggdError
        What `seggd_rt.load` raises; with "all", engines that cannot run are named in the report, unless none can.
    """
    bundle = Bundle.open(path, require_signature=require_signature)
    machine = this_machine()
    steps = bundle.manifest.defaults.steps if settings.steps is None else settings.steps
    with ExitStack() as opened:
        subjects = {}
        skipped = {each.name: each.reason for each in registry.failed_engines()} if settings.engine == ALL else {}
        for name in [engine.name for engine in registry.engines()] if settings.engine == ALL else [settings.engine]:
            say(f"{name}: loading and checking")
            try:
                generator = opened.enter_context(
                    load_bundle(
                        bundle,
                        engine=name,
                        precision=settings.precision,
                        device=settings.device,
                        threads=settings.threads,
                    )
                )
            except EngineError as error:
                if settings.engine != ALL:
                    raise
                skipped[name] = str(error)
                continue
            subject = subject_of(generator, steps, settings.batch)
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
        engines: list[EngineFigures] = []
        unprofiled: dict[str, str] = {}
        for name, subject in subjects.items():
            say(f"{name}: a cold start")
            cold = subject.cold_start(settings.threads, require_signature)
            figures = subject.figures(seconds[f"{name} image"], seconds[f"{name} calls"], cold)
            if settings.profile:
                say(f"{name}: a profile")
                try:
                    profile = step_profile(subject.profile(settings.repeats))
                    figures = msgspec.structs.replace(figures, profile=profile)
                except EngineError as error:
                    unprofiled[figures.engine] = str(error)
            engines.append(figures)
    return Report(
        bundle=bundle.path.name,
        bundle_sha256=bundle.sha256,
        machine=machine,
        settings=settings,
        steps=steps,
        engines=tuple(engines),
        skipped=skipped,
        unprofiled=unprofiled,
    )


def subject_of(generator: Generator, steps: int, batch: int) -> Subject:
    """Return what is timed of a generator, on the device that it uses."""
    # The generator takes this very session for every batch of this size, as nobody else uses it meanwhile.
    with generator.acquire(batch) as session:
        of_device = HostSubject if generator.engine.device == DeviceKind.CPU else DeviceSubject
        return of_device(generator, steps, batch, session)


class Subject(ABC):
    """A generator, and what is timed of it: images, and the network calls of an image alone."""

    def __init__(self, generator: Generator, steps: int, batch: int, session: Session) -> None:
        self.generator, self.steps, self.batch, self._session = generator, steps, batch, session
        label_map = generator.bundle.golden.label_map
        self._masks = np.broadcast_to(label_map, (batch, *label_map.shape)) if batch > 1 else label_map

    @property
    def contenders(self) -> dict[str, Callable[[], None]]:
        """What `interleaved` is to run."""
        return {"image": self.draw, "calls": self.call}

    @abstractmethod
    def draw(self) -> None:
        """Draw a batch."""

    def call(self) -> None:
        """Make the network calls of a batch, on the buffers in which it is generated."""
        self._session.call(self.steps)

    def settle(self) -> None:
        """Make two of them."""
        self._session.call(2)

    @abstractmethod
    def step_seconds(self, calls: list[float]) -> list[float]:
        """Return how long single steps of the latest batches took, given how long their calls took."""

    @abstractmethod
    def overhead(self, images: list[float], calls: list[float]) -> Overhead:
        """Compare the latest batches with their calls, round by round, in seconds."""

    def profile(self, runs: int) -> LayerProfile:
        """Time the network's layers, on the buffers of the latest batch."""
        return self._session.profile(runs)

    def cold_start(self, threads: int | None, require_signature: str | Path | None = None) -> ColdStart:
        """Draw the first batch in a fresh process, as this generator does. Its self-check is remembered from here."""
        info = self.generator.engine
        return cold_start(
            ColdRequest(
                bundle=str(self.generator.bundle.path),
                engine=info.engine,
                precision=info.precision,
                device=info.device,
                threads=threads,
                steps=self.steps,
                batch=self.batch,
                require_signature=None if require_signature is None else str(require_signature),
            )
        )

    def figures(self, images: list[float], calls: list[float], cold: ColdStart) -> EngineFigures:
        """Summarise durations in seconds of timed batches and their calls, round by round."""
        info: EngineInfo = self.generator.engine
        image = spread(images)
        return EngineFigures(
            engine=info.engine,
            version=info.version,
            device=info.device,
            device_name=info.device_name,
            precision=info.precision,
            threads=info.threads,
            notes=info.notes,
            step=spread(self.step_seconds(calls)),
            image=image,
            images_per_second=1e3 * self.batch / image.p50_ms,
            overhead=self.overhead(images, calls),
            cold=cold,
        )


class HostSubject(Subject):
    """One on the CPU: each step is timed, and the time outside the network's calls."""

    def __init__(self, generator: Generator, steps: int, batch: int, session: Session) -> None:
        super().__init__(generator, steps, batch, session)
        self._step_seconds: list[list[float]] = []
        self._outside_seconds: list[float] = []

    def draw(self) -> None:
        """Generate a batch; keep how long each step took, and what passed outside the network."""
        waited, marks = self._session.waited_s, [time.perf_counter()]

        def mark(_: Step) -> None:
            marks.append(time.perf_counter())

        self.generator(self._masks, steps=self.steps, on_step=mark)
        self._outside_seconds.append(time.perf_counter() - marks[0] - (self._session.waited_s - waited))
        # The first step also encodes the mask and draws the start: it counts only where there is no other.
        self._step_seconds.append(np.diff(marks[1:] if self.steps > 1 else marks).tolist())

    def step_seconds(self, calls: list[float]) -> list[float]:
        """Return the steps of as many batches as there were calls: warm-ups came before them."""
        return [step for image in self._step_seconds[-len(calls) :] for step in image]

    def overhead(self, images: list[float], calls: list[float]) -> Overhead:
        """Compare, and tell what passed outside the network."""
        return overhead(images, calls, outside=self._outside_seconds[-len(images) :], steps=self.steps)


class DeviceSubject(Subject):
    """One on a GPU, whose loop is one graph: what the host does while it does not wait is timed."""

    def __init__(self, generator: Generator, steps: int, batch: int, session: Session) -> None:
        super().__init__(generator, steps, batch, session)
        self._host_seconds: list[float] = []

    def draw(self) -> None:
        """Generate a batch; keep what the host did meanwhile."""
        waited, started = self._session.waited_s, time.perf_counter()
        self.generator(self._masks, steps=self.steps)
        self._host_seconds.append(time.perf_counter() - started - (self._session.waited_s - waited))

    def step_seconds(self, calls: list[float]) -> list[float]:
        """Return the bare calls: a graph's steps cannot be told apart."""
        return [seconds / self.steps for seconds in calls]

    def overhead(self, images: list[float], calls: list[float]) -> Overhead:
        """Compare, and tell what the host did."""
        return overhead(images, calls, host=self._host_seconds[-len(images) :], steps=self.steps)


def overhead(
    images: list[float],
    calls: list[float],
    *,
    steps: int,
    outside: list[float] | None = None,
    host: list[float] | None = None,
) -> Overhead:
    """Compare images with their calls, round by round.

    Parameters
    ----------
    images, calls
        In seconds, of the same rounds.
    steps
        Steps of an image.
    outside
        In seconds, of each image: what passed outside its own network calls, where that is known.
    host
        In seconds, of each image: what the host did while it did not wait for a GPU, where there is one.
    """
    image = float(np.median(images))
    beyond = np.asarray(images) - np.asarray(calls)
    low, middle, high = (float(value) / image for value in np.percentile(beyond, (25, 50, 75)))
    of_runtime = None if outside is None else float(np.median(outside))
    return Overhead(
        calls_ms=1e3 * float(np.median(calls)),
        percent=100 * middle,
        quartiles_percent=(100 * low, 100 * high),
        outside_percent=None if of_runtime is None else 100 * of_runtime / image,
        outside_step_us=None if of_runtime is None else 1e6 * of_runtime / steps,
        host_ms=None if host is None else 1e3 * float(np.median(host)),
    )


def _turn(name: str, turn: int, repeats: int) -> str:
    return f"{name}: warm-up" if turn < 0 else f"{name}: {turn + 1} of {repeats}"
