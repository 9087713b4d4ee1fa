"""The graph that tells what a machine's convolutions reach, for `vaecodec bench --speed`."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from export.onnx_graph import Graph
from vaecodec.bench.timing import CHANNELS, LAYERS


def convolutions() -> onnx.ModelProto:
    """Return dense 3x3 convolutions, one on the other, of weights that hardly take any bytes."""
    g = Graph("convolution")
    t = g.input("x", np.float32, (1, CHANNELS, "h", "w"))
    shape = g.constant("shape", np.array([CHANNELS, CHANNELS, 3, 3], np.int64))
    mean = numpy_helper.from_array(np.array([1 / (9 * CHANNELS)], np.float32))
    weight = g.op("ConstantOfShape", shape, value=mean)
    for _ in range(LAYERS):
        t = g.op("Conv", t, weight, pads=[1, 1, 1, 1])
    g.output(t, "y", np.float32, (1, CHANNELS, "h", "w"))
    return g.model({"vaecodec.graph": "convolution"})
