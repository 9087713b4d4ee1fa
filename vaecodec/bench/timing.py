"""Time both directions on one image of a given size."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaecodec.bench.folder import load_image
from vaecodec.bench.results import Speed
from vaecodec.codec import Codec
from vaecodec.metadata import KINDS
from vaecodec.raster import Raster, from_array
from vaecodec.rate import DEFAULT_QUALITY
from vaecodec.trace import Trace

_ASPECT = 4 / 3
_LEAST_SIDE = 256


def speed(
    codec: Codec,
    paths: Sequence[Path],
    megapixels: float = 1.0,
    repeats: int = 10,
    quality: float = DEFAULT_QUALITY,
) -> Speed:
    """Time both directions on one image, tiled from the given ones.

    Args:
        codec: What to measure.
        paths: Images to tile.
        megapixels: Size of the image, in millions of pixels.
        repeats: Runs of each direction.
        quality: 0 to 100.

    Raises:
        VaecodecError: If an image cannot be used.
    """
    if repeats < 1 or not 0 < megapixels < math.inf:
        raise ValueError("speed needs at least one repeat, and more than 0 megapixels")
    image = _mosaic(paths, megapixels)
    data = codec.encode(image, quality=quality, strip=KINDS)
    codec.decode_raster(data)  # as the encoding above: networks load on first use, untimed
    encodings: list[tuple[float, float]] = []
    decodings: list[tuple[float, float]] = []
    for _ in range(repeats):
        trace = Trace()
        codec.encode(image, quality=quality, strip=KINDS, trace=trace)
        encodings.append(_times(trace, sum(trace.seconds.values())))
        trace = Trace()
        start = time.perf_counter()
        codec.decode_raster(data, trace=trace)
        decodings.append(_times(trace, time.perf_counter() - start))
    return Speed(
        width=image.width,
        height=image.height,
        repeats=repeats,
        quality=quality,
        encode_s=statistics.median(seconds for seconds, _ in encodings),
        decode_s=statistics.median(seconds for seconds, _ in decodings),
        encode_entropy_share=statistics.median(share for _, share in encodings),
        decode_entropy_share=statistics.median(share for _, share in decodings),
    )


def _times(trace: Trace, seconds: float) -> tuple[float, float]:
    """Return the seconds of a run, and the entropy coder's share of them."""
    return seconds, trace.seconds.get("entropy", 0.0) / seconds


def _mosaic(paths: Sequence[Path], megapixels: float) -> Raster:
    """Return an 8-bit RGB image of a size, filled with corners of as many images as that takes."""
    width = max(1, round(math.sqrt(megapixels * 1e6 * _ASPECT)))
    height = max(1, round(megapixels * 1e6 / width))
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
    mosaic = np.empty((height, width, 3), np.uint8)
    supply = itertools.cycle(tiles)
    for top in range(0, height, step_y):
        for left in range(0, width, step_x):
            place = mosaic[top : top + step_y, left : left + step_x]
            place[...] = next(supply)[: place.shape[0], : place.shape[1]]
    return from_array(mosaic)
