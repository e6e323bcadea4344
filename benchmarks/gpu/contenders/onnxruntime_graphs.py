"""Graphs derived from a bundle's for ONNX Runtime's CUDA provider, to be measured beside the bundle's own.

`with_group_norms` has the provider's own operators where a bundle's graph takes a group normalisation apart, because no
other engine knows them: GroupNorm and SkipGroupNorm of the domain com.microsoft, with the SiLU behind them and the sum
before them, channels last. What they add up in float32 they add atomically, so equal calls may differ by a last bit.
`unrolled` has a whole run's steps one after the other, which ONNX Runtime can record as one CUDA graph by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from seggd_rt.diffusion import Column, RowTable

_DOMAIN = "com.microsoft"
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def with_group_norms(path: Path, to: Path) -> int:
    """Write a graph with fused group normalisations; return how many there are.

    Parameters
    ----------
    path
        A bundle's graph.
    to
        The file to write; it must lie on its own, as the weights are in it.
    """
    model = ir.load(path)
    norms = [node for node in model.graph if node.op_type == "InstanceNormalization"]
    for norm in norms:
        _fuse(model.graph, norm)
    model.graph.opset_imports[_DOMAIN] = 1
    ir.save(model, to)
    return len(norms)


def unrolled(path: Path, to: Path, table: RowTable) -> None:
    """Write a run of deterministic steps as one graph: (sample, timestep) to out, as the network's own.

    Its `timestep` is not used, its `out` is the last x. So it is bound and called as a network is.

    Raises
    ------
    ValueError
        The rows add noise, look back, guide or blend.
    """
    if table.draws_noise or table.guides or table.blends or table.rows[:, Column.CP].any():
        raise ValueError("what is unrolled has no noise, guidance, blend or last x0: give it DDIM's rows at eta 0")
    model = ir.load(path)
    unet = model.graph
    (out,) = unet.outputs
    assert out.shape is not None
    channels = int(out.shape[1])
    sample, timestep = (ir.Value(name=each.name, type=each.type, shape=each.shape) for each in unet.inputs)
    graph = ir.Graph([sample, timestep], [], nodes=[], opset_imports=dict(unet.opset_imports), name="unrolled")
    # Each weight once, however often it is used.
    weights = {name: _initializer(graph, name, _array(value)) for name, value in unet.initializers.items()}
    writer = _Writer(graph)
    x = writer.op("x", "Slice", [sample, *map(writer.integers, ([0], [channels], [1]))])
    mask = writer.op("mask", "Slice", [sample, *map(writer.integers, ([channels], [2**31 - 1], [1]))])
    for index, (row, at) in enumerate(zip(table.rows.tolist(), table.timesteps.tolist(), strict=True)):
        writer.prefix = f"step{index}/"
        none = writer.op("none", "Mul", [timestep, writer.number(0)])
        t = writer.op("t", "Add", [none, writer.number(at)])
        state = writer.op("sample", "Concat", [x, mask], axis=1)
        o = _inlined(writer, unet.clone(), [state, t], weights)

        def times(name: str, column: Column, value: ir.Value, row: list[float] = row) -> ir.Value:
            return writer.op(name, "Mul", [value, writer.number(row[column])])

        clip = row[Column.CLIP]
        estimate = writer.op("estimate", "Add", [times("kx", Column.KX, x), times("ko", Column.KO, o)])
        x0 = writer.op("x0", "Clip", [estimate, writer.number(-clip), writer.number(clip)])
        x_and_o = writer.op("x_o", "Add", [times("cx", Column.CX, x), times("co", Column.CO, o)])
        x = writer.op("x", "Add", [x_and_o, times("c0", Column.C0, x0)])
    x.name, x.dtype, x.shape = out.name, ir.DataType.FLOAT, out.shape
    graph.outputs.append(x)
    ir.save(ir.Model(graph, ir_version=model.ir_version), to)


class _Writer:
    """Adds nodes to a graph, each value under a name of its own."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph, self.prefix, self._count = graph, "", 0

    def op(self, name: str, operator: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        value = ir.Value(name=f"{self.prefix}{name}")
        self.graph.append(ir.node(operator, inputs, attributes, outputs=[value], name=value.name))
        return value

    def number(self, value: float) -> ir.Value:
        return self._constant(np.asarray(value, np.float32))

    def integers(self, values: list[int]) -> ir.Value:
        return self._constant(np.asarray(values, np.int64))

    def _constant(self, array: NDArray[Any]) -> ir.Value:
        self._count += 1
        return _initializer(self.graph, f"unrolled/constant{self._count}", array)


def _inlined(writer: _Writer, unet: ir.Graph, inputs: list[ir.Value], weights: dict[str, ir.Value]) -> ir.Value:
    """Move a copy of a network into a graph, with the weights that are there already; return what it gives."""
    nodes, (out,) = list(unet), list(unet.outputs)
    for given, value in zip(list(unet.inputs), inputs, strict=True):
        given.replace_all_uses_with(value)
    for name, copy in list(unet.initializers.items()):
        copy.replace_all_uses_with(weights[name])
    unet.outputs.clear()
    unet.initializers.clear()
    unet.remove(nodes)
    for node in nodes:
        node.name = f"{writer.prefix}{node.name}"
        for value in node.outputs:
            value.name = f"{writer.prefix}{value.name}"
    writer.graph.extend(nodes)
    return out


def _fuse(graph: ir.Graph, norm: ir.Node) -> None:
    """Put one operator in the place of an instance normalisation and all that makes a group normalisation of it."""
    before = _producer(norm.inputs[0], "Reshape")
    source = _through_casts(before.inputs[0])
    after = _user(norm.outputs[0], "Reshape")
    scaled = _user(after.outputs[0], "Mul")
    shifted = _user(scaled.outputs[0], "Add")
    last, silu = shifted.outputs[0], False
    if (cast := _only_user(last)) is not None and cast.op_type == "Cast":
        last = cast.outputs[0]
    users = list(last.consumers())
    gate = next((user for user in users if user.op_type == "Sigmoid"), None)
    if gate is not None and len(users) == 2:
        last, silu = _user(gate.outputs[0], "Mul").outputs[0], True
    groups = _array(norm.inputs[1]).size
    name = str(norm.name)
    parameters = [
        _initializer(graph, f"{name}/{which}", _array(value).astype(np.float32).reshape(-1))
        for which, value in (("gamma", _other(scaled, after.outputs[0])), ("beta", _other(shifted, scaled.outputs[0])))
    ]
    epsilon = norm.attributes["epsilon"].value
    attributes = {"groups": groups, "activation": int(silu), "epsilon": epsilon, "channels_last": 1}
    addition = source.producer()
    fused = ir.Value(name=f"{name}/fused")
    if addition is not None and addition.op_type == "Add":
        first, second = (value for value in addition.inputs if value is not None)
        flat = second.producer()
        sums, nodes = ir.Value(name=f"{name}/sum"), list[ir.Node]()
        if flat is not None and flat.op_type == "Unsqueeze":  # a vector an image: the time's
            assert flat.inputs[0] is not None
            skip = flat.inputs[0]
        else:
            skip, nodes = _transposed(second, f"{name}/second", _TO_LAST)
        x, transposing = _transposed(first, f"{name}/first", _TO_LAST)
        node = ir.Node(
            _DOMAIN, "SkipGroupNorm", [x, *parameters, skip], _attributes(attributes), outputs=[fused, sums], name=name
        )
        result, back = _transposed(fused, f"{name}/result", _TO_FIRST)
        total, total_back = _transposed(sums, f"{name}/total", _TO_FIRST)
        graph.insert_after(addition, [*nodes, *transposing, node, *back, *total_back])
        last.replace_all_uses_with(result)
        source.replace_all_uses_with(total)
        # What lay between the sum and the normalisation is no longer used.
        _remove_unused(graph)
        return
    x, transposing = _transposed(source, f"{name}/source", _TO_LAST)
    node = ir.Node(_DOMAIN, "GroupNorm", [x, *parameters], _attributes(attributes), outputs=[fused], name=name)
    result, back = _transposed(fused, f"{name}/result", _TO_FIRST)
    graph.insert_before(before, [*transposing, node, *back])
    last.replace_all_uses_with(result)
    _remove_unused(graph)


def _attributes(values: dict[str, Any]) -> list[ir.Attr]:
    return [
        ir.AttrFloat32(name, value) if isinstance(value, float) else ir.AttrInt64(name, value)
        for name, value in values.items()
    ]


def _transposed(value: ir.Value, name: str, order: tuple[int, ...]) -> tuple[ir.Value, list[ir.Node]]:
    made = ir.Value(name=name)
    return made, [ir.node("Transpose", [value], {"perm": order}, outputs=[made], name=name)]


def _remove_unused(graph: ir.Graph) -> None:
    """Remove nodes that nothing needs any more."""
    wanted = {id(value) for value in graph.outputs}
    for node in reversed(list(graph)):
        if not any(id(value) in wanted or value.consumers() for value in node.outputs):
            graph.remove(node, safe=True)


def _through_casts(value: ir.Value | None) -> ir.Value:
    """Return what was cast."""
    while value is not None and (node := value.producer()) is not None and node.op_type == "Cast":
        value = node.inputs[0]
    assert value is not None
    return value


def _producer(value: ir.Value | None, operator: str) -> ir.Node:
    node = None if value is None else value.producer()
    if node is None or node.op_type != operator:
        raise ValueError(f"{value} is made by no {operator}")
    return node


def _only_user(value: ir.Value) -> ir.Node | None:
    users = list(value.consumers())
    return users[0] if len(users) == 1 else None


def _user(value: ir.Value, operator: str) -> ir.Node:
    node = _only_user(value)
    if node is None or node.op_type != operator:
        raise ValueError(f"{value} is used by no {operator} alone")
    return node


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    return next(each for each in node.inputs if each is not value)


def _array(value: ir.Value | None) -> NDArray[Any]:
    if value is None or value.const_value is None:
        raise ValueError(f"{value} is no constant")
    array: NDArray[Any] = value.const_value.numpy()
    return array


def _initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value
