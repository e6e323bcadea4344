"""Libraries that report to their makers when they are imported: none does when seggd-rt imports it.

ONNX Runtime's wheels from 1.29 on send events of sessions and models to Microsoft, and `import openvino` one to Google
Analytics. An application that wants either imports that library itself, before seggd-rt does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "ORT_DISABLE_TELEMETRY"
_REPORTER = "openvino_telemetry"
"""A package that OpenVINO does without where it cannot be imported."""


def opt_out() -> None:
    """Tell ONNX Runtime, if it is imported later, to send nothing; a value that the environment has is left alone."""
    os.environ.setdefault(_VARIABLE, "1")


@contextmanager
def silenced(module: str) -> Iterator[None]:
    """Let a library be imported in a block without reporting that."""
    library = module.partition(".")[0]
    if library == "onnxruntime":
        opt_out()
    hidden = library == "openvino" and _REPORTER not in sys.modules
    if hidden:
        sys.modules[_REPORTER] = None  # type: ignore[assignment] # so Python has it that a module is not to be found
    try:
        yield
    finally:
        if hidden:
            del sys.modules[_REPORTER]
