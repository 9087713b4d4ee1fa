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
from vaecodec.rate import level_of_quality
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
        outcomes = [_outcome(codec, raster, level_of_quality(quality)) for quality in QUALITIES]
        busy.append(busyness(raster))
        sizes.append([size for size, _ in outcomes])
        fidelities.append([fidelity for _, fidelity in outcomes])
    return {
        "LOG_BYTES_PER_PIXEL": np.linalg.lstsq(busy, sizes)[0].T,
        "PSNR_DB": np.linalg.lstsq(busy, fidelities)[0].T,
    }


def _with_greys(images: Iterable[Pixels]) -> Iterator[Raster]:
    for index, pixels in enumerate(images):
        yield as_raster(pixels)
        if index % _GREY_EVERY == 0:
            yield as_raster(np.ascontiguousarray(pixels[:, :, 1]))


def _outcome(codec: Codec, raster: Raster, level: int) -> tuple[float, float]:
    """Return the logarithm of the bytes that the latents of a pixel take, and the PSNR."""
    trace = Trace(estimates=False)
    frame = codec.frame(raster, (), trace)
    data = codec.fill(frame, level, codec.analyse(raster, level, trace), trace)
    latent_bytes = max(len(data) - len(pack(frame)), 1)
    psnr_db = fidelity_db(raster, codec.decode_raster(data))
    return math.log(latent_bytes / (raster.width * raster.height)), psnr_db
