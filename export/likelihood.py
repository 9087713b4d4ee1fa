"""The Gaussian likelihood of a quantised latent, and rounding that knows what symbols cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from export.architecture import SCALE_LOG_STEP, SCALE_MIN
from vaecodec.quantise import DISTORTION_WEIGHT

LIKELIHOOD_MIN = 2.0**-26
"""About what the escape code costs; also keeps the logarithm finite."""


def bits(value: Tensor, scale_index: Tensor) -> Tensor:
    """Return -log2 of a zero-mean Gaussian's mass in [value - 1/2, value + 1/2]."""
    inverse = torch.exp(-scale_index * SCALE_LOG_STEP) * (math.sqrt(0.5) / SCALE_MIN)
    magnitude = value.abs()
    upper = torch.erfc((magnitude - 0.5) * inverse)
    lower = torch.erfc((magnitude + 0.5) * inverse)
    return -torch.log2((upper - lower) / 2 + LIKELIHOOD_MIN)


@torch.no_grad()
def quantise(residual: Tensor, scale_index: Tensor) -> Tensor:
    """Round residuals as the encoder does; `vaecodec.quantise` says how.

    Without what is special to scale index 0, so that the rate of its symbols can teach its scale.
    """
    nearest = torch.round(residual)
    nearer = nearest - torch.sign(nearest)
    saved = bits(nearest, scale_index) - bits(nearer, scale_index)
    added = (residual - nearer).square() - (residual - nearest).square()
    return torch.where(saved > DISTORTION_WEIGHT * added, nearer, nearest)
