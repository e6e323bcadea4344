"""From the network to an ONNX graph, by torch's dynamo exporter, with names that can be read in a viewer.

A UNet's inputs are `sample` (batch, image + mask channels, H, W) and `timestep` (batch,), the output is `out` (batch,
image channels, H, W), all float32. Nodes and values are named MODULE/OPERATOR, such as
`down_blocks.0.resnets.1.conv1/Conv`; weights have the names they have in the state dict.
"""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import onnx_ir as ir
import torch
from torch import nn

from seggd_export.graphs.network import Network
from seggd_rt.errors import ExportError

OPSET = 20
"""Opset of the graphs: all they need, and TensorRT reads no newer one in full before 10.9."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_TRACED_BATCH = 2
"""torch.export takes sizes 0 and 1 for constants."""


def trace(network: Network, height: int, width: int) -> ir.Model:
    """Return the network's float32 graph, for any batch and this height and width.

    Raises
    ------
    ExportError
        torch's exporter fails, or leaves an operator that ONNX does not have.
    """
    sample = torch.zeros(_TRACED_BATCH, network.conv_in.in_channels, height, width)
    return trace_module(network, "unet", {"sample": sample, "timestep": torch.zeros(_TRACED_BATCH)}, "out")


def trace_module(module: nn.Module, name: str, inputs: Mapping[str, torch.Tensor], output: str) -> ir.Model:
    """Return a module's float32 graph, called `name`, for any batch and the other sizes of the inputs given.

    Raises
    ------
    ExportError
        As for `trace`.
    """
    with _quiet_exporter(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=[output],
                dynamic_shapes=tuple({0: "batch"} for _ in inputs),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ExportError(f"torch could not export the network {name}: {reason}") from error
    if program is None:
        raise ExportError("torch's exporter returned nothing")
    model: ir.Model = program.model
    _require_plain_onnx(model)
    _name(model.graph)
    _strip(model, name)
    return model


def module_of(node: ir.Node) -> str:
    """Return the name of the module that a node of a traced graph comes from."""
    return (node.name or "").rpartition("/")[0]


def unique_name(wanted: str, taken: Counter[str]) -> str:
    """Return `wanted`, numbered from its second use on."""
    taken[wanted] += 1
    return wanted if taken[wanted] == 1 else f"{wanted}_{taken[wanted] - 1}"


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what torch 2.13's exporter says of itself, and nothing else."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)  # that torchvision is not installed: these networks have none of its operators
    try:
        with warnings.catch_warnings():
            # Both inputs share one dynamic axis; torch renames one and says so.
            warnings.filterwarnings("ignore", message=r"# The axis name: \w+ will not be used", category=UserWarning)
            # From copyreg, on torch's own pytree specs.
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _require_plain_onnx(model: ir.Model) -> None:
    foreign = {f"{node.domain}::{node.op_type}" for node in model.graph if node.domain}
    foreign |= {str(identifier) for identifier in model.functions}
    if foreign or set(model.opset_imports) != {""}:
        raise ExportError(f"the exported graph holds operators that are not ONNX: {', '.join(sorted(foreign))}")
    if model.opset_imports[""] != OPSET:
        raise ExportError(f"torch exported opset {model.opset_imports['']}; {OPSET} was asked for")


def _name(graph: ir.Graph) -> None:
    """Name nodes, values and constants after the module they belong to."""
    taken: Counter[str] = Counter()
    kept = set(graph.outputs)
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "['', '']"))
        module = scopes[-2] if len(scopes) > 1 else ""
        node.name = unique_name(f"{module}/{node.op_type}" if module else node.op_type, taken)
        for value in node.outputs:
            if value not in kept:
                value.name = node.name
    for value in list(graph.initializers.values()):
        is_weight = "." in (value.name or "")  # the exporter's own constants are named val_1, val_2, ...
        if not is_weight and value.const_value is not None:
            value.name = unique_name(_constant_name(value.const_value), taken)


def _constant_name(tensor: ir.TensorProtocol) -> str:
    """Name a constant of the exporter after what it holds."""
    array = tensor.numpy()
    if array.size > 1 and (array == array.flat[0]).all():
        return f"constant.{array.flat[0]:g}.of.{'x'.join(map(str, array.shape))}"
    if array.size <= 4:
        return f"constant.{'_'.join(f'{number:g}' for number in array.flat) or 'empty'}"
    return f"constant.{'x'.join(map(str, array.shape))}"


def _strip(model: ir.Model, name: str) -> None:
    """Drop what depends on this machine (stack traces with paths, torch's notes), and attributes at their defaults."""
    model.metadata_props.clear()
    model.producer_name, model.producer_version = "seggd-rt", None
    model.graph.name, model.graph.doc_string = name, None
    model.graph.metadata_props.clear()
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        if node.op_type == "Reshape":
            node.attributes.pop("allowzero", None)  # says nothing where no size is 0, and not every importer knows it
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None
