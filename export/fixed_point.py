"""The exact graphs, evaluated in int64: the reference that float runtimes must equal.

Every value is an int64 count of steps of 2^-20, so nothing here rounds but where the graph says
`Round`. That is fine enough for every sum (13 fraction bits) and its eighth (LeakyReLU), and
leaves 43 bits for magnitudes. A step that would lose a bit raises an error instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

FRACTION_BITS = 20
ONE = 1 << FRACTION_BITS

Steps = NDArray[np.int64]
Array = NDArray[Any]


class InexactError(ArithmeticError):
    """A graph does something that the fixed-point reference cannot do exactly."""


def evaluate(model: onnx.ModelProto, inputs: dict[str, Array]) -> dict[str, Array]:
    """Run an exact graph.

    Args:
        model: a prior or context graph of a bundle.
        inputs: float32 arrays that are multiples of 2^-20, and int64 anchors.

    Returns:
        Its outputs, as float64 and uint8.

    Raises:
        InexactError: an operation is unknown here or would lose bits.
    """
    values: dict[str, Array] = {
        tensor.name: _from_stored(numpy_helper.to_array(tensor))
        for tensor in model.graph.initializer
    }
    values |= {name: _from_stored(value) for name, value in inputs.items()}
    for node in model.graph.node:
        operation = _OPERATIONS.get(node.op_type)
        if operation is None:
            raise InexactError(f"no exact reference for {node.op_type}")
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        results = operation([values[name] for name in node.input], attributes)
        values.update(zip(node.output, results, strict=True))
    outputs: dict[str, Array] = {}
    for output in model.graph.output:
        value = values[output.name]
        outputs[output.name] = value if value.dtype == np.uint8 else value / ONE
    return outputs


def _from_stored(array: Array) -> Array:
    """Turn floats and int8 weights into steps; leave int64 (shapes, anchors) alone."""
    if array.dtype == np.int64:
        return array
    exact = array.astype(np.float64) * ONE
    steps = exact.astype(np.int64)
    if not np.array_equal(steps, exact):
        raise InexactError("a value is finer than 2^-20")
    return steps


def _shift_down(product: Steps, bits: int = FRACTION_BITS) -> Steps:
    if np.any(product & ((1 << bits) - 1)):
        raise InexactError("a product is finer than 2^-20")
    return product >> bits


def _multiply(a: Steps, b: Steps) -> Steps:
    """Multiply steps, one factor being a power of two (tables) or whole (casts)."""
    if float(np.abs(a).max(initial=0)) * float(np.abs(b).max(initial=0)) >= 2.0**62:
        raise InexactError("a product overflows int64")
    return _shift_down(a * b)


def _round_half_even(a: Steps) -> Steps:
    down = a >> FRACTION_BITS
    rest = a & (ONE - 1)
    up = (rest > ONE // 2) | ((rest == ONE // 2) & (down & 1 == 1))
    return (down + up) << FRACTION_BITS


def _conv(inputs: Sequence[Array], attributes: dict[str, Any]) -> Steps:
    x, weight, bias = inputs
    whole = _shift_down(x)
    kernel, groups = weight.shape[2], attributes.get("group", 1)
    if kernel == 1:
        n, _, height, width = x.shape
        grouped = whole.reshape(n, groups, -1, height, width)
        matrices = weight.reshape(groups, -1, weight.shape[1])
        total = np.einsum("goi,ngihw->ngohw", matrices, grouped).reshape(n, -1, height, width)
    elif groups == 1 or groups != len(weight):
        raise InexactError("a dense spatial convolution is not allowed in the exact prior")
    else:
        pad = kernel // 2
        padded = np.pad(whole, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        height, width = x.shape[2:]
        total = np.zeros_like(whole)
        for i in range(kernel):
            for j in range(kernel):
                window = padded[:, :, i : i + height, j : j + width]
                total += weight[None, :, 0, i, j, None, None] * window
    return total + bias[:, None, None]


def _leaky(a: Steps, alpha: float) -> Steps:
    bits = round(-np.log2(alpha))
    negative = a < 0
    return np.where(negative, _shift_down(np.where(negative, a, 0), bits), a)


def _depth_to_space(a: Steps, block: int, mode: bytes) -> Steps:
    if mode != b"CRD":
        raise InexactError(f"no exact reference for DepthToSpace in mode {mode!r}")
    n, channels, height, width = a.shape
    split = a.reshape(n, channels // block**2, block, block, height, width)
    return split.transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, height * block, width * block)


def _space_to_depth(a: Steps, block: int) -> Steps:
    n, channels, height, width = a.shape
    split = a.reshape(n, channels, height // block, block, width // block, block)
    return split.transpose(0, 3, 5, 1, 2, 4).reshape(n, -1, height // block, width // block)


def _cast(a: Array, to: int) -> Array:
    if to == onnx.TensorProto.UINT8:
        return _shift_down(a).astype(np.uint8)
    return a


_OPERATIONS: dict[str, Callable[[Sequence[Array], dict[str, Any]], Sequence[Array]]] = {
    "Add": lambda i, a: [i[0] + i[1]],
    "Cast": lambda i, a: [_cast(i[0], a["to"])],
    "Clip": lambda i, a: [i[0].clip(i[1], i[2])],
    "Concat": lambda i, a: [np.concatenate(i, a["axis"])],
    "Conv": lambda i, a: [_conv(i, a)],
    "DepthToSpace": lambda i, a: [_depth_to_space(i[0], a["blocksize"], a["mode"])],
    "Gather": lambda i, a: [i[0].take(i[1], axis=a["axis"])],
    "Identity": lambda i, a: [i[0]],
    "LeakyRelu": lambda i, a: [_leaky(i[0], a["alpha"])],
    "Mul": lambda i, a: [_multiply(i[0], i[1])],
    "Reshape": lambda i, a: [i[0].reshape(i[1])],
    "Round": lambda i, a: [_round_half_even(i[0])],
    "SpaceToDepth": lambda i, a: [_space_to_depth(i[0], a["blocksize"])],
}
