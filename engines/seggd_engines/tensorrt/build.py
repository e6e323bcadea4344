"""Build a TensorRT plan from a bundle's graph, and prove that it computes in the precision that was asked for.

Both flavours build strongly typed networks: the graph's own types are the plan's. TensorRT 11 knows nothing else and
has no precision flags any more, so a graph of another precision would be built as it is, without a word; that is
refused here, before the build by the network's types and after it by the plan's size.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from seggd_engines.tensorrt.flavor import Flavour, Said, TensorRT, tidy, type_name
from seggd_engines.tensorrt.options import CURRENT, BuildOptions
from seggd_engines.tensorrt.progress import OnProgress, run_build
from seggd_rt.bundle import OnnxGraph
from seggd_rt.diffusion import Precision
from seggd_rt.engine import NetworkShape, Port, check_signature
from seggd_rt.errors import EngineError, EngineUnavailableError
from seggd_rt.gpu import Gpu, on_gpu, why_no_gpu

_DATA_TYPES = {Precision.FP32: "FLOAT", Precision.FP16: "HALF", Precision.BF16: "BF16"}
_OVERHEAD = 16 << 20
"""Bytes of a plan beside the weights: 7 to 14 MB were measured, for 6 and for 114 million parameters."""


def build_plan(
    graph: OnnxGraph,
    shape: NetworkShape,
    options: BuildOptions,
    *,
    gpu: Gpu | None = None,
    timing_cache: bytes = b"",
    on_progress: OnProgress | None = None,
) -> Plan:
    """Build a plan. An exception in the calling thread, Ctrl-C too, cancels the build, then goes on.

    Parameters
    ----------
    graph
        The network.
    shape
        What the manifest says of the network.
    options
        How to build.
    gpu
        Which GPU to measure on, where the options need one.
    timing_cache
        TensorRT: what an earlier build measured on this GPU.
    on_progress
        Told how far it is.

    Raises
    ------
    MissingExtraError
        The flavour is not installed.
    EngineUnavailableError
        The flavour is too old or broken, or cannot build for a compute capability; or a GPU is needed and not given.
    EngineError
        The graph cannot be read, is not the network of this shape, does not compute in the precision that was asked
        for, or cannot be built.
    """
    if options.needs_gpu and gpu is None:
        raise EngineUnavailableError(f"{options.flavour.label} cannot build this without a GPU: {why_no_gpu()}")
    tensorrt = options.flavour.load()
    place = on_gpu(gpu.ordinal) if options.needs_gpu and gpu is not None else nullcontext()
    with place, tensorrt.messages.heard() as said:
        builder = tensorrt.module.Builder(tensorrt.logger)
        parser, network = _parsed(tensorrt, builder, graph)
        check_signature(graph.name, _ports(network), shape)
        check_types(tensorrt.module, network, graph.name, options.precision)
        config = _config(tensorrt, builder, shape, options, said)
        timing = _use_timing_cache(config, timing_cache) if options.flavour is Flavour.TENSORRT else None
        serialized = run_build(tensorrt, builder, network, config, gpu if options.needs_gpu else None, on_progress)
        if serialized is None:
            raise said.failure(f"cannot build {graph.name}")
        del parser  # not earlier: the network's weights are its own
    said.pass_on_warnings()
    plan = Plan(serialized, tensorrt.version, bytes(timing.serialize()) if timing is not None else b"")
    if not options.strip_weights:
        check_size(len(plan.data), graph.size, options.precision)
    return plan


@dataclass(frozen=True)
class Plan:
    """A built plan, the version that built it, and what TensorRT measured for the next build."""

    data: memoryview
    version: str
    timing_cache: bytes


def check_types(module: Any, network: Any, name: str, precision: Precision) -> None:
    """Refuse a network whose convolutions, or matrix products over pixels, compute in another precision.

    Products of a vector an image, as in the time embedding, may stay in float32: a bundle's graphs keep such islands.

    Raises
    ------
    EngineError
        A layer computes in another precision, or there is none to tell by.
    """
    wanted = getattr(module.DataType, _DATA_TYPES[precision])
    kinds = module.LayerType
    found, wrong = 0, []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type not in (kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY, kinds.EINSUM):
            continue
        tensors = (layer.get_input(0), layer.get_output(0))
        vectors = layer.type == kinds.MATRIX_MULTIPLY and len(tensors[1].shape) <= 2
        found += not vectors
        if any(tensor.dtype != wanted for tensor in tensors) and (precision is Precision.FP32 or not vectors):
            wrong.append((layer.name, tensors[1].dtype.name))
    if wrong or not found:
        computes = "it has no convolution"
        if wrong:
            computes = f"{len(wrong)} layers, as {wrong[0][0]}, compute in {wrong[0][1]}"
        raise EngineError(
            f"{name} is not a graph in {precision}: {computes}. TensorRT takes the precision from the graph: "
            f"export the bundle with --precision {precision}"
        )


def check_size(plan_bytes: int, weights_bytes: int, precision: Precision) -> None:
    """Refuse a plan in half precision whose weights are as large as in single precision.

    Raises
    ------
    EngineError
        It is.
    """
    if precision is not Precision.FP32 and plan_bytes > weights_bytes + max(_OVERHEAD, weights_bytes // 2):
        raise EngineError(
            f"the plan in {precision} has {plan_bytes / 1e6:.0f} MB for {weights_bytes / 1e6:.0f} MB of weights in "
            f"{precision}: it was built in fp32, so it is refused"
        )


def _parsed(tensorrt: TensorRT, builder: Any, graph: OnnxGraph) -> tuple[Any, Any]:
    """Return the parser, which owns the weights, and the network it parsed."""
    # TensorRT 10 types networks weakly unless told; of the others the flag may be gone.
    flag = getattr(tensorrt.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if flag is None and tensorrt.version.startswith("10."):
        raise EngineUnavailableError(f"{tensorrt.flavour.label} {tensorrt.version} cannot type networks strongly")
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = tensorrt.module.OnnxParser(network, tensorrt.logger)
    if not given_to(parser.parse, graph):
        errors = (parser.get_error(index) for index in range(parser.num_errors))
        listed = "; ".join(f"{error.node_name()} ({error.node_operator()}): {tidy(error.desc())}" for error in errors)
        raise EngineError(f"{tensorrt.flavour.label} cannot open {graph.name}: {listed or 'it does not say why'}")
    return parser, network


def given_to(read: Callable[..., bool], graph: OnnxGraph) -> bool:
    """Give a graph's bytes to a parser's method, and say whether it took them. It finds external data by a path."""
    if not graph.external:
        return read(graph.model)
    with graph.on_disk() as path:
        return read(graph.model, str(path))


def _ports(network: Any) -> dict[str, Port]:
    """Describe each input and output; None is the size of an axis that is free."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    return {
        tensor.name: Port(type_name(tensor.dtype), [size if size >= 0 else None for size in tensor.shape])
        for tensor in tensors
    }


