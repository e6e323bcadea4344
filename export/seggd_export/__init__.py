"""The PyTorch side: checkpoints of any form -> UNet -> ONNX -> a bundle that has proven itself.

    from seggd_export import export_bundle

    export_bundle("cardiac.pt")  # writes cardiac.seggd beside it

Importing it loads nothing heavy: training uses `seggd_export.checkpoint` without an ONNX package installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from seggd_rt.telemetry import opt_out

if TYPE_CHECKING:
    from seggd_export.export import ExportWarning, Progress, export_bundle
    from seggd_export.forms import Source, read_checkpoint
    from seggd_export.spec import ScheduleOptions

opt_out()  # before any module of this package imports ONNX Runtime

_HOMES = {
    "ExportWarning": "seggd_export.export",
    "Progress": "seggd_export.export",
    "ScheduleOptions": "seggd_export.spec",
    "Source": "seggd_export.forms",
    "export_bundle": "seggd_export.export",
    "read_checkpoint": "seggd_export.forms",
}

__all__ = ["ExportWarning", "Progress", "ScheduleOptions", "Source", "export_bundle", "read_checkpoint"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'seggd_export' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
