"""Where a step's time goes: kernels of every contender, and layers where PyTorch runs the network as it is.

PyTorch's profiler sees the kernels of the whole process, whoever launched them: an engine's too, also from a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.gpu.contenders.lineup import makers
from benchmarks.gpu.contenders.networks import CALLS, Contender, LoopContender, Task
from benchmarks.gpu.contenders.subjects import DEMO, REFERENCE
from benchmarks.gpu.group import group_name
from benchmarks.gpu.latency import STEPS
from benchmarks.gpu.results import Failed, Layer, Profile
from benchmarks.gpu.run import Context, Part, Piece, attempt
from seggd_rt.diffusion import Precision

_MOST = 40
_LAYER = "layer "
TASKS = (Task(REFERENCE, Precision.FP16, 1), Task(DEMO, Precision.FP16, 1))


def profiled(make: Callable[[], Contender]) -> Profile:
    """Make a contender and profile its bare network calls."""
    with ExitStack() as opened:
        contender = make()
        opened.callback(contender.close)
        contender.draw(STEPS[-1])
        step_ms = 1e3 * contender.step_s()
        if isinstance(contender, LoopContender) and not hasattr(contender.network, "_orig_mod"):  # not compiled
            opened.enter_context(layers_named(contender.network))
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities) as found:
            contender.step_s()
        return summarise(found.key_averages(), step_ms)


def summarise(events: Any, step_ms: float) -> Profile:
    """Return the costliest layers and kernels of `CALLS` network calls."""
    layers, kernels = [], []
    for event in events:
        if event.device_type.name == "CUDA":
            if not event.key.startswith(_LAYER) and event.self_device_time_total > 0:
                kernels.append(_layer(event.key, event.count, event.self_device_time_total))
        elif event.key.startswith(_LAYER):
            layers.append(_layer(event.key.removeprefix(_LAYER), event.count, event.device_time_total))
    return Profile(step_ms=step_ms, layers=_costliest(layers), kernels=_costliest(kernels))


@contextmanager
def layers_named(network: nn.Module) -> Iterator[None]:
    """Name what every innermost layer does, for PyTorch's profiler and, on a GPU, as NVTX ranges."""
    on_gpu = next(network.parameters()).is_cuda
    open_ranges: list[Any] = []
    nvtx: Any = torch.cuda.nvtx

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            named: Any = record_function(_LAYER + name)
            named.__enter__()
            open_ranges.append(named)
            if on_gpu:
                nvtx.range_push(name)

        return hook

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        if on_gpu:
            nvtx.range_pop()
        open_ranges.pop().__exit__(None, None, None)

    hooks = []
    for name, module in network.named_modules():
        if not list(module.children()):
            hooks += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _layer(name: str, count: int, total_us: float) -> Layer:
    return Layer(name=name[:200], calls=count / CALLS, device_ms=total_us / 1e3 / CALLS)


def _costliest(layers: list[Layer]) -> tuple[Layer, ...]:
    return tuple(sorted(layers, key=lambda layer: -layer.device_ms)[:_MOST])


def _pieces(context: Context) -> Iterator[Piece]:
    for task in TASKS:
        made = attempt(lambda task=task: makers(task, context)[0])  # type: ignore[misc]
        if isinstance(made, Failed):
            yield Piece(group_name(task), lambda made=made: made, needs_s=0)  # type: ignore[misc]
            continue
        for name, make in made.items():
            if not context.wants(name):
                continue
            yield Piece(f"{group_name(task)}/{name}", lambda make=make: profiled(make), needs_s=30)  # type: ignore[misc]


PROFILE = Part("profile", _pieces)
