"""What a TensorRT plan is built for: batch sizes, GPUs, and how it may travel."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from seggd_engines.tensorrt.flavor import Flavour
from seggd_rt.diffusion import Precision
from seggd_rt.errors import OptionError

CURRENT = "current"
"""The compute capability of the GPU here."""
MAX_BATCH = 1024
OPTIMISATION_LEVELS = range(6)

_CAPABILITY = re.compile(r"\d{1,2}\.\d")


@dataclass(frozen=True)
class BatchProfile:
    """The batch sizes a plan can run, and the one it is tuned for."""

    least: int = 1
    best: int = 1
    most: int = 8

    def __post_init__(self) -> None:
        """Check the order."""
        if not 1 <= self.least <= self.best <= self.most <= MAX_BATCH:
            raise OptionError(
                f"the batch profile is {self}; it must be MIN:BEST:MAX with 1 <= MIN <= BEST <= MAX <= {MAX_BATCH}, as "
                "in 1:1:8"
            )

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return f"{self.least}:{self.best}:{self.most}"

    @classmethod
    def parse(cls, text: str) -> BatchProfile:
        """Read "1:1:8", or "4" for exactly four.

        Raises
        ------
        OptionError
            It is no profile.
        """
        parts = text.split(":")
        if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
            raise OptionError(f"the batch profile is '{text}'; it must be MIN:BEST:MAX, as in 1:1:8, or one number")
        return cls(*(int(part) for part in (parts if len(parts) == 3 else parts * 3)))


@dataclass(frozen=True)
class BuildOptions:
    """How a plan is built.

    Attributes
    ----------
    flavour, precision, batch
        Which TensorRT, what the graph computes in, and the batch sizes.
    compute_capabilities
        TensorRT-RTX: what the plan is for, as "8.9", or ("current",) for the GPU here alone; empty for its own choice,
        Ampere and newer. TensorRT always builds for the GPU here.
    hardware_compatible
        TensorRT: a plan that also runs on other GPUs, from Ampere on, at some cost in speed.
    version_compatible
        TensorRT: a plan that also runs with later versions of the same major version, at some cost in speed.
    strip_weights
        Leave the weights out of the plan; they are put in from the bundle's graph when it is loaded. Needs a GPU
        also with TensorRT-RTX.
    optimisation_level
        0 to 5: how long TensorRT looks for faster kernels.
    """

    flavour: Flavour
    precision: Precision
    batch: BatchProfile = field(default_factory=BatchProfile)
    compute_capabilities: tuple[str, ...] = ()
    hardware_compatible: bool = False
    version_compatible: bool = False
    strip_weights: bool = False
    optimisation_level: int = 3

    def __post_init__(self) -> None:
        """Refuse what a flavour has not."""
        if self.optimisation_level not in OPTIMISATION_LEVELS:
            raise OptionError(f"the optimisation level is {self.optimisation_level}; it must lie in [0, 5]")
        for text in self.compute_capabilities:
            if text != CURRENT and not _CAPABILITY.fullmatch(text):
                raise OptionError(f"the compute capability is '{text}'; it must be 'current', or as in 8.9")
        if CURRENT in self.compute_capabilities and len(self.compute_capabilities) > 1:
            raise OptionError("the compute capability 'current' must stand alone")
        if len(set(self.compute_capabilities)) < len(self.compute_capabilities):
            raise OptionError(f"a compute capability is named twice: {', '.join(self.compute_capabilities)}")
        if self.flavour is Flavour.TENSORRT and self.compute_capabilities not in ((), (CURRENT,)):
            raise OptionError(
                "tensorrt builds for the GPU it runs on: leave --compute-capability out, or build with tensorrt-rtx"
            )
        if self.flavour is Flavour.TENSORRT_RTX and (self.hardware_compatible or self.version_compatible):
            raise OptionError(
                "only tensorrt has hardware- and version-compatible plans; a plan of tensorrt-rtx runs on every GPU "
                "of its --compute-capability, with the version that built it"
            )

    @property
    def needs_gpu(self) -> bool:
        """Whether the build needs a GPU: to measure on, to ask for its compute capability, or to lay weights out."""
        return not self.flavour.builds_without_gpu or self.compute_capabilities == (CURRENT,) or self.strip_weights
