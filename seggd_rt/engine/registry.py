"""The engines that are installed.

A package registers its engines as entry points of the group `seggd_rt.engines`, in its `pyproject.toml`:

    [project.entry-points."seggd_rt.engines"]
    mine = "my_package:MyEngine"

An entry point names a class or function that returns an `Engine` when it is called without arguments. The entry point
and the engine have the same name.
"""

from __future__ import annotations

import difflib
import importlib.metadata
from dataclasses import dataclass
from functools import cache

from seggd_rt.engine.contract import Engine
from seggd_rt.errors import EngineUnavailableError, OptionError

GROUP = "seggd_rt.engines"


@dataclass(frozen=True)
class FailedEngine:
    """An entry point that gives no engine.

    Attributes
    ----------
    name
        The entry point's name.
    package
        The package that registers it.
    reason
        Why it gives no engine, in one line.
    """

    name: str
    package: str
    reason: str


def engines() -> tuple[Engine, ...]:
    """Return the installed engines, in the order in which `auto` tries them."""
    return _load()[0]


def failed_engines() -> tuple[FailedEngine, ...]:
    """Return the entry points that give no engine."""
    return _load()[1]


def package_of(engine: Engine) -> str:
    """Return the top-level package that an engine comes from."""
    return type(engine).__module__.partition(".")[0]


def find_engine(name: str) -> Engine:
    """Return the engine of a name.

    Raises
    ------
    OptionError
        No engine has this name; the message suggests the nearest one.
    EngineUnavailableError
        The engine is registered, but gives an error when it is loaded.
    """
    by_name = {engine.name: engine for engine in engines()}
    if name in by_name:
        return by_name[name]
    for failed in failed_engines():
        if failed.name == name:
            raise EngineUnavailableError(f"engine {name} of {failed.package} {failed.reason}")
    near = difflib.get_close_matches(name, by_name, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(by_name)} and auto"
    raise OptionError(f"there is no engine '{name}': {hint}")


@cache
def _load() -> tuple[tuple[Engine, ...], tuple[FailedEngine, ...]]:
    """Load every entry point once: the engines by rank, and what gives none."""
    found: dict[str, Engine] = {}
    failed = []
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist.name if point.dist is not None else point.value
        try:
            engine: Engine = point.load()()
            if engine.name != point.name:
                raise ValueError(f"the engine calls itself {engine.name!r}")
            if engine.name in found:
                raise ValueError("another package registers an engine of this name")
        except Exception as error:  # noqa: BLE001  # another package's code: `doctor` and `find_engine` report it
            failed.append(FailedEngine(point.name, package, f"cannot be loaded ({type(error).__name__}: {error})"))
        else:
            found[engine.name] = engine
    return tuple(sorted(found.values(), key=lambda engine: (engine.rank, engine.name))), tuple(failed)
