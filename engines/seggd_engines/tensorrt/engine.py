"""TensorRT and TensorRT-RTX: plans, found or built, run on a GPU.

Each bound call has an execution context of its own with the memory that its batch needs, so a call is one enqueue, and
may be captured in a CUDA graph.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

from seggd_engines.cuda import ALLOCATING, CudaSession, CudaStream, DeviceMemory
from seggd_engines.tensorrt.build import given_to
from seggd_engines.tensorrt.flavor import Flavour, Messages, TensorRT, type_name
from seggd_engines.tensorrt.inspect import check_inspected, inspect, operators, why_invalid
from seggd_engines.tensorrt.options import BatchProfile, BuildOptions
from seggd_engines.tensorrt.plan_cache import PlanCache, StoredPlan
from seggd_engines.tensorrt.plans import find_or_build, newest_plan
from seggd_engines.tensorrt.profile import profile_context
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import (
    Availability,
    Buffer,
    DeviceKind,
    EngineInfo,
    LayerProfile,
    NetworkShape,
    Port,
    Session,
    check_signature,
    require_usable,
)
from seggd_rt.errors import EngineError, EngineUnavailableError, MissingExtraError, OutputError
from seggd_rt.files import write_file
from seggd_rt.gpu import Gpu, find_gpu, on_gpu

_OLDEST_GPU = {Flavour.TENSORRT: (7, 5), Flavour.TENSORRT_RTX: (8, 0)}
"""TensorRT-RTX also builds for 7.5, but not the float32 products that every bundle's time embedding has."""
_BF16_GPU = (8, 0)


class PlanBuildWarning(UserWarning):
    """A plan was missing and is built now, which takes from seconds to minutes."""


class TensorRTEngine:
    """Opens graphs with one of the two TensorRTs, in the graph's own precision.

    Parameters
    ----------
    flavour
        Which.
    any_gpu
        Also try GPUs that TensorRT-RTX does not list, to find out whether they can.
    """

    kind = DeviceKind.CUDA

    def __init__(self, flavour: Flavour, *, any_gpu: bool = False) -> None:
        self.name = flavour.value
        self.rank = 10 if flavour is Flavour.TENSORRT else 20
        self._flavour, self._any_gpu = flavour, any_gpu

    def availability(self, device: str) -> Availability:
        """Say whether this TensorRT can run on a device."""
        if not self._flavour.installed:
            return Availability(False, reason=f"not installed: pip install 'seggd-rt[{self._flavour}]'")
        try:
            gpu = find_gpu(device)
            tensorrt = self._flavour.load()
        except (EngineUnavailableError, MissingExtraError) as error:
            return Availability(False, reason=str(error))
        capabilities = tensorrt.capabilities
        oldest = _OLDEST_GPU[self._flavour]
        listed = gpu.capability in capabilities if capabilities else True
        if gpu.compute_capability < oldest or not (listed or self._any_gpu):
            runs = ", ".join(text for text in capabilities if text != "7.5") or f"{oldest[0]}.{oldest[1]} and newer"
            return Availability(
                False,
                reason=f"{self._flavour.label} {tensorrt.version} runs on compute capability {runs}, and the "
                f"{gpu.name} has {gpu.capability}: choose another engine",
            )
        half = (Precision.FP16, Precision.FP32)
        precisions = (*half, Precision.BF16) if gpu.compute_capability >= _BF16_GPU else half
        return Availability(True, tensorrt.version, gpu.name, precisions)

    def graph_precision(self, precision: Precision) -> Precision:
        """Return the graph's precision: the one asked for, which the graph's own types make it compute in."""
        return precision

    def open(
        self, graph: OnnxGraph, shape: NetworkShape, *, device: str, precision: Precision, threads: int | None
    ) -> TensorRTNetwork:
        """Open a graph with the plan that was asked for last, or build one: see `Engine.open`."""
        there = self.availability(device)
        require_usable(self.name, there, precision)
        gpu, tensorrt, cache = find_gpu(device), self._flavour.load(), PlanCache.of_user()
        plan = newest_plan(cache, graph.digest, self._flavour, precision, tensorrt.version, gpu)
        if plan is None:
            options = BuildOptions(self._flavour, precision)
            plan = find_or_build(cache, graph, shape, options, gpu=gpu, say=_warn_of_build)
        info = EngineInfo(self.name, there.version, device, there.device_name, precision, threads)
        with on_gpu(gpu.ordinal):
            return TensorRTNetwork(tensorrt, plan, graph, shape, info, gpu, cache)


