"""What a built plan depends on, and what is recorded of it."""

from __future__ import annotations

import hashlib
import platform

import msgspec

from seggd_engines.tensorrt.flavor import Flavour
from seggd_engines.tensorrt.options import BuildOptions
from seggd_rt.diffusion import Precision
from seggd_rt.gpu import Gpu

SCHEMA = "seggd-plan/1"


class PlanKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a plan depends on.

    Attributes
    ----------
    graph_sha256
        Of the graph and its external data.
    precision, batch, flavour, version
        What it computes in, its batch profile, and the TensorRT that built it.
    gpu, capability
        The GPU it was measured on and its compute capability; None where the build needed none.
    platform
        Operating system and machine; None where the build needed no GPU: such plans travel between systems.
    compute_capabilities, hardware_compatible, version_compatible, strip_weights, optimisation_level
        See `BuildOptions`.
    """

    schema: str = SCHEMA
    graph_sha256: str
    precision: Precision
    batch: str
    flavour: Flavour
    version: str
    gpu: str | None
    capability: str | None
    platform: str | None
    compute_capabilities: tuple[str, ...]
    hardware_compatible: bool
    version_compatible: bool
    strip_weights: bool
    optimisation_level: int

    @classmethod
    def of(cls, graph_sha256: str, options: BuildOptions, version: str, gpu: Gpu | None) -> PlanKey:
        """Return the key of a plan built with these options; the GPU counts only where the build needs it."""
        measured = gpu if options.needs_gpu else None
        return cls(
            graph_sha256=graph_sha256,
            precision=options.precision,
            batch=str(options.batch),
            flavour=options.flavour,
            version=version,
            gpu=None if measured is None else measured.name,
            capability=None if measured is None else measured.capability,
            platform=_this_platform() if options.needs_gpu else None,
            compute_capabilities=tuple(sorted(options.compute_capabilities)),
            hardware_compatible=options.hardware_compatible,
            version_compatible=options.version_compatible,
            strip_weights=options.strip_weights,
            optimisation_level=options.optimisation_level,
        )

    @property
    def stem(self) -> str:
        """The name of its files, without suffix."""
        digest = hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()
        return f"{self.flavour}-{self.precision}-{digest[:24]}"

    def runs(self, version: str, gpu: Gpu) -> bool:
        """Say whether a plan of this key may be loaded by a version of its flavour, on a GPU."""
        if self.platform not in (None, _this_platform()):
            return False
        if self.version != version and not (self.version_compatible and _is_later(version, self.version)):
            return False
        if self.gpu is not None:
            same = (self.gpu, self.capability) == (gpu.name, gpu.capability)
            return same or (self.hardware_compatible and gpu.compute_capability >= (8, 0))
        return not self.compute_capabilities or gpu.capability in self.compute_capabilities


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a built plan: its key, where it lies, its SHA-256 and size, and when it was last asked for.

    `name` is for people: the bundle's, as a rule. `path` is absolute, but a plain file name in the copy of the record
    that travels beside a plan.
    """

    key: PlanKey
    name: str
    path: str
    sha256: str
    size: int
    asked: float

    def to_json(self) -> bytes:
        """Return the record as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def _this_platform() -> str:
    return f"{platform.system()}-{platform.machine()}"


def _is_later(version: str, than: str) -> bool:
    """Say whether a version is the same or later, within one major version."""
    first, second = ([int(part) for part in text.split(".")[:3]] for text in (version, than))
    return first[0] == second[0] and first >= second
