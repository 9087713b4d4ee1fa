"""Rate and distortion: the negative ELBO of the variational autoencoder, for every level at once.

The likelihood of a latent is that of a Gaussian integrated over a unit interval, and training adds
U(-1/2, 1/2) in place of rounding (Ballé et al. 2018, sections 2 and 3). Distortion is taken on
hard-rounded latents with a straight-through gradient (Minnen & Singh 2020, section 3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from export.architecture import SCALE_LOG_STEP, SCALE_MIN
from export.model import Model

LIKELIHOOD_MIN = 2.0**-26
"""About what the escape code costs; also keeps the logarithm finite."""


@dataclass
class RateDistortion:
    """Per image, each ``(n,)`` float32: bits per pixel of y and z, squared error in 8-bit units."""

    bpp_y: Tensor
    bpp_z: Tensor
    mse: Tensor

    @property
    def bpp(self) -> Tensor:
        """Bits per pixel in all."""
        return self.bpp_y + self.bpp_z


def bits(value: Tensor, scale_index: Tensor) -> Tensor:
    """Return -log2 of a zero-mean Gaussian's mass in [value - 1/2, value + 1/2]."""
    inverse = torch.exp(-scale_index * SCALE_LOG_STEP) * (math.sqrt(0.5) / SCALE_MIN)
    magnitude = value.abs()
    upper = torch.erfc((magnitude - 0.5) * inverse)
    lower = torch.erfc((magnitude + 0.5) * inverse)
    return -torch.log2((upper - lower) / 2 + LIKELIHOOD_MIN)


def rate_distortion(out: dict[str, Tensor], x: Tensor, *, hard: bool) -> RateDistortion:
    """Measure a forward pass.

    Args:
        out: what `Model.forward` returned.
        x: the images, ``(n, 3, h, w)`` in [0, 1].
        hard: True measures what a file would hold: rounded symbols, uncoded latents free, pixels
            clipped. False is the differentiable proxy for training.
    """
    n, pixels = x.shape[0], x.shape[2] * x.shape[3]
    residual, z, x_hat = out["residual"], out["z"], out["x_hat"]
    z_index = out["z_scale_index"].expand_as(z)
    if hard:
        bits_y = bits(residual.round(), out["scale_index"]) * (out["scale_index"] > 0)
        bits_z = bits(Model.round_z(z), z_index)
        x_hat = x_hat.clamp(0, 1)
    else:
        bits_y = bits(residual + torch.rand_like(residual) - 0.5, out["scale_index"])
        bits_z = bits(z + torch.rand_like(z) - 0.5, z_index)
    error = (x_hat - x).square().mean((1, 2, 3)) * 255**2
    return RateDistortion(
        bits_y.sum((1, 2, 3)) / pixels, bits_z.sum((1, 2, 3)) / pixels, error.view(n)
    )


def loss(model: Model, measured: RateDistortion, anchor: Tensor) -> Tensor:
    """Return the training loss: mean of (bpp + lmbda * mse) / sqrt(lmbda).

    Rate and weighted distortion both grow about as sqrt(lmbda), so this scaling keeps the levels'
    gradients in the same range and none drowns the others.
    """
    lmbda = model.arch.lmbda(anchor)
    weight = lmbda.rsqrt() * math.sqrt(model.arch.lmbda_max)
    return ((measured.bpp + lmbda * measured.mse) * weight).mean()
