"""Fits the tables of `vaecodec.forecast`: what an image comes to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.data import Pixels
from vaecodec.codec import Codec
from vaecodec.container import pack
from vaecodec.forecast import FORESEEABLE, QUALITIES, busyness, powers_of_first
from vaecodec.metrics import fidelity_db
from vaecodec.raster import Raster, as_raster
from vaecodec.rate import level_of_quality
from vaecodec.trace import Trace

Quantity = Literal["LOG_BYTES_PER_PIXEL", "PSNR_DB", "LATER_PASSES"]
_GREY_EVERY = 6
"""An image in so many is taken without its colours, too."""


def fit(codec: Codec, images: Iterable[Pixels]) -> dict[Quantity, NDArray[np.floating]]:
    """Return the tables, by least squares: ``(8, 5)``, ``(8, 5)`` and ``(4,)``.

    Args:
        codec: what encodes the images, at every one of `QUALITIES`.
        images: ``(h, w, 3)`` uint8.
    """
    busy: list[NDArray[np.float64]] = []
    sizes: list[list[float]] = []
    fidelities: list[list[float]] = []
    passes: list[tuple[NDArray[np.float64], float]] = []
    for raster in _with_greys(images):
        files = [codec.encode(raster, quality=quality) for quality in QUALITIES]
        no_latents = len(pack(codec.frame(raster, (), Trace())))
        pixels = raster.width * raster.height
        busy.append(busyness(raster))
        sizes.append([math.log(max(len(data) - no_latents, 1) / pixels) for data in files])
        fidelities.append([fidelity_db(raster, codec.decode_raster(data)) for data in files])
        for quality, data in zip(QUALITIES, files, strict=True):
            if quality >= FORESEEABLE:
                passes.append(_passes(codec, raster, quality, 8 * (len(data) - no_latents)))
    return {
        "LOG_BYTES_PER_PIXEL": np.linalg.lstsq(busy, sizes)[0].T,
        "PSNR_DB": np.linalg.lstsq(busy, fidelities)[0].T,
        "LATER_PASSES": np.linalg.lstsq(
            np.array([powers for powers, _ in passes]), np.array([later for _, later in passes])
        )[0],
    }


def _passes(
    codec: Codec, raster: Raster, quality: float, bits: int
) -> tuple[NDArray[np.float64], float]:
    """Return the equation that a file of so many bits sets up for `LATER_PASSES`.

    It is weighted by the share of the later passes, so that the error is that of the file.
    """
    level, trace = level_of_quality(quality), Trace()
    analysed = codec.analyse(raster, level, trace)
    begun = codec.begin_bits(codec.frame(raster, (), trace), level, analysed, trace)
    z_bits, first_bits = (sum(of_segment) for of_segment in zip(*begun.values(), strict=True))
    later_bits = max(bits - z_bits - first_bits, 1)
    powers = powers_of_first(first_bits, raster.width * raster.height)
    weight = later_bits / bits
    return weight * powers, weight * math.log(later_bits / first_bits)


def _with_greys(images: Iterable[Pixels]) -> Iterator[Raster]:
    for index, pixels in enumerate(images):
        yield as_raster(pixels)
        if index % _GREY_EVERY == 0:
            yield as_raster(np.ascontiguousarray(pixels[:, :, 1]))
