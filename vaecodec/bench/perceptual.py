"""Fidelity as eyes see it: MS-SSIM and SSIMULACRA 2."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaecodec.errors import RuntimeUnavailableError
from vaecodec.raster import Samples

Score = Callable[[Any, Any], float]

# Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment",
# Asilomar 2003: the exponents of the five scales; the window and constants are those of SSIM.
_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03

SSIM_SIDE = _WINDOW
"""Pixels that an image needs on each side for SSIM."""
MS_SSIM_SIDE = _WINDOW * 2 ** (len(_EXPONENTS) - 1)
"""Pixels that an image needs on each side: at the coarsest scale they must fill a window."""
SSIMULACRA2_SIDE = 8
"""The same for SSIMULACRA 2."""


def ssim(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the structural similarity (Wang et al. 2004), the mean over the channels.

    Windows and constants are those of MS-SSIM.

    Args:
        one: ``(h, w, c)`` in [0, 1], at least `SSIM_SIDE` a side.
        other: The same shape.

    Returns:
        1 for identical images.
    """
    channels: list[float] = []
    for index in range(one.shape[2]):
        first, second = (t[:, :, index].astype(np.float64, order="C") for t in (one, other))
        luminance, structure = _similarities(first, second, 1.0)
        channels.append(float((luminance * structure).mean()))
    return fmean(channels)


def ms_ssim(one: Samples, other: Samples) -> float:
    """Return the multi-scale structural similarity, the mean over the channels.

    As the literature of learned compression measures it: each channel of RGB by itself, windows
    only where they are whole, negative means of a scale taken for zero.

    Args:
        one: ``(h, w, c)`` uint8 or uint16, at least `MS_SSIM_SIDE` a side.
        other: The same shape and type.

    Returns:
        1 for identical images.

    Raises:
        ValueError: If shapes or types differ, or the images are too small.
    """
    if one.shape != other.shape or one.dtype != other.dtype or one.ndim != 3:
        raise ValueError(f"cannot compare images of shapes {one.shape} and {other.shape}")
    if min(one.shape[:2]) < MS_SSIM_SIDE:
        raise ValueError(f"MS-SSIM needs {MS_SSIM_SIDE} pixels a side, not {one.shape[:2]}")
    peak = float(np.iinfo(one.dtype).max)
    channels = range(one.shape[2])  # one by one: each takes 80 bytes a pixel
    return fmean(_of_plane(one[:, :, c], other[:, :, c], peak) for c in channels)


def _of_plane(one: Samples, other: Samples, peak: float) -> float:
    first, second = (plane.astype(np.float64, order="C") for plane in (one, other))
    product = 1.0
    for scale, exponent in enumerate(_EXPONENTS):
        luminance, structure = _similarities(first, second, peak)
        if scale == len(_EXPONENTS) - 1:
            structure = luminance * structure
        product *= max(float(structure.mean()), 0.0) ** exponent
        first, second = _halve(first), _halve(second)
    return product


def _similarities(
    one: NDArray[np.float64], other: NDArray[np.float64], peak: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return luminance, and contrast and structure, at every place of a whole window."""
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    mean_1, mean_2 = _blur(one), _blur(other)
    squares, both = mean_1 * mean_1 + mean_2 * mean_2, mean_1 * mean_2
    variances = _blur(one * one + other * other) - squares
    covariance = _blur(one * other) - both
    luminance = (2 * both + c1) / (squares + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _blur(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means under a Gaussian window: ``(h, w)`` to ``(h - 10, w - 10)``."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    for _ in range(2):  # along columns, then, turned, along rows
        length = plane.shape[0] - _WINDOW + 1
        blurred = np.zeros((length, plane.shape[1]))
        for start, weight in enumerate(weights.tolist()):
            blurred += weight * plane[start : start + length]
        plane = np.ascontiguousarray(blurred.T)
    return plane


def _halve(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average squares of 2x2; an odd last row or column stands for the one after it, too."""
    height, width = plane.shape
    padded = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    return padded.reshape((height + 1) // 2, 2, (width + 1) // 2, 2).mean(axis=(1, 3))


def ssimulacra2(one: Samples, other: Samples) -> float:
    """Return the SSIMULACRA 2 score: 100 for identical images, below zero at worst.

    The package `ssimulacra2` computes it. Against libjxl's own tool (0.11) it was up to 2 points
    lower between 20 and 90, and up to 7 at scores below zero.

    Args:
        one: ``(h, w, 1 or 3)`` uint8, at least `SSIMULACRA2_SIDE` a side.
        other: The same shape.

    Raises:
        ValueError: If shapes or types differ.
        RuntimeUnavailableError: If the package is not installed.
    """
    if one.shape != other.shape or one.dtype != np.uint8 or other.dtype != np.uint8:
        raise ValueError(f"cannot compare images of shapes {one.shape} and {other.shape}")
    score = load_ssimulacra2()
    return float(score(_as_file(one), _as_file(other)))


def load_ssimulacra2() -> Score:
    """Return the function that scores two image files.

    Raises:
        RuntimeUnavailableError: If its package is not installed.
    """
    try:
        return importlib.import_module("ssimulacra2").compute_ssimulacra2
    except ImportError as error:
        raise RuntimeUnavailableError(
            "SSIMULACRA 2 needs the package ssimulacra2, which is not installed",
            "pip install 'vaecodec[bench]'",
        ) from error


def has_ssimulacra2() -> bool:
    """Return whether the package that computes SSIMULACRA 2 is installed."""
    try:
        load_ssimulacra2()
    except RuntimeUnavailableError:
        return False
    return True


def _as_file(samples: Samples) -> io.BytesIO:
    """Return samples as a file in memory, which is what the package reads."""
    file = io.BytesIO()
    Image.fromarray(np.broadcast_to(samples, (*samples.shape[:2], 3))).save(file, "PPM")
    file.seek(0)
    return file
