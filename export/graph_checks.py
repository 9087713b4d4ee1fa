"""What checks of a bundle's graphs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import onnxruntime as ort

from export.onnx_graph import Array
from vaecodec.bundle import Bundle
from vaecodec.segments import Box

PIXEL_TOLERANCE = 1 / 255
"""Largest difference in x_hat between ONNX Runtime and PyTorch: one step of a file's pixels."""
LATENT_TOLERANCE = 0.02
"""The same in y, in units of 16 grey levels: float16 weights stand against themselves, so only
the order of summation differs."""


def run_graph(
    bundle: Bundle,
    name: str,
    inputs: dict[str, Array],
    threads: int = 0,
    level: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
) -> list[Array]:
    """Run a graph of a bundle on the inputs that it takes, and return its outputs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.graph_optimization_level = threads, level
    session = ort.InferenceSession(bundle.read(name), options, ["CPUExecutionProvider"])
    taken = {value.name for value in session.get_inputs()}
    fed = {key: value for key, value in inputs.items() if key in taken}
    return cast("list[Array]", session.run(None, fed))


@dataclass(frozen=True)
class LatentSides:
    """Values a side of a latent's square, in the inputs of a graph and in its output."""

    input: int
    output: int


def error_beyond_halo(
    bundle: Bundle, name: str, scalars: dict[str, Array], sides: LatentSides, halo: int
) -> float:
    """Transform noise whole, and its middle with no more around it than a halo.

    Pixels are black or white: so strong an input shows what has little weight.

    Args:
        bundle: holds the graph.
        name: of the graph.
        scalars: its inputs that are no planes.
        sides: of its other inputs, and of its output.
        halo: in latents.

    Returns:
        The largest difference.
    """
    rng = np.random.default_rng(0)
    side = 2 * halo + 4
    large = Box(0, 0, side + 8, side + 8)
    part = Box(4, 4, side + 4, side + 4)
    kept = part.grown(-halo)
    shape = large.scaled(sides.input).shape
    if sides.input == 1:
        y_hat = rng.normal(0, 3, (1, bundle.latent_channels, *shape))
        whole = {"y_hat": y_hat.astype(np.float32)}
    else:
        whole = {
            key: rng.integers(0, 2, (1, 3, *shape)).astype(np.float32) for key in ("x", "x_hat")
        }
    rows, columns = part.scaled(sides.input).slices(large.scaled(sides.input))
    alone = {key: value[:, :, rows, columns] for key, value in whole.items()}
    (expected,) = run_graph(bundle, name, whole | scalars)
    (found,) = run_graph(bundle, name, alone | scalars)
    inner = kept.scaled(sides.output)
    expected = expected[:, :, *inner.slices(large.scaled(sides.output))]
    found = found[:, :, *inner.slices(part.scaled(sides.output))]
    return float(np.abs(expected - found).max())
