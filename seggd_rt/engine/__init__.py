"""The contracts Network, Session and Engine, and what is true of every engine: its self-check, its profile, its CPU."""

from seggd_rt.engine import registry
from seggd_rt.engine.contract import (
    AnyNetwork,
    Availability,
    Buffer,
    CudaNetwork,
    DeviceArray,
    DeviceKind,
    Engine,
    EngineInfo,
    Latents,
    Network,
    NetworkShape,
    OnStep,
    Pixels,
    Run,
    Session,
    Step,
    require_usable,
)
from seggd_rt.engine.cpu import check_threads, this_cpu
from seggd_rt.engine.forks import bind_to_process, require_own
from seggd_rt.engine.layers import UNKNOWN, Average, Clock, Layer, LayerCall, LayerProfile
from seggd_rt.engine.onnxruntime import failures, open_session, ports, require_own_session, session_options
from seggd_rt.engine.profiling import WARM_UPS, CudaProfiledNetwork, ProfiledNetwork, medians, no_profile
from seggd_rt.engine.self_check import SelfCheck, require_equal_rows
from seggd_rt.engine.signature import FLOAT32, Port, check_signature
from seggd_rt.engine.timing import Spread, host_seconds, interleaved, peak_memory_bytes, spread

__all__ = [
    "FLOAT32",
    "UNKNOWN",
    "WARM_UPS",
    "AnyNetwork",
    "Availability",
    "Average",
    "Buffer",
    "Clock",
    "CudaNetwork",
    "CudaProfiledNetwork",
    "DeviceArray",
    "DeviceKind",
    "Engine",
    "EngineInfo",
    "Latents",
    "Layer",
    "LayerCall",
    "LayerProfile",
    "Network",
    "NetworkShape",
    "OnStep",
    "Pixels",
    "Port",
    "ProfiledNetwork",
    "Run",
    "SelfCheck",
    "Session",
    "Spread",
    "Step",
    "bind_to_process",
    "check_signature",
    "check_threads",
    "failures",
    "host_seconds",
    "interleaved",
    "medians",
    "no_profile",
    "open_session",
    "peak_memory_bytes",
    "ports",
    "registry",
    "require_equal_rows",
    "require_own",
    "require_own_session",
    "require_usable",
    "session_options",
    "spread",
    "this_cpu",
]
