"""Photographs of any size, made of those at hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaecodec.bench.folder import load_image
from vaecodec.raster import Raster, from_array

_ASPECT = 4 / 3
_LEAST_SIDE = 256


def sides(megapixels: float) -> tuple[int, int]:
    """Return width and height of a photograph of so many pixels."""
    width = max(1, round(math.sqrt(megapixels * 1e6 * _ASPECT)))
    return width, max(1, round(megapixels * 1e6 / width))


def mosaic(paths: Sequence[Path], width: int, height: int) -> Raster:
    """Return an 8-bit RGB image of a size, filled with corners of as many images as that takes."""
    tiles: list[NDArray[np.uint8]] = []
    area = 0
    for path in paths:
        tiles.append(load_image(path).rgb())
        area += tiles[-1].shape[0] * tiles[-1].shape[1]
        if area >= width * height:
            break
    # The smallest sets the step: icons among photographs would make corners of a few pixels.
    tiles = [tile for tile in tiles if min(tile.shape[:2]) >= _LEAST_SIDE] or tiles
    step_y, step_x = (min(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    out = np.empty((height, width, 3), np.uint8)
    supply = itertools.cycle(tiles)
    for top in range(0, height, step_y):
        for left in range(0, width, step_x):
            place = out[top : top + step_y, left : left + step_x]
            place[...] = next(supply)[: place.shape[0], : place.shape[1]]
    return from_array(out)
