"""A stand-in for the package `tensorrt` or `tensorrt_rtx`: it records what it is told, and fails on demand.

Names and signatures are those of the vendor's Python API; what it plays is a network of one convolution.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

SIZES = {"sample": (-1, 4, 24, 32), "timestep": (-1,), "out": (-1, 1, 24, 32)}


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


class ILogger:
    Severity = Severity

    def __init__(self) -> None: ...


class IProfiler:
    def __init__(self) -> None: ...


class IProgressMonitor:
    def __init__(self) -> None: ...


@dataclass
class Script:
    """What the stand-in plays, and what it was told."""

    rtx: bool = False
    strongly_typed_flag: bool = True
    dtype: str = "FLOAT"
    plan: bytes | None = b"a plan"
    says: list[str] = field(default_factory=list)
    """What it logs as errors whenever it is asked to do something that can fail."""
    warns: list[str] = field(default_factory=list)
    loads: bool = True
    refits: bool = True
    runs: bool = True
    layer_ms: dict[str, float] = field(default_factory=lambda: {"conv": 0.5, "reformat": 0.25})
    """What a context tells a profiler."""
    capturable: bool = True
    accepts_kernels: bool = True
    inspected: str = ""
    profile: tuple[int, int, int] = (1, 1, 8)
    network_flags: list[int] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    config: Any = None
    timing: list[bytes] = field(default_factory=list)
    refitted_from: list[str] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)
    kernels: list[bytes] = field(default_factory=list)
    host_code_allowed: bool = False


class Log:
    """Logs what the script says."""

    def __init__(self, logger: Any, script: Script) -> None:
        self._logger, self._script = logger, script

    def __call__(self) -> None:
        for message in self._script.warns:
            self._logger.log(Severity.WARNING, message)
        for message in self._script.says:
            self._logger.log(Severity.ERROR, message)


def make_module(script: Script, version: str) -> ModuleType:
    """Return the stand-in's module."""
    name = "tensorrt_rtx" if script.rtx else "tensorrt"
    module: Any = ModuleType(name)
    module.__version__ = version
    module.ILogger, module.IProgressMonitor, module.IProfiler = ILogger, IProgressMonitor, IProfiler
    module.DataType = IntEnum("DataType", ["FLOAT", "HALF", "BF16"], start=0)
    module.LayerType = IntEnum("LayerType", ["CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM"])
    typed = {"STRONGLY_TYPED": 1} if script.strongly_typed_flag else {"EXPLICIT_BATCH": 0}
    module.NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", typed)
    flags = ["TF32", "STRIP_PLAN", "REFIT", "REFIT_IDENTICAL", "VERSION_COMPATIBLE"]
    module.BuilderFlag = IntEnum("BuilderFlag", [*flags, "REQUIRE_USER_ALLOCATION"] if script.rtx else flags)
    module.ProfilingVerbosity = IntEnum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED"])
    module.HardwareCompatibilityLevel = IntEnum("HardwareCompatibilityLevel", ["NONE", "AMPERE_PLUS"])
    module.LayerInformationFormat = IntEnum("LayerInformationFormat", ["ONELINE", "JSON"])
    module.ExecutionContextAllocationStrategy = IntEnum("Strategy", ["STATIC", "USER_MANAGED"])
    module.Builder = lambda logger: Builder(module, script, logger)
    module.OnnxParser = lambda network, logger: SimpleNamespace(
        parse=lambda model, path=None: True, num_errors=0, get_error=None
    )
    module.Runtime = lambda logger: Runtime(module, script, logger)
    module.Refitter = lambda engine, logger: SimpleNamespace(refit_cuda_engine=lambda: script.refits)
    module.OnnxParserRefitter = lambda refitter, logger: SimpleNamespace(
        refit_from_bytes=lambda model, path=None: script.refitted_from.append(model) is None
    )
    if script.rtx:
        members = ["NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120"]
        module.ComputeCapability = IntEnum("ComputeCapability", members)
        module.DynamicShapesKernelSpecializationStrategy = IntEnum("Specialization", ["LAZY", "EAGER", "NONE"])
        module.CudaGraphStrategy = IntEnum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
        module.EngineValidity = IntEnum("EngineValidity", ["VALID", "SUBOPTIMAL", "INVALID"])
        module.EngineInvalidityDiagnostics = IntEnum(
            "EngineInvalidityDiagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4}
        )
    return module


