"""Who is measured in a group: PyTorch, its network in a session, every engine, and ONNX Runtime's other ways."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.gpu.contenders.networks import Contender, LoopContender, Task, engine_session, network_session
from benchmarks.gpu.contenders.onnxruntime import onnxruntime_variants
from benchmarks.gpu.contenders.while_loop import WhileSession
from benchmarks.gpu.machine.device import Gpu
from benchmarks.gpu.run import Context
from benchmarks.torch_network import DTYPES, TorchNetwork
from seggd_engines.onnxruntime import OnnxRuntimeCudaEngine
from seggd_rt.diffusion import Precision
from seggd_rt.engine import DeviceKind, registry

COMPILE = "max-autotune"
"""Mode of torch.compile, and in the name of each contender that is compiled so."""


def makers(task: Task, context: Context) -> tuple[dict[str, Callable[[], Contender]], dict[str, str]]:
    """Return what can draw a task, by name, each to be made when it is called; and which engines cannot, and why."""
    device, precision = context.device, task.precision

    def network(mode: str | None) -> TorchNetwork:
        return TorchNetwork(
            task.torch.build(),
            device=device.name,
            dtype=DTYPES[precision],
            compile=mode,
            channels_last=precision is not Precision.FP32,
        )

    made: dict[str, Callable[[], Contender]] = {
        "pytorch eager": lambda: LoopContender(task, device),
        "session of eager pytorch": lambda: network_session(task, device, network(None)),
    }
    if isinstance(device, Gpu):
        made["session of eager pytorch, while-node"] = lambda: network_session(
            task, device, network(None), session_of=WhileSession
        )
    absent = {}
    kind = DeviceKind(device.name.partition(":")[0])
    for engine in (engine for engine in registry.engines() if engine.kind is kind):
        there = engine.availability(device.name)
        if not there.usable:
            absent[engine.name] = there.reason
        elif precision not in there.precisions:
            absent[engine.name] = f"it computes in {', '.join(there.precisions)} here"
        else:
            made[engine.name] = lambda name=engine.name: engine_session(task, context, name)  # type: ignore[misc]
            if engine.name == OnnxRuntimeCudaEngine.name:
                made |= onnxruntime_variants(task, context)
    if precision is Precision.FP16:  # the last: they are compiled for minutes, and time may be short
        made[f"pytorch {COMPILE}"] = lambda: LoopContender(task, device, COMPILE)
        made[f"session of {COMPILE} pytorch"] = lambda: network_session(
            task, device, network(f"{COMPILE}-no-cudagraphs")
        )
    return made, absent
