"""The two TensorRTs, which differ by the module that is imported and by what is named here.

TensorRT tunes on the GPU it builds for. TensorRT-RTX builds without any GPU, for GPUs from Turing's successors on, and
compiles the kernels when they are first used.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from types import ModuleType
from typing import Any

from seggd_rt.engine import FLOAT32
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.optional import require


class Flavour(StrEnum):
    """Which TensorRT; the value is the engine's name and the extra that installs it."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"

    @property
    def label(self) -> str:
        """What its maker calls it."""
        return "TensorRT-RTX" if self is Flavour.TENSORRT_RTX else "TensorRT"

    @property
    def module_name(self) -> str:
        """The module to import."""
        return self.value.replace("-", "_")

    @property
    def oldest(self) -> tuple[int, int]:
        """The oldest version that has what is used: strong typing on its own, and plans that can be captured."""
        return (1, 2) if self is Flavour.TENSORRT_RTX else (10, 12)

    @property
    def builds_without_gpu(self) -> bool:
        """Whether plans are built on machines without a GPU, for GPUs of several compute capabilities."""
        return self is Flavour.TENSORRT_RTX

    @property
    def compiles_at_run(self) -> bool:
        """Whether kernels are compiled when they are first used, and worth keeping."""
        return self is Flavour.TENSORRT_RTX

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec(self.module_name) is not None

    def load(self) -> TensorRT:
        """Import it.

        Raises
        ------
        MissingExtraError
            It is not installed.
        EngineUnavailableError
            It is broken, or too old.
        """
        if not self.installed:
            require(self.module_name, extra=self.value, feature=f"the {self} engine")
        return _load(self)


class TensorRT:
    """An imported TensorRT: its module, version and the one logger all its objects share."""

    def __init__(self, flavour: Flavour, module: ModuleType) -> None:
        self.flavour = flavour
        self.module: Any = module
        self.version = str(module.__version__)
        self.messages = Messages(flavour)
        self.logger = make_logger(self.module, self.messages)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The compute capabilities it can be told to build for, as "8.9"; none where it builds for the GPU here."""
        members = getattr(self.module, "ComputeCapability", None)
        if not self.flavour.builds_without_gpu or members is None:
            return ()
        found = (re.fullmatch(r"SM(\d+)(\d)", name) for name in members.__members__)
        return tuple(f"{match[1]}.{match[2]}" for match in found if match)


@dataclass
class Said:
    """What TensorRT said within a block: what failed, and what it warned of."""

    flavour: Flavour
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def failure(self, what: str) -> EngineError:
        """Return an error with what TensorRT said of it."""
        return EngineError(f"{self.flavour.label} {what}: {'; '.join(self.errors) or 'it does not say why'}")

    def pass_on_warnings(self) -> None:
        """Warn of what TensorRT warned of."""
        for line in self.warnings:
            warnings.warn(f"{self.flavour.label}: {line}", RuntimeWarning, stacklevel=2)


class Messages:
    """What TensorRT says, handed to whoever listens."""

    def __init__(self, flavour: Flavour) -> None:
        self._flavour = flavour
        self._listeners: list[Said] = []
        self._lock = threading.Lock()

    @contextmanager
    def heard(self) -> Iterator[Said]:
        """Collect what is said within a block, by any thread: a build has several."""
        said = Said(self._flavour)
        with self._lock:
            self._listeners.append(said)
        try:
            yield said
        finally:
            with self._lock:
                # By identity: two that heard nothing are equal.
                self._listeners = [listener for listener in self._listeners if listener is not said]

    def error(self, message: str) -> None:
        """Hand an error to every listener."""
        self._add("errors", message)

    def warning(self, message: str) -> None:
        """Hand a warning to every listener."""
        self._add("warnings", message)

    def _add(self, kind: str, message: str) -> None:
        line = tidy(message)
        with self._lock:
            for said in self._listeners:
                lines: list[str] = getattr(said, kind)
                if line not in lines:
                    lines.append(line)


def tidy(message: str) -> str:
    """Return a message as one line without the folders of the machine TensorRT was compiled on."""
    return re.sub(r"\bat /\S+?:\d+ ?", "", " ".join(message.split()))


def type_name(element: Any) -> str:
    """Return what an element type of TensorRT is called, `float32` as NumPy calls it."""
    return FLOAT32 if element.name == "FLOAT" else str(element.name)


def make_logger(module: Any, messages: Messages) -> Any:
    """Return a logger that passes errors and warnings on; information is about TensorRT's own workings."""
    severity = module.ILogger.Severity
    grave = (severity.ERROR, severity.INTERNAL_ERROR)

    def initialise(self: Any) -> None:
        module.ILogger.__init__(self)

    def log(self: Any, level: Any, message: str) -> None:
        if level in grave:
            messages.error(message)
        elif level == severity.WARNING:
            messages.warning(message)

    # Made by a call, because the base is known only when the module is imported.
    return type("SeggdLogger", (module.ILogger,), {"__init__": initialise, "log": log})()


@cache
def _load(flavour: Flavour) -> TensorRT:
    """Import a flavour once: TensorRT allows one logger a process."""
    try:
        module = importlib.import_module(flavour.module_name)
    except (ImportError, OSError) as error:
        raise EngineUnavailableError(
            f"{flavour.label} is installed but cannot be loaded ({error}): pip install --force-reinstall "
            f"'seggd-rt[{flavour}]'"
        ) from error
    version = str(module.__version__)
    if tuple(int(part) for part in version.split(".")[:2]) < flavour.oldest:
        oldest = ".".join(map(str, flavour.oldest))
        raise EngineUnavailableError(
            f"{flavour.label} {version} is too old, {oldest} is needed: pip install -U 'seggd-rt[{flavour}]'"
        )
    return TensorRT(flavour, module)
