"""From a graph to a plan: found in the cache, or built once and kept there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from seggd_engines.tensorrt.build import build_plan
from seggd_engines.tensorrt.flavor import Flavour
from seggd_engines.tensorrt.options import BuildOptions
from seggd_engines.tensorrt.plan_cache import PlanCache, StoredPlan
from seggd_engines.tensorrt.plan_key import PlanKey
from seggd_engines.tensorrt.progress import OnProgress
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import NetworkShape
from seggd_rt.files import check_writable, write_file
from seggd_rt.gpu import Gpu


def newest_plan(
    cache: PlanCache, graph_sha256: str, flavour: Flavour, precision: Precision, version: str, gpu: Gpu
) -> StoredPlan | None:
    """Return the plan of a graph that was asked for last and that runs here, whatever its batch profile; None without.

    Raises
    ------
    EngineError
        Others may write to the cache.
    """

    def fits(key: PlanKey) -> bool:
        wanted = (graph_sha256, flavour, precision)
        return (key.graph_sha256, key.flavour, key.precision) == wanted and key.runs(version, gpu)

    return cache.find(fits)


def find_or_build(
    cache: PlanCache,
    graph: OnnxGraph,
    shape: NetworkShape,
    options: BuildOptions,
    *,
    gpu: Gpu | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    on_progress: OnProgress | None = None,
) -> StoredPlan:
    """Return the plan of a graph and options; build it where the cache has none. Of several processes one builds.

    Parameters
    ----------
    cache
        Where plans are kept.
    graph, shape, options
        See `build_plan`.
    gpu
        The GPU to build on, where the options need one.
    folder
        Where the plan is to lie instead of the cache.
    say
        Told in a line what takes long.
    on_progress
        See `build_plan`.

    Raises
    ------
    OutputError
        The plan cannot be written.
    EngineError
        It cannot be built: see `build_plan`.
    """
    if folder is not None:
        check_writable(folder)  # before a build, which takes minutes
    version = options.flavour.load().version
    key = PlanKey.of(graph.digest, options, version, gpu)
    name = graph.origin

    def there(*, quiet: bool = False) -> StoredPlan | None:
        plan = cache.find(lambda other: other == key, quiet=quiet)
        if plan is None:
            return None
        if folder is not None and plan.path.parent != folder.resolve():
            return cache.keep(key, name, plan.data, folder)
        cache.ask_again(plan)
        return plan

    found = there()
    if found is not None:
        return found
    # Builds that measure take turns on their GPU: they would disturb each other.
    turn = key.stem if key.gpu is None else f"build-{_short(key.gpu)}"
    with cache.lock(turn, on_wait=lambda: say("waiting for another process that builds a plan")):
        found = there(quiet=True)
        if found is not None:
            return found
        say(f"building the {options.flavour.label} plan of {name} in {options.precision}, batch {options.batch}")
        timing = None
        if options.flavour is Flavour.TENSORRT:
            timing = cache.side_file(f"timing-{_short(f'{version} {key.gpu} {key.capability}')}.bin")
        measured = timing.read_bytes() if timing is not None and timing.is_file() else b""
        plan = build_plan(graph, shape, options, gpu=gpu, timing_cache=measured, on_progress=on_progress)
        if timing is not None and plan.timing_cache:
            write_file(timing, plan.timing_cache)
        return cache.keep(key, name, plan.data, folder)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
