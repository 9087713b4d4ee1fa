"""SSIMULACRA 2 as a loss: how different two images look, differentiable and cheap.

The metric (Sneyers, Cloudinary 2022; published with libjxl) compares images in the XYB colours of
JPEG XL at several scales: by structural similarity, by edges that were added and by edges that were
lost. Its weighted sum over all of these is `distance`, which is what is trained. `score` puts the
published curve over it.

Two things make it cheap. A blur is a product with a banded matrix along either axis: on a CPU that
takes a seventh of the time of depthwise convolutions. And most of the 108 published weights are
under 0.003, the whole sixth scale among them: these are left out, with the maps that only they
need. That moves a score by less than 0.1. (The reference gives weights to the wrong maps where an
image is too small for six scales; here they stay where they belong.)
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

# ISO/IEC 18181-1, annex L.2: how much the three kinds of cones absorb of linear RGB.
_ABSORBANCE = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
_ABSORBANCE_BIAS = 0.0037930732552754493
_VARIANCE_FLOOR = 0.0009
_SIGMA, _RADIUS = 1.5, 5
_ROOT_FLOOR = 1e-20
"""Keeps the slope of a fourth root finite where two images are equal."""

_SSIM, _ADDED, _LOST = range(3)
_X, _Y, _B = range(3)
_MEAN, _FOURTH = range(2)
# The published weights, by map, channel and norm: one for each scale from the finest on.
_WEIGHTS = {
    (_SSIM, _X, _FOURTH): (0.0, 1.1041726427, 1.8422455521, 1.8787594979, 0.0),
    (_SSIM, _Y, _MEAN): (0.0, 0.0, 225.2051530085, 176.3931759845, 0.0),
    (_SSIM, _Y, _FOURTH): (7.4668903281, 6.6836781463, 19.2132381860, 24.4330099987, 34.7790634448),
    (_SSIM, _B, _MEAN): (0.0, 0.0, 0.0, 0.0, 95.1080498811),
    (_SSIM, _B, _FOURTH): (0.0, 0.0, 0.0, 8.8269827650, 0.0),
    (_ADDED, _X, _MEAN): (0.0, 0.0, 0.0, 0.0, 0.9677937081),
    (_ADDED, _X, _FOURTH): (0.0, 0.0, 11.4411726038, 10.9490699061, 0.9981766978),
    (_ADDED, _Y, _FOURTH): (0.0, 0.0, 0.0, 0.2852080261, 44.8356253289),
    (_ADDED, _B, _MEAN): (0.0, 0.0, 0.0, 0.0, 0.9863978034),
    (_ADDED, _B, _FOURTH): (0.0, 0.0, 0.0, 23.1924334399, 171.2667255897),
    (_LOST, _Y, _FOURTH): (17.4458339841, 1.0278899378, 0.0, 0.0, 0.0),
    (_LOST, _B, _MEAN): (0.0, 0.0, 0.0, 0.0, 0.9834382792),
    (_LOST, _B, _FOURTH): (0.0, 0.0, 0.0, 0.0, 0.9807858872),
}
_SUM_FACTOR = 0.9562382616834844
_CURVE = (2.326765642916932, -0.020884521182843837, 6.248496625763138e-05)
_CURVE_EXPONENT = 0.6276336467831387

SCALES = 5
LEAST_SIDE = 8 << (SCALES - 1)
"""Pixels a side that all scales need."""


def distance(original: Tensor, distorted: Tensor) -> Tensor:
    """Return the weighted sum of each pair of images, 0 if they are equal.

    Args:
        original: ``(n, 3, h, w)`` float32 sRGB in [0, 1], at least `LEAST_SIDE` a side. Gradients
            do not pass.
        distorted: the same shape; values out of the range are clipped.

    Returns:
        ``(n,)``: 0.4 at a score of 90, 1.3 at 80, 2.4 at 70, 5.8 at 50.
    """
    if min(original.shape[2:]) < LEAST_SIDE:
        raise ValueError(f"images of {LEAST_SIDE} pixels a side or more are wanted")
    one = _linear(original.detach().float().contiguous())
    other = _linear(distorted.float().contiguous())
    total = torch.zeros(len(one), device=one.device)
    for scale in range(SCALES):
        if scale:
            one, other = (
                functional.avg_pool2d(t, 2, ceil_mode=True, count_include_pad=False)
                for t in (one, other)
            )
        total = total + _weighted(one, other, scale)
    return total * _SUM_FACTOR


def score(distances: Tensor) -> Tensor:
    """Return the scores of distances: 100 for equal images, below zero at worst."""
    first, second, third = _CURVE
    value = ((third * distances + second) * distances + first) * distances
    return 100 - 10 * value.clamp_min(0).pow(_CURVE_EXPONENT)


def _linear(srgb: Tensor) -> Tensor:
    """Undo the transfer function of sRGB (IEC 61966-2-1)."""
    srgb = srgb.clamp(0, 1)
    power = ((srgb.clamp_min(0.04045) + 0.055) / 1.055).pow(2.4)
    return torch.where(srgb <= 0.04045, srgb / 12.92, power)


def _xyb(linear: Tensor, channels: list[int]) -> Tensor:
    """Return X, Y and B - Y, ``(n, c, h, w)``, scaled and moved to be positive."""
    matrix = torch.tensor(_ABSORBANCE, device=linear.device)[:, :, None, None]
    if _B not in channels:
        matrix = matrix[:2]
    cones = functional.conv2d(linear, matrix) + _ABSORBANCE_BIAS
    cones = cones.pow(1 / 3) - _ABSORBANCE_BIAS ** (1 / 3)
    long, medium = cones[:, 0], cones[:, 1]
    y = (long + medium) / 2
    found: list[Tensor] = []
    for channel in channels:
        if channel == _X:
            found.append((long - medium) * 7 + 0.42)
        elif channel == _Y:
            found.append(y + 0.01)
        else:
            found.append(cones[:, 2] - y + 0.55)
    return torch.stack(found, 1)


def _weighted(one: Tensor, other: Tensor, scale: int) -> Tensor:
    """Return what one scale adds to the sum, from linear RGB, ``(n,)``."""
    channels = sorted({key[1] for key, weights in _WEIGHTS.items() if weights[scale]})
    a, b = _xyb(one, channels), _xyb(other, channels)
    mean_a, mean_b, square, power = _blur(
        torch.cat((a, b, (a - b).square(), a.square() + b.square()), 1)
    ).chunk(4, 1)
    gap = (mean_a - mean_b).square()
    # The variances' sum less twice the covariance is the variance of the difference.
    variance = power - mean_a.square() - mean_b.square() + _VARIANCE_FLOOR
    dissimilarity = 1 - (1 - gap) * (1 - (square - gap) / variance)
    edge = (1 + (b - mean_b).abs()) / (1 + (a - mean_a).abs()) - 1
    maps = {_SSIM: dissimilarity.relu(), _ADDED: edge.relu(), _LOST: (-edge).relu()}
    total = torch.zeros(len(one), device=one.device)
    for (kind, channel, norm), weights in _WEIGHTS.items():
        if not weights[scale]:
            continue
        values = maps[kind][:, channels.index(channel)]
        if norm == _MEAN:
            found = values.mean((1, 2))
        else:
            found = (values.square().square().mean((1, 2)) + _ROOT_FLOOR).pow(0.25)
        total = total + weights[scale] * found
    return total


def _blur(t: Tensor) -> Tensor:
    height, width = t.shape[2:]
    rows = _band(height, mirrored=True).to(t.device)
    columns = _band(width, mirrored=False).to(t.device)
    return rows @ (t @ columns.T)


@lru_cache(maxsize=64)
def _band(size: int, *, mirrored: bool) -> Tensor:
    """Return a Gaussian blur as a matrix ``(size, size)``.

    Beyond the ends, the package `ssimulacra2` sees columns mirrored, and rows dark.
    """
    weights = [math.exp(-(k**2) / (2 * _SIGMA**2)) for k in range(-_RADIUS, _RADIUS + 1)]
    matrix = torch.zeros(size, size)
    for offset, weight in enumerate(weights, -_RADIUS):
        at = torch.arange(size) + offset
        inside = (at >= 0) & (at < size)
        if mirrored:
            at = torch.where(at < 0, -1 - at, torch.where(at >= size, 2 * size - 1 - at, at))
            inside = torch.ones_like(inside)
        rows = torch.arange(size)[inside]
        matrix[rows, at[inside]] += weight / sum(weights)
    return matrix
