"""Segmentation-guided diffusion models of medical images, exported once and run fast, without PyTorch.

    import seggd_rt

    generator = seggd_rt.load("cardiac.seggd")
    image = generator(mask, seed=7)  # (H, W[, C]) float32 in [0, 1]

Importing it loads nothing heavy: each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from seggd_rt.version import __version__

if TYPE_CHECKING:
    from seggd_rt.bundle import Bundle, Manifest
    from seggd_rt.engine import EngineInfo, Step
    from seggd_rt.errors import SeggdError
    from seggd_rt.inference import EmptyMaskWarning, Generator, Preview, load


_HOMES = {
    "Bundle": "seggd_rt.bundle.bundle",
    "EmptyMaskWarning": "seggd_rt.inference.generator",
    "EngineInfo": "seggd_rt.engine.contract",
    "Generator": "seggd_rt.inference.generator",
    "Manifest": "seggd_rt.bundle.manifest",
    "Preview": "seggd_rt.inference.generator",
    "SeggdError": "seggd_rt.errors",
    "Step": "seggd_rt.engine.contract",
    "load": "seggd_rt.inference.loading",
}

__all__ = [
    "Bundle",
    "EmptyMaskWarning",
    "EngineInfo",
    "Generator",
    "Manifest",
    "Preview",
    "SeggdError",
    "Step",
    "__version__",
    "load",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'seggd_rt' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
