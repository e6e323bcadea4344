"""A float32 graph in half precision: float16 or bfloat16 weights and products, with float32 islands.

Inputs and output stay float32. Islands are the network's own (`Network.float32_modules`: time embedding and
normalisation) and the softmax. Every tensor has one type and every change of type is a Cast in the graph, because
TensorRT 11 takes precision from the graph alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import ml_dtypes
import numpy as np
import onnx_ir as ir

from seggd_export.graphs.tracing import OPSET, module_of, unique_name
from seggd_rt.diffusion import Precision
from seggd_rt.errors import ExportError

OPSETS = {Precision.FP32: OPSET, Precision.FP16: OPSET, Precision.BF16: 22}
"""Conv takes bfloat16 from opset 22 on; between 20 and 22 the other operators here only gained types."""

_HALF = {
    Precision.FP16: (ir.DataType.FLOAT16, np.dtype(np.float16)),
    Precision.BF16: (ir.DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
_FLOAT32_OPERATORS = frozenset({"Softmax"})
_ALWAYS_FLOAT32_INPUTS = {"Resize": {1, 2}}
"""Inputs whose type the standard fixes: Resize's region and scales."""


def to_half(model: ir.Model, precision: Precision, float32_modules: Collection[str]) -> ir.Model:
    """Return a copy of a traced float32 graph that computes in a half precision outside its islands.

    Raises
    ------
    ExportError
        A weight is beyond the precision's range.
    """
    model = model.clone()
    model.opset_imports[""] = OPSETS[precision]
    _Lowering(model.graph, precision, float32_modules).run()
    return model


class _Lowering:
    def __init__(self, graph: ir.Graph, precision: Precision, float32_modules: Collection[str]) -> None:
        self.graph, self.precision, self.islands = graph, precision, float32_modules
        self.half, self.storage = _HALF[precision]
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.names = Counter(value.name for node in graph for value in node.outputs if value.name)

    def run(self) -> None:
        outputs = list(self.graph.outputs)
        for node in list(self.graph):
            wanted = self._type_of(node)
            fixed = _ALWAYS_FLOAT32_INPUTS.get(node.op_type, set())
            for i, value in enumerate(node.inputs):
                if value is not None and i not in fixed and _is_float(value) and value.dtype is not wanted:
                    node.replace_input_with(i, self._convert(value, wanted, node))
            for value in node.outputs:
                if _is_float(value):
                    value.type = ir.TensorType(wanted)  # clones share their types
        for i, value in enumerate(outputs):
            if value.dtype is not ir.DataType.FLOAT:
                self._restore_output(i, value)
        for name, value in list(self.graph.initializers.items()):
            if not value.uses():
                del self.graph.initializers[name]

    def _type_of(self, node: ir.Node) -> ir.DataType:
        island = node.op_type in _FLOAT32_OPERATORS or module_of(node) in self.islands
        return ir.DataType.FLOAT if island else self.half

    def _convert(self, value: ir.Value, wanted: ir.DataType, user: ir.Node) -> ir.Value:
        """Return a value in the wanted type, made once for all its users."""
        if (value, wanted) not in self.casts:
            made = self._convert_weight(value) if value.is_initializer() else self._cast(value, wanted, user)
            self.casts[value, wanted] = made
        return self.casts[value, wanted]

    def _cast(self, value: ir.Value, wanted: ir.DataType, user: ir.Node) -> ir.Value:
        name = unique_name(f"{value.name}/{'float32' if wanted is ir.DataType.FLOAT else self.precision}", self.names)
        out = ir.Value(name=name, type=ir.TensorType(wanted), shape=value.shape)
        self.graph.insert_before(user, ir.node("Cast", [value], {"to": wanted}, outputs=[out], name=name))
        return out

    def _convert_weight(self, value: ir.Value) -> ir.Value:
        if value.const_value is None:
            raise ExportError(f"weight '{value.name}' has no value")
        weight = value.const_value.numpy()
        with np.errstate(over="ignore"):  # looked for below
            stored = weight.astype(self.storage)
        if not np.isfinite(stored.astype(np.float32)).all():
            raise ExportError(
                f"weight '{value.name}' reaches {np.abs(weight).max():.3g}, more than {self.precision} holds: "
                "export without that precision"
            )
        shared = any(self._type_of(user) is ir.DataType.FLOAT for user in value.consumers())
        name = f"{value.name}.{self.precision}" if shared else str(value.name)
        if not shared:
            value.name = f"{name}.float32"  # gives its name to the one that stays
        made = ir.Value(
            name=name,
            type=ir.TensorType(self.half),
            shape=value.shape,
            const_value=ir.Tensor(stored, dtype=self.half, name=name),
        )
        self.graph.register_initializer(made)
        return made

    def _restore_output(self, i: int, value: ir.Value) -> None:
        """Cast the graph's output back to float32, under its own name."""
        name = str(value.name)
        value.name = str(value.producer().name) if value.producer() else f"{name}/{self.precision}"
        out = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=value.shape)
        self.graph.append(ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, outputs=[out], name=f"{name}/float32"))
        self.graph.outputs[i] = out


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
