"""The engines there are, in the order in which `auto` tries them on each kind of device."""

from __future__ import annotations

import difflib

from seggd_engines.onnxruntime import OnnxRuntimeCudaEngine, OnnxRuntimeEngine
from seggd_engines.openvino import OpenVinoEngine
from seggd_engines.tensorrt import Flavour, TensorRTEngine
from seggd_rt.engine import Engine
from seggd_rt.errors import OptionError

ENGINES: tuple[Engine, ...] = (
    TensorRTEngine(Flavour.TENSORRT),
    TensorRTEngine(Flavour.TENSORRT_RTX),
    OnnxRuntimeCudaEngine(),
    OpenVinoEngine(),
    OnnxRuntimeEngine(),
)


def find_engine(name: str) -> Engine:
    """Return the engine of a name.

    Raises
    ------
    OptionError
        There is none; the message suggests the nearest.
    """
    by_name = {engine.name: engine for engine in ENGINES}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(by_name)} and auto"
        raise OptionError(f"there is no engine '{name}': {hint}")
    return by_name[name]
