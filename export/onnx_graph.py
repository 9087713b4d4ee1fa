"""A small builder of ONNX graphs whose every initialiser is named after its parameter."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

OPSET = 18
IR_VERSION = 9

Array = NDArray[Any]


class Graph:
    """Nodes and initialisers of one ONNX model, in the order in which they are added."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: type[np.generic], shape: tuple[str | int, ...]) -> str:
        """Declare an input; a string in `shape` is a dynamic dimension."""
        self._inputs.append(_value_info(name, dtype, shape))
        return name

    def output(
        self, value: str, name: str, dtype: type[np.generic], shape: tuple[str | int, ...]
    ) -> None:
        """Declare `value` as an output, under another name."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(_value_info(name, dtype, shape))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.split(kind, 1, *inputs, **attributes)[0]

    def split(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        name = f"{kind}_{len(self._nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names

    def constant(self, name: str, value: Array) -> str:
        """Add an initialiser as it is; the same one may be asked for again.

        Raises:
            ValueError: another one has this name.
        """
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), name)
        if self._initialisers.setdefault(name, tensor) != tensor:
            raise ValueError(f"{self.name} has two initialisers named {name}")
        return name

    def scalar(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.constant(f"scalar.{value!r}", np.array(value, np.float32))

    def half(self, name: str, value: Array) -> str:
        """Add weights as float16, cast back to float32 (a runtime folds the cast on load)."""
        stored = self.constant(name, value.astype(np.float16))
        return self.op("Cast", stored, to=TensorProto.FLOAT)

    def integers(self, name: str, k: Array, scale: Array) -> str:
        """Add weights ``k * scale`` as int8 and a float32 scale of the same rank."""
        stored = self.constant(name, k.astype(np.int8))
        factor = self.constant(f"{name}.scale", scale.astype(np.float32))
        return self.op("Mul", self.op("Cast", stored, to=TensorProto.FLOAT), factor)

    def model(self, metadata: dict[str, str]) -> onnx.ModelProto:
        """Return the checked model; `metadata` goes to its metadata_props."""
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._initialisers.values())
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vaecodec"
        )
        helper.set_model_props(model, metadata)
        checker.check_model(model, full_check=True)
        return model


def _value_info(
    name: str, dtype: type[np.generic], shape: tuple[str | int, ...]
) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)
