"""What JPEG does to pixels, for batches on any device: all of it that loses something.

Colour, subsampling, DCT and quantisation are those of ITU-T T.81 and JFIF 1.02, tables and their
scaling those of libjpeg. Entropy coding, which loses nothing, is left out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8
MCU = 2 * BLOCK
"""Pixels of the least coded unit where chroma is subsampled: sides are padded to multiples."""

# T.81, tables K.1 and K.2.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# JFIF 1.02: Y, Cb and Cr of R, G and B.
_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)


def jpeg(x: Tensor, quality: Tensor, subsampled: Tensor) -> Tensor:
    """Return images as they come back from JPEG files.

    Args:
        x: ``(n, 3, h, w)`` in [0, 1]; files hold it in steps of 1 / 255.
        quality: ``(n,)``, 1 to 100, as libjpeg means it.
        subsampled: ``(n,)`` bool: whether chroma has half the resolution, 4:2:0 instead of 4:4:4.

    Returns:
        ``(n, 3, h, w)`` in [0, 1], in steps of 1 / 255.
    """
    height, width = x.shape[2:]
    pixels = torch.round(x.clamp(0, 1) * 255)
    padded = F.pad(pixels, (0, -width % MCU, 0, -height % MCU), mode="replicate")
    to_ycc = torch.tensor(_TO_YCC, dtype=x.dtype, device=x.device)
    # Whole numbers between all steps, as in libjpeg.
    ycc = torch.round(torch.einsum("oc,nchw->nohw", to_ycc, padded))
    luma = _coded(ycc[:, :1] - 128, _table(_LUMA, quality)) + 128
    table = _table(_CHROMA, quality)
    full = _coded(ycc[:, 1:], table)
    # Means of squares of four, and interpolation between their centres.
    half = _coded(torch.round(F.avg_pool2d(ycc[:, 1:], 2)), table)
    spread = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
    chroma = torch.where(subsampled[:, None, None, None], spread, full)
    rgb = torch.einsum("oc,nchw->nohw", torch.linalg.inv(to_ycc), torch.cat((luma, chroma), 1))
    return torch.round(rgb[:, :, :height, :width]).clamp(0, 255) / 255


def _table(table: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """Return the steps of each image's coefficients, ``(n, 1, 1, 8, 1, 8)``."""
    quality = quality.float().round().clamp(1, 100)
    percent = torch.where(quality < 50, torch.floor(5000 / quality), 200 - 2 * quality)
    base = torch.tensor(table, dtype=torch.float32, device=quality.device)
    steps = torch.floor((base * percent[:, None, None] + 50) / 100).clamp(1, 255)
    return steps[:, None, None, :, None, :]


def _coded(planes: Tensor, steps: Tensor) -> Tensor:
    """Round the cosine transforms of 8 x 8 blocks, -128 to 127, to multiples of their steps."""
    n, c, h, w = planes.shape
    blocks = planes.reshape(n, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK)
    cosines = _cosines(planes)
    found = torch.einsum("ui,ncyixj,vj->ncyuxv", cosines, blocks, cosines)
    rounded = torch.round(found / steps) * steps
    decoded = torch.einsum("ui,ncyuxv,vj->ncyixj", cosines, rounded, cosines)
    return torch.round(decoded).clamp(-128, 127).reshape(n, c, h, w)


def _cosines(like: Tensor) -> Tensor:
    """Return the orthonormal DCT of eight samples, ``(frequency, sample)``."""
    sample = torch.arange(BLOCK, dtype=like.dtype, device=like.device)
    cosines = torch.cos(math.pi / BLOCK * (sample + 0.5) * sample[:, None])
    cosines[0] *= math.sqrt(0.5)
    return cosines * math.sqrt(2 / BLOCK)
