"""Measure a codec on a folder of images: rate, fidelity and time.

Everything goes through real bytes: an image is encoded to a whole file, and that file is decoded.
Nothing here prints; `asdict` turns every result into plain values.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaecodec.codec import Codec
from vaecodec.curves import Comparison
from vaecodec.errors import ImageError, InputError
from vaecodec.fileio import read_bytes
from vaecodec.image import IMAGE_SUFFIXES, read_image
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.metadata import KINDS
from vaecodec.metrics import Point, bpp, fidelity_db
from vaecodec.raster import Raster, from_array
from vaecodec.rate import DEFAULT_QUALITY
from vaecodec.trace import Trace

DEFAULT_QUALITIES = (0.0, 14.0, 29.0, 43.0, 57.0, 71.0, 86.0, 100.0)
"""Eight, spread evenly: BD-rate needs about four points in any overlap to be stable."""

_ASPECT = 4 / 3

Progress = Callable[[int, int, str], None]
"""Called with the images done, the images in all, and the name of the last."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image at one quality.

    Attributes:
        image: The file's name.
        quality: As given.
        width: In pixels.
        height: In pixels.
        file_bytes: Of the whole `.vaec` file, without the image's metadata.
        bpp: The same, per pixel.
        psnr_db: Over the colours of what is not transparent, after rounding to samples.
        encode_s: From an image in memory to bytes, in the stages of `Codec.encode`: the estimate
            of the rate, which is made only where it is asked for, is left out.
        decode_s: From bytes to an image in memory.
        estimate_error_percent: By how much the file is larger than the model's own estimate.
    """

    image: str
    quality: float
    width: int
    height: int
    file_bytes: int
    bpp: float
    psnr_db: float
    encode_s: float
    decode_s: float
    estimate_error_percent: float


@dataclass(frozen=True, slots=True)
class QualityRow:
    """Means over all images at one quality; each image counts the same."""

    quality: float
    bpp: float
    psnr_db: float
    encode_s: float
    decode_s: float
    estimate_error_percent: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians over repeated runs on one image.

    Attributes:
        width: In pixels.
        height: In pixels.
        repeats: Runs of each direction, after one that is not counted.
        quality: As given.
        encode_s: From an image in memory to bytes, as in `ImageRow`.
        decode_s: From bytes to an array in memory.
        encode_entropy_share: Part of `encode_s` that the entropy coder takes, 0 to 1.
        decode_entropy_share: Part of `decode_s`.
    """

    width: int
    height: int
    repeats: int
    quality: float
    encode_s: float
    decode_s: float
    encode_entropy_share: float
    decode_entropy_share: float


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run measured.

    Attributes:
        bundle: Name of the bundle.
        model_id: Its id, in hexadecimal.
        qualities: Means, by ascending quality.
        images: What they are the means of.
        comparisons: BD-rates, in the order asked for.
        speed: Where it was asked for.
    """

    bundle: str
    model_id: str
    qualities: tuple[QualityRow, ...]
    images: tuple[ImageRow, ...]
    comparisons: tuple[Comparison, ...] = ()
    speed: Speed | None = None


def find_images(folder: str | Path) -> list[Path]:
    """Return the images in a folder, by name; folders inside it are left aside.

    Raises:
        InputError: If the folder cannot be read, or holds none.
    """
    try:
        entries = sorted(Path(folder).iterdir())
        paths = [
            path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        ]
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from error
    if not paths:
        raise InputError(f"there are no images in {folder} ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths


def load_image(path: Path, limits: Limits = DEFAULT_LIMITS) -> Raster:
    """Return an image of a kind that the codec takes.

    Raises:
        VaecodecError: If it cannot be read or used; an `ImageError` names the file.
    """
    data = read_bytes(path, limits)
    try:
        return read_image(data, limits)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def measure(
    codec: Codec,
    paths: Sequence[Path],
    qualities: Iterable[float] = DEFAULT_QUALITIES,
    progress: Progress | None = None,
) -> list[ImageRow]:
    """Encode and decode every image at every quality.

    Args:
        codec: What to measure.
        paths: Images.
        qualities: Each 0 to 100.
        progress: Told of every image done.

    Returns:
        One row for each image and quality, images in the order of `paths`.

    Raises:
        VaecodecError: If an image cannot be used.
    """
    qualities = sorted(set(qualities))
    rows: list[ImageRow] = []
    for index, path in enumerate(paths):
        image = load_image(path)
        if not index:
            codec.decode_raster(codec.encode(image))  # networks load on first use, untimed
        rows += [_measure_one(codec, path.name, image, quality) for quality in qualities]
        if progress:
            progress(index + 1, len(paths), path.name)
    return rows


def summarise(rows: Iterable[ImageRow]) -> tuple[QualityRow, ...]:
    """Return the means of rows of the same quality, by ascending quality."""
    groups: dict[float, list[ImageRow]] = {}
    for row in rows:
        groups.setdefault(row.quality, []).append(row)
    return tuple(
        QualityRow(
            quality,
            statistics.fmean(row.bpp for row in group),
            statistics.fmean(row.psnr_db for row in group),
            statistics.fmean(row.encode_s for row in group),
            statistics.fmean(row.decode_s for row in group),
            statistics.fmean(row.estimate_error_percent for row in group),
        )
        for quality, group in sorted(groups.items())
    )


def curve_of(rows: Iterable[QualityRow]) -> list[Point]:
    """Return the rate-distortion curve of measured means."""
    return [(row.bpp, row.psnr_db) for row in rows]


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


def _measure_one(codec: Codec, name: str, image: Raster, quality: float) -> ImageRow:
    trace = Trace()
    data = codec.encode(image, quality=quality, strip=KINDS, trace=trace)
    start = time.perf_counter()
    decoded = codec.decode_raster(data)
    decode_s = time.perf_counter() - start
    error = 8 * len(data) / trace.estimated_bits - 1 if trace.estimated_bits else math.nan
    return ImageRow(
        image=name,
        quality=quality,
        width=image.width,
        height=image.height,
        file_bytes=len(data),
        bpp=bpp(len(data), image.width, image.height),
        psnr_db=fidelity_db(image, decoded),
        encode_s=sum(trace.seconds.values()),
        decode_s=decode_s,
        estimate_error_percent=100 * error,
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
    step_y, step_x = (min(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    mosaic = np.empty((height, width, 3), np.uint8)
    supply = itertools.cycle(tiles)
    for top in range(0, height, step_y):
        for left in range(0, width, step_x):
            place = mosaic[top : top + step_y, left : left + step_x]
            place[...] = next(supply)[: place.shape[0], : place.shape[1]]
    return from_array(mosaic)
