"""Two rewrites of a graph that OpenVINO's CPU kernels run faster, equal in value.

Group normalisation arrives as an instance normalisation of (B, groups, rest). That needs planar memory, while
convolutions work channels-last, so each one costs two reorders of the image. As means over the pixels of a channel,
then over the channels of a group, it stays channels-last:

    m = E[x]        d = x - m        y = d / sqrt(E[d^2] + eps)          E: over pixels, then over a group's channels

An upsampling by two (nearest) with the 3x3 convolution after it is one transposed convolution of stride 2: a pixel of
the result sees only 2x2 pixels before the upsampling, so 4/9 of the products remain. A tap of the 4x4 kernel is the sum
of the 3x3 taps that fall on one source pixel.

`benchmarks/README.md` has what either gains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.optional import require


def rewrite(model: Any) -> tuple[int, int]:
    """Rewrite an `openvino.Model` in place, and return how many normalisations and upsamplings were found."""
    ops = require("openvino.opset13", extra="cpu", feature="the openvino engine")
    nodes = model.get_ordered_ops()
    norms = sum(_rewrite_norm(ops, node) for node in nodes if node.get_type_name() == "MVN")
    upsamplings = sum(_rewrite_upsampling(ops, node) for node in nodes if node.get_type_name() == "Convolution")
    model.validate_nodes_and_infer_types()
    return norms, upsamplings


def upsampling_kernel(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the kernel of the transposed convolution that upsamples by two and convolves.

    Parameters
    ----------
    weight
        (out, in, 3, 3) float32: the convolution after the upsampling, of stride 1 and padding 1.

    Returns
    -------
    NDArray
        (in, out, 4, 4) float32, for stride 2 and padding 1.
    """
    kernel = np.zeros((weight.shape[1], weight.shape[0], 4, 4))
    for (y, x), (i, j) in ((p, t) for p in np.ndindex(2, 2) for t in np.ndindex(3, 3)):
        # Tap (i, j) of the result's pixel (2 q + y, 2 r + x) falls on the source pixel (q, r) + (dy, dx).
        dy, dx = (y + i - 1) // 2, (x + j - 1) // 2
        kernel[:, :, y - 2 * dy + 1, x - 2 * dx + 1] += weight[:, :, i, j].T
    return kernel.astype(np.float32)


def _rewrite_norm(ops: Any, norm: Any) -> bool:
    """Replace MVN(Reshape(x)) by the same over the axes of x, (B, C, H, W)."""
    reshape = norm.input_value(0).get_node()
    axes = _constant(norm.input_value(1))
    if reshape.get_type_name() != "Reshape" or axes is None or axes.tolist() not in ([2], [-1]):
        return False
    x = reshape.input_value(0)
    image, grouped = x.get_partial_shape(), norm.input(0).get_partial_shape()
    attributes = norm.get_attributes()
    plain = attributes["normalize_variance"] and attributes["eps_mode"] == "INSIDE_SQRT"
    if not (image.rank.is_static and grouped.rank.is_static and len(image) == 4 and len(grouped) == 3 and plain):
        return False
    if not (image[1].is_static and grouped[1].is_static):
        return False
    channels, groups = image[1].get_length(), grouped[1].get_length()
    if not groups or channels < groups or channels % groups:  # not groups of channels
        return False
    pixels = _integers(ops, [2, 3])
    of_channel = _integers(ops, np.arange(channels) * groups // channels)

    def mean(value: Any) -> Any:
        """Average over pixels, then over each group's channels: (B, C, 1, 1)."""
        a_channel = ops.reshape(
            ops.reduce_mean(value, pixels), _integers(ops, [-1, groups, channels // groups]), special_zero=False
        )
        a_group = ops.reduce_mean(a_channel, _integers(ops, [2]))
        spread = ops.gather(a_group, of_channel, _integers(ops, 1))
        return ops.reshape(spread, _integers(ops, [-1, channels, 1, 1]), special_zero=False)

    d = ops.subtract(x, mean(x))
    variance = ops.add(mean(ops.multiply(d, d)), np.float32(attributes["eps"]))
    y = ops.multiply(d, ops.power(variance, np.float32(-0.5)))
    # What follows in the graph, the way back from the groups' shape among it, folds away when it is compiled.
    special_zero = reshape.get_attributes()["special_zero"]
    _replace(norm, ops.reshape(y, reshape.input_value(1), special_zero=special_zero))
    return True


def _rewrite_upsampling(ops: Any, convolution: Any) -> bool:
    """Replace Convolution(Interpolate(x)) by one transposed convolution."""
    upsampling = convolution.input_value(0).get_node()
    weight = _constant(convolution.input_value(1))
    if upsampling.get_type_name() != "Interpolate" or weight is None or weight.shape[2:] != (3, 3):
        return False
    if weight.dtype != np.float32:
        return False
    how, scales = upsampling.get_attributes(), _constant(upsampling.input_value(1))
    doubles = how["shape_calculation_mode"] == "scales" and scales is not None and scales.tolist() == [1, 1, 2, 2]
    nearest = (how["mode"], how["coordinate_transformation_mode"], how["nearest_mode"])
    if not doubles or nearest != ("nearest", "asymmetric", "floor") or any(how["pads_begin"]) or any(how["pads_end"]):
        return False
    plain = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}
    attributes = convolution.get_attributes()
    if any(list(attributes[name]) != value for name, value in plain.items()):
        return False
    kernel = ops.constant(upsampling_kernel(weight))
    one, two = [1, 1], [2, 2]
    _replace(
        convolution,
        ops.convolution_backprop_data(
            upsampling.input_value(0), kernel, strides=two, pads_begin=one, pads_end=one, dilations=one
        ),
    )
    return True


def _replace(old: Any, new: Any) -> None:
    new.set_friendly_name(old.get_friendly_name())
    old.output(0).replace(new.output(0))


def _constant(output: Any) -> NDArray[Any] | None:
    """Return the value of a constant, or None where it is computed."""
    node = output.get_node()
    return np.asarray(node.data) if node.get_type_name() == "Constant" else None


def _integers(ops: Any, values: Any) -> Any:
    return ops.constant(np.asarray(values, np.int64))
