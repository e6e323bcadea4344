"""How fast engines draw a bundle's images, and how much of an image's time the runtime itself takes.

All engines run in one process and in turn, each image followed by the same bound network calls alone: what an image
takes beyond its calls is the runtime's overhead. First images and peak memory come from fresh processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from seggd_engines.catalog import ENGINES
from seggd_engines.host import HostSession
from seggd_engines.network import EngineInfo, Step
from seggd_rt.bench_report import ALL, EngineFigures, Overhead, Report, Settings, this_machine
from seggd_rt.bundle import Bundle
from seggd_rt.cold_start import ColdRequest, ColdStart, cold_start
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.generator import Generator
from seggd_rt.loading import load
from seggd_rt.timing import host_seconds, interleaved, spread


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
        self._outside_seconds: list[float] = []
        self._network_seconds = 0.0
        with generator._pool.lend(batch) as session:
            if not isinstance(session, HostSession):
                raise EngineError(f"network calls of a {type(session).__name__} cannot be timed on the host")
            # The generator lends this very session for every batch of this size, as nobody else uses it meanwhile.
            self._network = session.call
            session.call = self._timed_network

    @property
    def contenders(self) -> dict[str, Callable[[], None]]:
        """What `interleaved` is to run."""
        return {"image": self.draw, "calls": self.call}

    def draw(self) -> None:
        """Draw a batch; keep how long each step took, and what passed outside the network."""
        self._network_seconds = 0.0
        marks = [time.perf_counter()]

        def mark(_: Step) -> None:
            marks.append(time.perf_counter())

        self.generator(self._masks, steps=self.steps, on_step=mark)
        self._outside_seconds.append(time.perf_counter() - marks[0] - self._network_seconds)
        # The first step also encodes the mask and draws the start: it counts only where there is no other.
        self._step_seconds.append(np.diff(marks[1:] if self.steps > 1 else marks).tolist())

    def call(self) -> None:
        """Make the network calls of a batch, on the buffers it is drawn in."""
        for _ in range(self.steps):
            self._network()

    def settle(self) -> None:
        """Make two of them."""
        for _ in range(2):
            self._network()

    def _timed_network(self) -> None:
        self._network_seconds += host_seconds(self._network)

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
        rounds = len(images)  # warm-ups came before them
        timed_steps = [step for image in self._step_seconds[-rounds:] for step in image]
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
            overhead=overhead(images, calls, self._outside_seconds[-rounds:], self.steps),
            cold=cold,
        )


def overhead(images: list[float], calls: list[float], outside: list[float], steps: int) -> Overhead:
    """Compare images with their calls, round by round.

    Parameters
    ----------
    images, calls
        In seconds, of the same rounds.
    outside
        In seconds, of each image: what passed outside its own network calls.
    steps
        Steps of an image.
    """
    image = float(np.median(images))
    beyond = np.asarray(images) - np.asarray(calls)
    low, middle, high = (float(value) / image for value in np.percentile(beyond, (25, 50, 75)))
    of_runtime = float(np.median(outside))
    return Overhead(
        calls_ms=1e3 * float(np.median(calls)),
        percent=100 * middle,
        quartiles_percent=(100 * low, 100 * high),
        outside_percent=100 * of_runtime / image,
        outside_step_us=1e6 * of_runtime / steps,
    )


def _turn(name: str, turn: int, repeats: int) -> str:
    return f"{name}: warm-up" if turn < 0 else f"{name}: {turn + 1} of {repeats}"
