"""What an image is going to come to, before it is encoded.

How much neighbouring samples differ tells size and fidelity at every level, on photographs within
about 10%: enough to begin a search with. At the higher qualities, what the first pass of the prior
takes then tells the size within 1%.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecodec.bundle import PATCH
from vaecodec.raster import Raster
from vaecodec.segments import Box

QUALITIES = (0, 15, 30, 45, 60, 75, 90, 100)
"""Those that the tables have a row for."""

# Factors of what `busyness` returns, a row for each quality. `python -m export forecast` fits them.
# These are of `base` and every thirtieth of its training photographs' tiles. Other bundles and
# images only take longer.
LOG_BYTES_PER_PIXEL = (
    (-7.187, -0.129, 0.041, 0.738, 0.044),
    (-6.605, 0.079, 0.048, 0.577, 0.049),
    (-6.065, 0.407, 0.037, 0.374, 0.055),
    (-5.430, 0.737, 0.028, 0.134, 0.064),
    (-4.935, 1.111, -0.020, -0.020, 0.084),
    (-4.275, 1.343, -0.072, -0.121, 0.095),
    (-3.284, 1.146, -0.063, -0.134, 0.108),
    (-2.621, 0.945, -0.048, -0.119, 0.112),
)
"""Natural logarithm of the bytes that the latents of a pixel take."""
PSNR_DB = (
    (38.226, -2.728, -0.417, -0.668, -0.343),
    (40.962, -4.617, -0.235, 0.360, -0.416),
    (42.899, -5.732, -0.089, 1.167, -0.488),
    (44.942, -6.054, 0.124, 1.280, -0.630),
    (46.389, -4.960, 0.203, 0.928, -0.816),
    (47.017, -2.508, -0.001, 0.470, -1.066),
    (47.445, 0.672, -0.476, 0.101, -1.400),
    (47.994, 2.744, -0.887, -0.034, -1.657),
)
"""Fidelity, as `fidelity_db` measures it."""

LATER_PASSES = (1.077, 0.019, 0.015, 0.010)
"""By powers of the logarithm of what the first pass takes, in bits per pixel: the logarithm of how
many times that the others take."""
FORESEEABLE = 40.0
"""The quality from which on they tell enough: at 28 they are off by 3%, and at 10 by 5%."""
_FIRST_RANGE = -5.0, 0.5
"""Of that logarithm; a cubic means nothing outside."""

_LEAST, _MOST = (0.5, 0.5, -1.0), (4.2, 4.2, 3.0)
"""What the tiles had, of fine, coarse and colour: a parabola means nothing outside."""
_PIXELS = 2**17
"""Of a larger image, some bands of rows stand for all."""


def busyness(raster: Raster) -> NDArray[np.float64]:
    """Return how busy an image is: ``(5,)``, 1, fine, fine squared, coarse and colour.

    All but the first are logarithms of the mean difference of neighbours, of 255, both directions
    added: fine between samples of green (or grey), coarse between means of 4 x 4 of them, colour
    between samples of red less green, and of blue less green.
    """
    bands = range(0, raster.height, PATCH)
    skip = -(-raster.width * raster.height // _PIXELS)
    means: list[tuple[float, float, float]] = []
    for top in bands[::skip]:
        samples = raster.read(Box(top, 0, top + PATCH, raster.width).within(raster.box))
        colours = samples[:, :, : raster.mode.colours].astype(np.float32)
        colours *= 255 / np.iinfo(samples.dtype).max
        green = colours[:, :, colours.shape[2] // 2]
        rows, columns = (side // 4 for side in green.shape)
        squares = green[: 4 * rows, : 4 * columns].reshape(rows, 4, columns, 4).mean((1, 3))
        colour = sum(_difference(colours[:, :, other] - green) for other in (0, -1))
        means.append((_difference(green), _difference(squares), colour))
    logarithms = np.log(np.mean(means, axis=0) + 1e-9)
    fine, coarse, colour = logarithms.clip(_LEAST, _MOST).tolist()
    return np.array((1, fine, fine * fine, coarse, colour))


def forecast(table: tuple[tuple[float, ...], ...], raster: Raster) -> NDArray[np.float64]:
    """Return what a table tells of an image at `QUALITIES`: ``(8,)``, rising."""
    rising = np.maximum.accumulate(np.array(table) @ busyness(raster))
    return rising + np.linspace(0, 0.1, len(rising))  # nowhere level: it is read both ways


def expected_bits(z_bits: float, first_bits: float, pixels: int) -> float:
    """Return what the latents of a segment are going to take.

    Args:
        z_bits: what its hyper-latents take.
        first_bits: what its first pass takes.
        pixels: of the segment.
    """
    powers = np.array(LATER_PASSES) @ powers_of_first(first_bits, pixels)
    return z_bits + first_bits * (1 + math.exp(powers))


def powers_of_first(first_bits: float, pixels: int) -> NDArray[np.float64]:
    """Return what `LATER_PASSES` has factors of: ``(4,)``."""
    logarithm = math.log(max(first_bits, 1) / pixels)
    return np.clip(logarithm, *_FIRST_RANGE) ** np.arange(len(LATER_PASSES))


def _difference(plane: NDArray[Any]) -> float:
    """Return the mean difference of neighbours, both directions added; 0 where there are none."""
    steps = (np.abs(np.diff(plane, axis=axis)) for axis in (0, 1))
    return sum(float(step.mean()) for step in steps if step.size)
