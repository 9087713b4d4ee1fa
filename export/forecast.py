"""Fits the tables of `vaecodec.forecast`: what an image comes to, by how busy it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.data import Pixels
from vaecodec.codec import Codec
from vaecodec.container import pack
from vaecodec.forecast import QUALITIES, busyness
from vaecodec.metrics import fidelity_db
from vaecodec.raster import Raster, as_raster
from vaecodec.trace import Trace

Quantity = Literal["LOG_BYTES_PER_PIXEL", "PSNR_DB"]
_GREY_EVERY = 6
"""An image in so many is taken without its colours, too."""


def fit(codec: Codec, images: Iterable[Pixels]) -> dict[Quantity, NDArray[np.floating]]:
    """Return factors of what `busyness` returns, ``(8, 5)``, by least squares.

    Args:
        codec: what encodes the images, at every one of `QUALITIES`.
        images: ``(h, w, 3)`` uint8.
    """
    busy: list[NDArray[np.float64]] = []
    sizes: list[list[float]] = []
    fidelities: list[list[float]] = []
    for raster in _with_greys(images):
        files = [codec.encode(raster, quality=quality) for quality in QUALITIES]
        no_latents = len(pack(codec.frame(raster, (), Trace())))
        pixels = raster.width * raster.height
        busy.append(busyness(raster))
        sizes.append([math.log(max(len(data) - no_latents, 1) / pixels) for data in files])
        fidelities.append([fidelity_db(raster, codec.decode_raster(data)) for data in files])
    return {
        "LOG_BYTES_PER_PIXEL": np.linalg.lstsq(busy, sizes)[0].T,
        "PSNR_DB": np.linalg.lstsq(busy, fidelities)[0].T,
    }


def _with_greys(images: Iterable[Pixels]) -> Iterator[Raster]:
    for index, pixels in enumerate(images):
        yield as_raster(pixels)
        if index % _GREY_EVERY == 0:
            yield as_raster(np.ascontiguousarray(pixels[:, :, 1]))