def tensorrt_engine() -> TensorRTEngine:
    """Return the engine `tensorrt`, for its entry point."""
    return TensorRTEngine(Flavour.TENSORRT)


def tensorrt_rtx_engine() -> TensorRTEngine:
    """Return the engine `tensorrt-rtx`, for its entry point."""
    return TensorRTEngine(Flavour.TENSORRT_RTX)


class TensorRTNetwork:
    """A plan on a GPU: see `CudaNetwork`. Any number of threads may bind and call it.

    Raises
    ------
    EngineError
        The plan cannot be loaded on this GPU, is not the network of this shape, or computes in another precision.
    """

    def __init__(
        self,
        tensorrt: TensorRT,
        plan: StoredPlan,
        graph: OnnxGraph,
        shape: NetworkShape,
        info: EngineInfo,
        gpu: Gpu,
        cache: PlanCache,
    ) -> None:
        self._tensorrt, self._shape, self._info, self._gpu, self._cache = tensorrt, shape, info, gpu, cache
        self._capturable = True
        self._runtime = tensorrt.module.Runtime(tensorrt.logger)
        self._engine = self._load(plan, graph)
        check_signature(graph.name, self._ports(), shape)
        check_inspected(inspect(tensorrt, self._engine), info.precision)
        sizes = (int(sizes[0]) for sizes in self._engine.get_tensor_profile_shape("sample", 0))
        self._batch = BatchProfile(*sizes)
        card = hashlib.sha256(gpu.name.encode()).hexdigest()[:8]
        self._kernels_name = f"{plan.record.key.stem}-{card}.kernels"
        self._kernels = self._recall_kernels() if tensorrt.flavour.compiles_at_run else None

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        return self._info

    @property
    def shape(self) -> NetworkShape:
        """The sizes it is built for."""
        return self._shape

    @property
    def max_batch(self) -> int:
        """The largest batch of the plan's profile."""
        return self._batch.most

    @property
    def capturable(self) -> bool:
        """Whether its calls may be captured: always, unless TensorRT-RTX said otherwise when a call was bound."""
        return self._capturable

    def bind(self, sample: Buffer, timestep: Buffer, out: Buffer, stream: int) -> Callable[[], None]:
        """Bind the buffers by address: see `CudaNetwork.bind`. The caller's thread makes the GPU current for calls.

        Raises
        ------
        EngineError
            The plan was not built for this batch, or the GPU has too little memory.
        """
        context, memory = self._bound_context(sample, timestep, out)
        # TensorRT-RTX alone has the question.
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(stream):
            self._capturable = False
        return _BoundCall(context, memory, stream, self._tensorrt.messages, self._gpu.ordinal)

    def profile(self, sample: Buffer, timestep: Buffer, out: Buffer, runs: int, stream: int) -> LayerProfile:
        """Time the layers of an execution context of its own: see `CudaProfiledNetwork.profile`."""
        context, memory = self._bound_context(sample, timestep, out)
        found = profile_context(self._tensorrt, context, stream, runs, operators(inspect(self._tensorrt, self._engine)))
        del context  # before its memory
        memory.close()
        return found

    def session(self, batch: int, lanes: int = 1) -> Session:
        """Return a session on the GPU."""
        self._check_batch(batch * lanes)
        return CudaSession(self, CudaStream(self._gpu.ordinal), batch, lanes)

    def close(self) -> None:
        """Keep the kernels that were compiled, and drop the engine; its memory goes with the last bound call."""
        if self._engine is None:
            return
        with on_gpu(self._gpu.ordinal):
            if self._kernels is not None:
                self._keep_kernels(self._kernels)
            self._kernels = self._engine = self._runtime = None

    def _check_batch(self, batch: int) -> None:
        profile = self._batch
        if not profile.least <= batch <= profile.most:
            raise EngineError(
                f"the {self._tensorrt.flavour.label} plan runs batches of {profile.least} to {profile.most}, not "
                f"{batch}: seggd-rt build BUNDLE --engine {self._info.engine} --precision {self._info.precision} "
                f"--batch {min(profile.least, batch)}:{profile.best}:{max(profile.most, batch)}"
            )

    def _bound_context(self, sample: Buffer, timestep: Buffer, out: Buffer) -> tuple[Any, DeviceMemory]:
        """Return an execution context on these buffers, and the memory that it needs as long as it runs."""
        self._check_batch(sample.shape[0])
        buffers = {"sample": sample, "timestep": timestep, "out": out}
        with self._tensorrt.messages.heard() as said:
            context = self._new_context()
            if context is None:
                raise said.failure("cannot make an execution context")
            if not all(context.set_input_shape(name, buffers[name].shape) for name in ("sample", "timestep")):
                raise said.failure(f"refuses a batch of {sample.shape[0]}")
            size = context.update_device_memory_size_for_shapes()
            memory = DeviceMemory(self._gpu.ordinal, max(size, 1), "the network's activations")
            context.set_device_memory(memory.address, size)
            if not all(context.set_tensor_address(name, buffer.address) for name, buffer in buffers.items()):
                raise said.failure("refuses a buffer")
        return context, memory

    def _load(self, plan: StoredPlan, graph: OnnxGraph) -> Any:
        """Return the engine of a plan, with the graph's weights where the plan has none."""
        key = plan.record.key
        if key.version_compatible:
            self._runtime.engine_host_code_allowed = True  # such a plan brings a runtime of its own
        with self._tensorrt.messages.heard() as said:
            engine = self._runtime.deserialize_cuda_engine(plan.data)
            if engine is None:
                reason = why_invalid(self._tensorrt, self._runtime, plan.data)
                said.errors[:0] = [reason] if reason else []
                raise said.failure(
                    f"cannot load the plan {plan.path} on the {self._gpu.name} (seggd-rt cache clear removes it)"
                )
            if key.strip_weights:
                refitter = self._tensorrt.module.Refitter(engine, self._tensorrt.logger)
                parser = self._tensorrt.module.OnnxParserRefitter(refitter, self._tensorrt.logger)
                if not (given_to(parser.refit_from_bytes, graph) and refitter.refit_cuda_engine()):
                    raise said.failure(f"cannot put the weights of {graph.name} into the plan {plan.path}")
        return engine

    def _ports(self) -> dict[str, Port]:
        """Describe each input and output; None is the size of an axis that is free."""
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return {
            name: Port(
                type_name(engine.get_tensor_dtype(name)),
                [size if size >= 0 else None for size in engine.get_tensor_shape(name)],
            )
            for name in names
        }

    def _new_context(self) -> Any:
        """Return an execution context that brings no memory of its own."""
        module = self._tensorrt.module
        strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._kernels is None:
            return self._engine.create_execution_context(strategy)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        # Kernels for exactly these shapes, compiled before the first run, and no graphs beside the session's own.
        config.dynamic_shapes_kernel_specialization_strategy = module.DynamicShapesKernelSpecializationStrategy.EAGER
        config.cuda_graph_strategy = module.CudaGraphStrategy.DISABLED
        config.set_runtime_cache(self._kernels)
        return self._engine.create_execution_context(config)

    def _recall_kernels(self) -> Any:
        """Return TensorRT-RTX's cache of compiled kernels, with those of earlier runs where they fit this machine."""
        kernels = self._engine.create_runtime_config().create_runtime_cache()
        path = self._cache.folder / self._kernels_name
        if path.is_file():
            # Refused after a driver's update, say; then kernels are compiled again and this is overwritten.
            kernels.deserialize(path.read_bytes())
        return kernels

    def _keep_kernels(self, kernels: Any) -> None:
        compiled = kernels.serialize()
        if compiled is None or compiled.nbytes == 0:
            return
        try:
            path = self._cache.side_file(self._kernels_name)
            with self._cache.lock(self._kernels_name):
                write_file(path, bytes(compiled))
        except OutputError as error:
            warnings.warn(f"{error}: kernels are compiled again at the next start", RuntimeWarning, stacklevel=3)


class _BoundCall:
    """One evaluation on bound buffers; the context goes before the memory that it works in."""

    def __init__(self, context: Any, memory: DeviceMemory, stream: int, messages: Messages, ordinal: int) -> None:
        self._context, self._memory, self._stream, self._messages = context, memory, stream, messages
        self._ordinal = ordinal

    def __call__(self) -> None:
        with self._messages.heard() as said:
            if not self._context.execute_async_v3(self._stream):
                raise said.failure("failed")

    def __del__(self) -> None:
        with ALLOCATING, on_gpu(self._ordinal):
            del self._context
            self._memory.close()


def _warn_of_build(line: str) -> None:
    warnings.warn(f"{line}; seggd-rt build does it ahead", PlanBuildWarning, stacklevel=4)