class Builder:
    def __init__(self, module: Any, script: Script, logger: Any) -> None:
        self._module, self._script, self._log = module, script, Log(logger, script)

    def create_network(self, flags: int) -> Any:
        self._script.network_flags.append(flags)
        single = self._module.DataType.FLOAT
        tensors = {name: SimpleNamespace(name=name, dtype=single, shape=shape) for name, shape in SIZES.items()}
        dtype = self._module.DataType[self._script.dtype]
        wide = SimpleNamespace(dtype=dtype, shape=(-1, 8, 24, 32))
        layer = SimpleNamespace(
            type=self._module.LayerType.CONVOLUTION, name="conv_in", get_input=lambda i: wide, get_output=lambda i: wide
        )
        inputs, outputs = [tensors["sample"], tensors["timestep"]], [tensors["out"]]
        return SimpleNamespace(
            num_layers=1,
            get_layer=lambda index: layer,
            num_inputs=2,
            get_input=inputs.__getitem__,
            num_outputs=1,
            get_output=outputs.__getitem__,
        )

    def create_builder_config(self) -> Any:
        script = self._script
        script.flags = {"TF32"}
        capabilities: list[Any] = []

        def set_capability(member: Any, index: int) -> bool:
            capabilities.append(member)
            return True

        script.config = SimpleNamespace(
            set_flag=lambda flag: script.flags.add(flag.name),
            clear_flag=lambda flag: script.flags.discard(flag.name),
            add_optimization_profile=lambda profile: 0,
            set_compute_capability=set_capability,
            capabilities=capabilities,
            create_timing_cache=self._timing_cache,
            set_timing_cache=lambda cache, ignore: cache.content != b"of another GPU",
        )
        return script.config

    def _timing_cache(self, content: bytes) -> Any:
        self._script.timing.append(content)
        return SimpleNamespace(content=content, serialize=lambda: content + b"+")

    def create_optimization_profile(self) -> Any:
        self._script.config.profile = shapes = {}
        return SimpleNamespace(set_shape=lambda name, *sizes: shapes.__setitem__(name, sizes))

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        config.progress_monitor.phase_start("Building engine", None, 1)
        if not config.progress_monitor.step_complete("Building engine", 0):
            return None
        config.progress_monitor.phase_finish("Building engine")
        self._log()
        return self._script.plan


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, module: Any, script: Script, logger: Any) -> None:
        self._module, self._script, self._log = module, script, Log(logger, script)
        if script.rtx:
            self.get_engine_validity = lambda plan: (
                (module.EngineValidity.VALID, 0) if script.loads else (module.EngineValidity.INVALID, 2)
            )

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        self._log()
        self._script.host_code_allowed = self.engine_host_code_allowed
        return Engine(self._module, self._script, self._log) if self._script.loads else None


class Engine:
    num_io_tensors = len(SIZES)

    def __init__(self, module: Any, script: Script, log: Callable[[], None]) -> None:
        self._script, self._log, self._single = script, log, module.DataType.FLOAT

    def get_tensor_name(self, index: int) -> str:
        return list(SIZES)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return SIZES[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return self._single

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(size, *SIZES[name][1:]) for size in self._script.profile]

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda kind: self._script.inspected)

    def create_runtime_config(self) -> Any:
        script = self._script

        def deserialize(content: bytes) -> bool:
            if script.accepts_kernels:
                script.kernels.append(content)
            return script.accepts_kernels

        cache = SimpleNamespace(deserialize=deserialize, serialize=lambda: memoryview(b"".join(script.kernels) + b"k"))
        config = SimpleNamespace(create_runtime_cache=lambda: cache)
        config.set_execution_context_allocation_strategy = lambda value: setattr(config, "strategy", value)
        config.set_runtime_cache = lambda value: setattr(config, "cache", value)
        return config

    def create_execution_context(self, asked: Any) -> Any:
        context = Context(self._script, self._log, asked)
        self._script.contexts.append(context)
        return context


class Context:
    def __init__(self, script: Script, log: Callable[[], None], asked: Any) -> None:
        self._script, self._log, self.asked = script, log, asked
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory: tuple[int, int] | None = None
        self.streams: list[int] = []
        self.profiler: Any = None
        self.enqueue_emits_profile = False
        if script.rtx:
            self.is_stream_capturable = lambda stream: script.capturable

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        return 1000 * self.shapes["sample"][0]

    def set_device_memory(self, address: int, size: int) -> None:
        self.memory = (address, size)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.append(stream)
        if not self._script.runs:
            self._log()
        elif self.profiler is not None and self.enqueue_emits_profile:
            for name, ms in self._script.layer_ms.items():
                self.profiler.report_layer_time(name, ms)
        return self._script.runs


def layers(*types: str) -> str:
    """Return what an inspector tells of layers whose outputs have these types."""
    return json.dumps(
        {
            "Layers": [
                {
                    "Name": "conv",
                    "LayerType": "Convolution",
                    "Outputs": [{"Format/Datatype": f"Row major linear {t} format"}],
                }
                for t in types
            ]
        }
    )