def _config(tensorrt: TensorRT, builder: Any, shape: NetworkShape, options: BuildOptions, said: Said) -> Any:
    module = tensorrt.module
    flags = module.BuilderFlag
    config = builder.create_builder_config()
    config.clear_flag(flags.TF32)  # on by default, and no fp32
    config.builder_optimization_level = options.optimisation_level
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # so that the inspector tells types
    profile = builder.create_optimization_profile()
    sizes = (options.batch.least, options.batch.best, options.batch.most)
    profile.set_shape("sample", *((size, shape.channels, shape.height, shape.width) for size in sizes))
    profile.set_shape("timestep", *((size,) for size in sizes))
    if config.add_optimization_profile(profile) < 0:
        raise said.failure(f"refuses the batch profile {options.batch}")
    if options.strip_weights:
        config.set_flag(flags.STRIP_PLAN)
        # Not REFIT: TensorRT 11 lists wrong results with it among its known issues.
        config.set_flag(flags.REFIT_IDENTICAL)
    if options.hardware_compatible:
        config.hardware_compatibility_level = module.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.version_compatible:
        config.set_flag(flags.VERSION_COMPATIBLE)
    if options.flavour is Flavour.TENSORRT_RTX:
        config.set_flag(flags.REQUIRE_USER_ALLOCATION)  # else its runs may allocate, and cannot be captured
        _set_capabilities(tensorrt, config, options.compute_capabilities)
    return config


def _set_capabilities(tensorrt: TensorRT, config: Any, capabilities: tuple[str, ...]) -> None:
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        name = "CURRENT" if capability == CURRENT else f"SM{capability.replace('.', '')}"
        member = tensorrt.module.ComputeCapability.__members__.get(name)
        if member is None or not config.set_compute_capability(member, index):
            raise EngineUnavailableError(
                f"{tensorrt.flavour.label} {tensorrt.version} cannot build for compute capability {capability}, only "
                f"for {', '.join(tensorrt.capabilities)}"
            )


def _use_timing_cache(config: Any, content: bytes) -> Any:
    """Attach what earlier builds measured; what does not fit this GPU or version is left out by TensorRT."""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache
