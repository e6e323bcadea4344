"""The whole sampling loop as one ONNX graph, for programs that have ONNX Runtime and nothing of ours.

    label_map  (batch, H, W) uint8: one class id a pixel
    keep       (classes,) bool: which classes stay, by id; the background's entry changes nothing
    noise      (batch, C, H, W) float32: normal
    image      (batch, C, H, W) float32 in [0, 1]

Labels are uint8 because every language has it, which is not true of int64 (JavaScript's is a BigInt). The image lies as
the noise and the network's own tensors do, channels before pixels, so nothing is transposed and shapes can be compared.

The graph has three parts: the mask, an ONNX Loop whose body is the network followed by one update row
(`diffusion/rows.py`), and the pixels. Rows and timesteps are constants. The body occurs once and holds each
weight once, as initializers of the body and not of the graph around it, because there ONNX Runtime optimizes the
network as it does alone, to the same kernels and so to the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike, NDArray

from seggd_rt.bundle import Meaning
from seggd_rt.diffusion import Column, RowTable, encode_table

_BATCH = "batch"


def sampler_graph(unet: ir.Model, meaning: Meaning, table: RowTable) -> ir.Model:
    """Return the loop around a network.

    Parameters
    ----------
    unet
        The bundle's fp32 graph, (sample, timestep) to out; it is taken apart.
    meaning
        What of the manifest says how masks become images.
    table
        A deterministic one-step sampler's run: rows that neither add noise, look back, guide nor blend.

    Raises
    ------
    ValueError
        The table's rows do more.
    """
    if table.draws_noise or table.guides or table.blends or table.rows[:, Column.CP].any():
        raise ValueError("the loop has no noise, guidance, blend or last x0: give it DDIM's rows at eta 0")
    image, classes = meaning.image, len(meaning.classes)
    size = (image.height, image.width)
    label_map = ir.val("label_map", ir.DataType.UINT8, (_BATCH, *size))
    keep = ir.val("keep", ir.DataType.BOOL, (classes,))
    noise = ir.val("noise", ir.DataType.FLOAT, (_BATCH, image.channels, *size))
    graph = _Graph("sampler", [label_map, keep, noise], unet.opset_imports)

    mask = _mask(graph, label_map, keep, encode_table(meaning.mask.encoding, classes))
    body = _step(graph, unet.graph, mask, noise, table)
    steps = graph.constant("sampler/steps", len(table), np.int64)
    last = graph.op("sampler/loop", "Loop", [steps, None, noise], body=body)
    pixels = _pixels(graph, last)
    pixels.dtype, pixels.shape = ir.DataType.FLOAT, noise.shape
    graph.ir.outputs.append(pixels)
    return ir.Model(graph.ir, ir_version=unet.ir_version, producer_name=unet.producer_name)


def _mask(graph: _Graph, label_map: ir.Value, keep: ir.Value, table: NDArray[np.float32]) -> ir.Value:
    """Encode label maps by the table, its rows zeroed where a class is left out: (batch, mask channels, H, W)."""
    kept = graph.op("sampler/mask/kept", "Cast", [keep], to=ir.DataType.FLOAT)
    column = graph.op("sampler/mask/column", "Unsqueeze", [kept, graph.constant("sampler/axis", [1], np.int64)])
    rows = graph.op("sampler/mask/table", "Mul", [graph.constant("sampler/encode_table", table, np.float32), column])
    labels = graph.op("sampler/mask/labels", "Cast", [label_map], to=ir.DataType.INT32)
    # A label outside the classes is an index outside the table, which ends the run with an error.
    encoded = graph.op("sampler/mask/encoded", "Gather", [rows, labels])
    return graph.op("sampler/mask", "Transpose", [encoded], perm=[0, 3, 1, 2])


def _step(graph: _Graph, unet: ir.Graph, mask: ir.Value, noise: ir.Value, table: RowTable) -> ir.Graph:
    """Return the loop's body, from x to the next x: the network and one update row."""
    rows = graph.constant("sampler/rows", table.rows, np.float32)
    timesteps = graph.constant("sampler/timesteps", table.timesteps, np.float32)
    batch = graph.op("sampler/batch", "Shape", [noise], start=0, end=1)

    i, go_on = ir.val("step/i", ir.DataType.INT64, ()), ir.val("step/go_on", ir.DataType.BOOL, ())
    x = ir.val("step/x", ir.DataType.FLOAT, noise.shape)
    step = _Graph("step", [i, go_on, x], {})
    sample = step.op("step/sample", "Concat", [x, mask], axis=1)
    timestep = step.op("step/timestep", "Expand", [step.op("step/t", "Gather", [timesteps, i]), batch])
    o = step.inline(unet, [sample, timestep])

    row = step.op("step/row", "Gather", [rows, i])
    names = [f"step/{column.name.lower()}" for column in Column]
    kx, ko, clip, cx, co, c0, *_ = step.split("step/coefficients", row, names)
    # Sums from left to right, as rows.advance has them.
    signal, residual = step.op("step/kx_x", "Mul", [x, kx]), step.op("step/ko_o", "Mul", [o, ko])
    estimate = step.op("step/estimate", "Add", [signal, residual])
    below = step.op("step/below", "Min", [estimate, clip])
    x0 = step.op("step/x0", "Max", [below, step.op("step/minus_clip", "Neg", [clip])])
    x_and_o = step.op("step/x_o", "Add", [step.op("step/cx_x", "Mul", [x, cx]), step.op("step/co_o", "Mul", [o, co])])
    x_next = step.op("step/x_next", "Add", [x_and_o, step.op("step/c0_x0", "Mul", [x0, c0])])
    step.ir.outputs.extend([step.op("step/go_on_too", "Identity", [go_on]), x_next])
    return step.ir


def _pixels(graph: _Graph, x: ir.Value) -> ir.Value:
    """Map [-1, 1] to [0, 1]."""
    half, zero, one = (graph.constant(f"sampler/{value:g}", value, np.float32) for value in (0.5, 0.0, 1.0))
    shifted = graph.op("sampler/shifted", "Add", [graph.op("sampler/halved", "Mul", [x, half]), half])
    return graph.op("image", "Clip", [shifted, zero, one])


class _Graph:
    """A graph that is written node by node, each value under a name of its own that a viewer shows."""

    def __init__(self, name: str, inputs: Sequence[ir.Value], opset_imports: Mapping[str, int]) -> None:
        self.ir = ir.Graph(inputs, [], nodes=[], opset_imports=dict(opset_imports), name=name)

    def constant(self, name: str, value: ArrayLike, dtype: type[np.generic]) -> ir.Value:
        """Add a constant."""
        tensor = ir.tensor(np.asarray(value, dtype), name=name)
        constant = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        self.ir.register_initializer(constant)
        return constant

    def op(self, name: str, operator: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """Add a node of one output."""
        value = ir.Value(name=name)
        self.ir.append(ir.node(operator, inputs, attributes, outputs=[value], name=name))
        return value

    def split(self, name: str, vector: ir.Value, names: Sequence[str]) -> list[ir.Value]:
        """Take a vector apart into its numbers, (1,) each."""
        numbers = [ir.Value(name=each) for each in names]
        attributes = {"axis": 0, "num_outputs": len(numbers)}
        self.ir.append(ir.node("Split", [vector], attributes, outputs=numbers, name=name))
        return numbers

    def inline(self, graph: ir.Graph, inputs: Sequence[ir.Value]) -> ir.Value:
        """Move a graph of one output in here, its weights with it, fed by `inputs`; return what it gives."""
        nodes, weights, (out,) = list(graph), list(graph.initializers.values()), list(graph.outputs)
        for given, value in zip(list(graph.inputs), inputs, strict=True):
            given.replace_all_uses_with(value)
        graph.outputs.clear()
        graph.initializers.clear()
        graph.remove(nodes)
        self.ir.extend(nodes)
        for weight in weights:
            self.ir.register_initializer(weight)
        return out
