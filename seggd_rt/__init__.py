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
    from seggd_engines.network import EngineInfo, Step
    from seggd_rt.bundle import Bundle
    from seggd_rt.errors import SeggdError
    from seggd_rt.generator import EmptyMaskWarning, Generator, Preview
    from seggd_rt.loading import load
    from seggd_rt.manifest import Manifest


_HOMES = {
    "Bundle": "seggd_rt.bundle",
    "EmptyMaskWarning": "seggd_rt.generator",
    "EngineInfo": "seggd_engines.network",
    "Generator": "seggd_rt.generator",
    "Manifest": "seggd_rt.manifest",
    "Preview": "seggd_rt.generator",
    "SeggdError": "seggd_rt.errors",
    "Step": "seggd_engines.network",
    "load": "seggd_rt.loading",
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
