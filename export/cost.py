"""Multiplications of a bundle's convolutions, counted from its graphs."""

from __future__ import annotations

import math

import onnx
from onnx import shape_inference

from vaecodec.bundle import DENOISER, HYPER_STRIDE, PASSES, PATCH, REFINER, Bundle

SIDE = 1024
"""Pixels a side of the image that shapes are inferred for."""
_SIDES = {
    "x": SIDE,
    "x_hat": SIDE,
    "y": SIDE // PATCH,
    "y_hat": SIDE // PATCH,
    "features": SIDE // PATCH,
    "z_hat": SIDE // PATCH // HYPER_STRIDE,
}
ANALYSIS = ("encoder.onnx", "hyper.onnx")
PRIOR = ("prior.onnx", *(f"context_{index}.onnx" for index in range(PASSES)))
SYNTHESIS = ("decoder.onnx",)


def kmac_per_pixel(bundle: Bundle) -> dict[str, float]:
    """Return thousands of operations per pixel, for a manifest: of each stage and direction."""
    stages = {
        "encoding": ANALYSIS + PRIOR,
        "decoding": PRIOR + SYNTHESIS,
        "analysis": ANALYSIS,
        "prior": PRIOR,
        "synthesis": SYNTHESIS,
    }
    if bundle.denoiser_halos is not None:
        stages |= {"denoising_analysis": (DENOISER,), "refinement": (REFINER,)}
    return {name: round(macs_per_pixel(bundle, files) / 1000, 1) for name, files in stages.items()}


def macs_per_pixel(bundle: Bundle, files: tuple[str, ...]) -> float:
    """Return the multiply-accumulate operations per pixel of these graphs' convolutions."""
    graphs = (onnx.load_model_from_string(bundle.read(file)) for file in files)
    return sum(_macs(graph) for graph in graphs) / SIDE**2


def _macs(model: onnx.ModelProto) -> int:
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if dimensions:
            dimensions[0].dim_value = 1
            dimensions[2].dim_value = dimensions[3].dim_value = _SIDES[value.name]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in inferred.value_info
    } | {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    return sum(
        math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        for node in inferred.node
        if node.op_type == "Conv"
    )
