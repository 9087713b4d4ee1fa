"""Fidelity, rate, and the distance between two rate-distortion curves."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vaecodec.errors import RuntimeUnavailableError
from vaecodec.raster import Raster, Samples
from vaecodec.segments import Box

Point = tuple[float, float]
"""Rate in bpp, and fidelity in dB or the unit of its metric."""
_BLOCK_PIXELS = 2**20
"""Of a large image, compared at a time."""


def mse(one: Samples, other: Samples) -> float:
    """Return the mean squared error over all pixels and channels, in squared steps of a sample.

    Args:
        one: Any shape, uint8 or uint16.
        other: The same shape and type.

    Raises:
        ValueError: If shapes or types differ, or there is nothing to compare.
    """
    if one.shape != other.shape or not one.size:
        raise ValueError(f"cannot compare images of shapes {one.shape} and {other.shape}")
    if one.dtype != other.dtype or one.dtype.kind != "u":
        raise ValueError(f"cannot compare samples of types {one.dtype} and {other.dtype}")
    return _squared_error(one, other) / one.size


def _squared_error(one: Samples, other: Samples) -> float:
    """Return the sum of the squared differences of two arrays of the same shape and type."""
    difference = one.astype(np.float32) - other
    return float(np.sum(np.square(difference), dtype=np.float64))


def psnr_db(one: Samples, other: Samples) -> float:
    """Return the peak signal-to-noise ratio over all channels; infinite for identical images.

    The peak is 255 or 65,535, by the type of the samples.

    Raises:
        ValueError: As `mse` does.
    """
    return _psnr_db(mse(one, other), one.dtype)


def _psnr_db(error: float, dtype: DTypeLike) -> float:
    return 10 * math.log10(np.iinfo(dtype).max ** 2 / error) if error else math.inf


def fidelity_db(original: Raster, decoded: Raster) -> float:
    """Return the PSNR of the colours of all pixels that are not fully transparent.

    Infinite where there are none.

    Raises:
        ValueError: If the two are not of the same size, mode and bit depth.
    """
    kinds = [(image.box, image.mode, image.dtype) for image in (original, decoded)]
    if kinds[0] != kinds[1]:
        raise ValueError("cannot compare images of different sizes, modes or bit depths")
    error, count = 0.0, 0
    rows = max(1, _BLOCK_PIXELS // original.width)
    for top in range(0, original.height, rows):
        block = Box(top, 0, min(top + rows, original.height), original.width)
        one, other = original.read(block), decoded.read(block)
        seen = one[:, :, -1] > 0 if original.mode.has_alpha else np.True_
        one, other = (samples[:, :, : original.mode.colours][seen] for samples in (one, other))
        error += _squared_error(one, other)
        count += one.size
    return _psnr_db(error / count, original.dtype) if count else math.inf


def bpp(size_bytes: int, width: int, height: int) -> float:
    """Return the bits per pixel of a whole file."""
    return 8 * size_bytes / (width * height)


@dataclass(frozen=True, slots=True)
class BdRate:
    """How much larger files are at equal fidelity (Bjøntegaard).

    Attributes:
        percent: Mean difference in rate; negative where the tested curve needs less.
        low_db: Lower end of the fidelities that both curves reach: the mean is over these. In the
            metric's own unit where that is no dB.
        high_db: Upper end.
    """

    percent: float
    low_db: float
    high_db: float


def bd_rate(anchor: Iterable[Point], test: Iterable[Point], unit: str = "dB") -> BdRate:
    """Compare two rate-distortion curves.

    The logarithm of the rate, as a function of fidelity, is interpolated by monotone cubics
    (PCHIP), and the mean difference over the overlap is integrated exactly. Curves are cleaned
    before: see `clean_curve`.

    Args:
        anchor: Points of the curve that 0% stands for, in any order.
        test: Points of the curve to judge, in any order.
        unit: Of their fidelity, for what errors say.

    Raises:
        ValueError: If a curve has fewer than two usable points, or the two do not overlap.
        RuntimeUnavailableError: If SciPy is not installed.
    """
    curves = [_log_rate(points) for points in (anchor, test)]
    logs, ends = [log for log, _ in curves], [span for _, span in curves]
    low, high = max(low for low, _ in ends), min(high for _, high in ends)
    if low >= high:
        spans = " and ".join(f"{low:.2f} to {high:.2f} {unit}".rstrip() for low, high in ends)
        raise ValueError(f"the curves do not overlap: they span {spans}")
    difference = float(logs[1].integrate(low, high)) - float(logs[0].integrate(low, high))
    return BdRate(100 * math.expm1(difference / (high - low)), low, high)


def rate_at(points: Iterable[Point], fidelity: float) -> float:
    """Return the rate at which a curve reaches a fidelity, interpolated as `bd_rate` does.

    Args:
        points: Points of the curve, in any order.
        fidelity: In the unit of the points.

    Raises:
        ValueError: If the curve has fewer than two usable points, or does not reach so low or high.
        RuntimeUnavailableError: If SciPy is not installed.
    """
    log_rate, (low, high) = _log_rate(points)
    if not low <= fidelity <= high:
        raise ValueError(f"the curve spans {low:.2f} to {high:.2f}, and not {fidelity:g}")
    return math.exp(float(log_rate(fidelity)))


def _log_rate(points: Iterable[Point]) -> tuple[Any, tuple[float, float]]:
    """Return the logarithm of a curve's rate as a function of fidelity, and the ends of its span.

    Raises:
        ValueError: If the curve has fewer than two usable points.
        RuntimeUnavailableError: If SciPy is not installed.
    """
    pchip = load_pchip()
    curve = clean_curve(points)
    fidelities = [fidelity for _, fidelity in curve]
    log_rate = pchip(fidelities, [math.log(rate) for rate, _ in curve])
    return log_rate, (fidelities[0], fidelities[-1])


def clean_curve(points: Iterable[Point]) -> list[Point]:
    """Return a curve's points by ascending rate, each of a higher fidelity than all before.

    Interpolation needs rate as a function of fidelity. A point that costs more bits than another
    and is no better would make that ambiguous, and no encoder would be run there: it is left out.
    So are those that are not `usable_points`.

    Raises:
        ValueError: If fewer than two points are left.
    """
    curve: list[Point] = []
    for rate, fidelity in sorted(usable_points(points), key=lambda point: (point[0], -point[1])):
        if not curve or fidelity > curve[-1][1]:
            curve.append((rate, fidelity))
    if len(curve) < 2:
        raise ValueError(f"a curve needs two usable points, and this one has {len(curve)}")
    return curve


def usable_points(points: Iterable[Point]) -> list[Point]:
    """Return the points of a finite rate above 0 and a finite fidelity."""
    return [(rate, value) for rate, value in points if 0 < rate < math.inf and math.isfinite(value)]


def load_pchip() -> Any:
    """Return SciPy's class of monotone cubic interpolants, which is imported only now.

    Raises:
        RuntimeUnavailableError: If SciPy is not installed.
    """
    try:
        return importlib.import_module("scipy.interpolate").PchipInterpolator
    except ImportError as error:
        raise RuntimeUnavailableError(
            "BD-rate needs SciPy, which is not installed", "pip install 'vaecodec[bench]'"
        ) from error
