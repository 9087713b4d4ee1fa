"""Graphs as a GPU runs them best: pixels in and out, and half precision in between.

A bundle's transforms take and give planes of float32, which are four times the bytes of pixels of 8
bits, and compute in float32, which a GPU does at a fraction of its rate. Here they are rewritten as
they are loaded:

    encoder   pixels (16h, 16w, 3) -> planes -> float16 ... -> y (1, M, h, w) float32
    decoder   y_hat (1, M, h, w) float32 -> float16 ... -> planes -> pixels (16h, 16w, 3)

Only what depends on the image is computed in halves; what a level makes of the weights is not.
Pixels of 16 bits hold more than halves do: for them nothing but the ends is changed. The exact
prior is none of these, and stays what it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

_KINDS = {np.uint8: TensorProto.UINT8, np.uint16: TensorProto.UINT16}

Kind = type[np.uint8] | type[np.uint16]
"""Of pixels."""


def encoder_of_pixels(model: bytes, kind: Kind) -> bytes:
    """Return an encoder that takes `pixels`, ``(16h, 16w, 3)``, in place of `x`."""
    proto = onnx.load_from_string(model)
    if kind is np.uint8:
        _halve(proto, "x")
    graph = proto.graph
    (x,) = (value for value in graph.input if value.name == "x")
    graph.input.remove(x)
    graph.input.append(helper.make_tensor_value_info("pixels", _KINDS[kind], ("16h", "16w", 3)))
    _constants(graph, step=np.float32(1 / np.iinfo(kind).max), first=np.array([0], np.int64))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["pixels.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels.float", "pixels.step"], ["pixels.scaled"]),
        helper.make_node("Transpose", ["pixels.scaled"], ["pixels.planes"], perm=[2, 0, 1]),
        helper.make_node("Unsqueeze", ["pixels.planes", "pixels.first"], ["x"]),
    ]
    for index, node in enumerate(nodes):
        graph.node.insert(index, node)
    return proto.SerializeToString()


def decoder_of_pixels(model: bytes, kind: Kind) -> bytes:
    """Return a decoder that gives `pixels`, ``(16h, 16w, 3)``, rounded to the nearest."""
    proto = onnx.load_from_string(model)
    if kind is np.uint8:
        _halve(proto, "y_hat")
    graph = proto.graph
    (x_hat,) = graph.output
    graph.output.remove(x_hat)
    graph.output.append(helper.make_tensor_value_info("pixels", _KINDS[kind], ("16h", "16w", 3)))
    top = np.iinfo(kind).max
    _constants(graph, top=np.float32(top), half=np.float32(0.5), first=np.array([0], np.int64))
    graph.node.extend(
        [
            helper.make_node("Squeeze", [x_hat.name, "pixels.first"], ["pixels.planes"]),
            helper.make_node("Mul", ["pixels.planes", "pixels.top"], ["pixels.scaled"]),
            helper.make_node("Add", ["pixels.scaled", "pixels.half"], ["pixels.up"]),
            helper.make_node("Transpose", ["pixels.up"], ["pixels.float"], perm=[1, 2, 0]),
            helper.make_node("Cast", ["pixels.float"], ["pixels"], to=_KINDS[kind]),
        ]
    )
    return proto.SerializeToString()


def _halve(proto: onnx.ModelProto, image: str) -> None:
    """Let everything that depends on an input be computed in float16, between two casts."""
    graph = proto.graph
    types = _types(proto)
    dependent = {image}
    halved: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []

    def half(name: str) -> str:
        """Return the name of a value's halves, cast when they are first asked for."""
        if name not in halved:
            halved[name] = f"{name}.half"
            to = TensorProto.FLOAT16
            nodes.append(helper.make_node("Cast", [name], [halved[name]], to=to))
        return halved[name]

    for node in graph.node:
        if dependent.isdisjoint(node.input):
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if types.get(name) == TensorProto.FLOAT:
                node.input[index] = half(name)
        for index, name in enumerate(node.output):
            dependent.add(name)
            halved[name] = node.output[index] = f"{name}.half"
        nodes.append(node)
    nodes += [
        helper.make_node("Cast", [halved[value.name]], [value.name], to=TensorProto.FLOAT)
        for value in graph.output
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every value of a graph."""
    graph = shape_inference.infer_shapes(proto).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _constants(graph: onnx.GraphProto, **values: Any) -> None:
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), f"pixels.{name}")
        for name, value in values.items()
    )
