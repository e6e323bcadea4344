"""What a loaded engine says of itself: what it computes in, and whether a GPU can load a plan at all."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from seggd_engines.tensorrt.flavor import TensorRT
from seggd_rt.diffusion import Precision
from seggd_rt.errors import EngineError

_WORDS = {
    Precision.FP32: re.compile(r"\b(FP32|Float)\b"),
    Precision.FP16: re.compile(r"\b(FP16|Half)\b"),
    Precision.BF16: re.compile(r"\b(BF16|BFloat16)\b"),
}
"""How TensorRT's inspector names data types, in its releases from 10 to 11."""


class _Layer(msgspec.Struct):
    name: str = msgspec.field(name="Name")
    operator: str = msgspec.field(name="LayerType", default="")


class _Report(msgspec.Struct):
    layers: list[_Layer | str] = msgspec.field(name="Layers")


def inspect(tensorrt: TensorRT, engine: Any) -> str:
    """Return what the inspector tells of an engine's layers, as JSON; empty where it tells nothing."""
    module = tensorrt.module
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(module.LayerInformationFormat.JSON) or "")


def operators(report: str) -> dict[str, str]:
    """Return the operator of each layer that the inspector names one of.

    Parameters
    ----------
    report
        See `inspect`. Of an engine that was built with less detail it is a list of names.
    """
    if not report:
        return {}
    try:
        layers = msgspec.json.decode(report, type=_Report).layers
    except ValueError as error:
        raise EngineError(f"the engine's inspector cannot be understood: {error}") from error
    return {layer.name: layer.operator for layer in layers if isinstance(layer, _Layer) and layer.operator}


def check_inspected(report: str, precision: Precision) -> None:
    """Refuse an engine whose layers name data types, but not the one that was asked for.

    An engine in half precision has float32 too, in its inputs, its output and its islands. An inspector that names no
    type contradicts nothing: the network's types were checked before the build.

    Parameters
    ----------
    report
        See `inspect`.
    precision
        What the engine was built to compute in.

    Raises
    ------
    EngineError
        It computes in something else.
    """
    counts = {other: len(words.findall(report)) for other, words in _WORDS.items()}
    named = {other for other, count in counts.items() if count}
    strange = named - {precision, Precision.FP32}
    if named and (precision not in named or strange):
        found = ", ".join(f"{other} {count} times" for other, count in counts.items() if count)
        raise EngineError(
            f"the engine was built for {precision}, but its inspector names {found}: empty the cache "
            "(seggd-rt cache clear) and report it"
        )


def why_invalid(tensorrt: TensorRT, runtime: Any, plan: bytes | memoryview) -> str:
    """Return why a plan cannot be loaded on this machine, from its header; empty where that tells nothing."""
    look = getattr(runtime, "get_engine_validity", None)
    if look is None:  # TensorRT-RTX alone has it
        return ""
    module = tensorrt.module
    validity, flags = look(plan)
    if validity != module.EngineValidity.INVALID:
        return ""
    members = module.EngineInvalidityDiagnostics.__members__
    return ", ".join(name.replace("_", " ").lower() for name, flag in members.items() if int(flags) & int(flag))
