"""What an image is going to come to, before any network has seen it.

How much neighbouring samples differ tells size and fidelity at every level, on photographs within
about 10%: enough to begin a search with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecodec.bundle import PATCH
from vaecodec.raster import Raster
from vaecodec.segments import Box

QUALITIES = (0, 15, 30, 45, 60, 75, 90, 100)
"""Those that the tables have a row for."""

# Factors of what `busyness` returns, a row for each quality. `python -m export forecast` fits them.
# These are of `base` before its graphs were rewritten and of every ninth training tile, whose every
# row was read: a new fit differs a little. Other bundles and images only take longer.
LOG_BYTES_PER_PIXEL = (
    (-7.205, -0.784, 0.145, 1.002, 0.041),
    (-6.746, -0.501, 0.158, 0.836, 0.039),
    (-6.304, 0.037, 0.114, 0.576, 0.040),
    (-5.808, 0.533, 0.066, 0.330, 0.056),
    (-5.270, 0.987, 0.000, 0.133, 0.067),
    (-4.755, 1.377, -0.083, 0.004, 0.072),
    (-3.920, 1.394, -0.107, -0.087, 0.081),
    (-3.264, 1.191, -0.089, -0.090, 0.085),
)
"""Natural logarithm of the bytes that the latents of a pixel take."""
PSNR_DB = (
    (38.090, -2.968, -0.250, -0.889, -0.297),
    (41.167, -4.910, -0.028, 0.034, -0.376),
    (43.181, -5.668, 0.051, 0.680, -0.476),
    (45.050, -5.889, 0.206, 0.862, -0.597),
    (46.544, -5.104, 0.284, 0.663, -0.754),
    (47.587, -3.075, 0.113, 0.265, -1.044),
    (48.318, -0.381, -0.292, -0.051, -1.528),
    (49.509, 0.900, -0.527, -0.183, -1.954),
)
"""Fidelity, as `fidelity_db` measures it."""

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


def _difference(plane: NDArray[Any]) -> float:
    """Return the mean difference of neighbours, both directions added; 0 where there are none."""
    steps = (np.abs(np.diff(plane, axis=axis)) for axis in (0, 1))
    return sum(float(step.mean()) for step in steps if step.size)
