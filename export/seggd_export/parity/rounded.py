"""Compute a half-precision graph on a CPU that has no kernels for it, in its own precision.

ONNX Runtime's CPU provider has neither a float16 nor a bfloat16 convolution: it runs a float16 graph in float32, and
refuses a bfloat16 one. So a graph is proven by its twin in float32: the same nodes and the same stored weights, and
after every node whose output the graph keeps in half precision, a rounding to that precision. Sums inside a node are
float32, as in tensor cores and AMX. What differs from a GPU is the order of those sums, and whether an engine that
fuses two nodes rounds between them: both smaller than the roundings made here.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def rounded_twin(model: ir.Model) -> ir.Model:
    """Return a float32 graph whose every value is what `model` holds in half precision."""
    model = model.clone()
    graph = model.graph
    for value in graph.initializers.values():
        if value.dtype in _HALVES and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)  # clones share their types
    for node in list(graph):
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            continue  # from half, which is float32 here
        for value in node.outputs:
            if value.dtype in _HALVES:
                _round(graph, node, value)
    return model


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Send a value's users to a copy of it rounded to its type; the value itself becomes float32."""
    half = value.dtype
    rounded = ir.Value(name=f"{value.name}/rounded", type=ir.TensorType(half), shape=value.shape)
    widened = ir.Value(name=f"{value.name}/widened", type=ir.TensorType(ir.DataType.FLOAT), shape=value.shape)
    value.replace_all_uses_with(widened)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    if node.op_type == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    graph.insert_after(
        node,
        [
            ir.node("Cast", [value], {"to": half}, outputs=[rounded], name=str(rounded.name)),
            ir.node("Cast", [rounded], {"to": ir.DataType.FLOAT}, outputs=[widened], name=str(widened.name)),
        ],
    )
