"""Rate and distortion: the negative ELBO of the variational autoencoder, for every level at once.

The likelihood of a latent is that of a Gaussian integrated over a unit interval. The rate is that
of the symbols as the encoder chooses them, and so is the gradient of the scales. The latents get
the gradient of the rate under U(-1/2, 1/2) in place of rounding (Ballé et al. 2018, sections 2 and
3). Distortion is taken on quantised latents with a straight-through gradient (Minnen & Singh 2020,
section 3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from export.architecture import Architecture
from export.likelihood import bits
from export.model import Model


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


def rate_distortion(out: dict[str, Tensor], x: Tensor, *, hard: bool) -> RateDistortion:
    """Measure a forward pass.

    Args:
        out: what `Model.forward` returned.
        x: the images, ``(n, 3, h, w)`` in [0, 1].
        hard: True measures what a file would hold: rounded symbols, uncoded latents free, pixels
            clipped. False is the differentiable proxy for training.
    """
    pixels = x.shape[2] * x.shape[3]
    z, x_hat = out["z"], out["x_hat"]
    y_index, z_index = out["scale_index"], out["z_scale_index"].expand_as(z)
    bits_y = bits(out["symbol"], y_index)
    bits_z = bits(Model.round_z(z).detach(), z_index)
    if hard:
        bits_y = bits_y * (y_index > 0)
        x_hat = x_hat.clamp(0, 1)
    else:
        bits_y = _with_noisy_gradient(bits_y, out["residual"], y_index)
        bits_z = _with_noisy_gradient(bits_z, z, z_index)
    error = (x_hat - x).square().mean((1, 2, 3)) * 255**2
    return RateDistortion(bits_y.sum((1, 2, 3)) / pixels, bits_z.sum((1, 2, 3)) / pixels, error)


def _with_noisy_gradient(exact: Tensor, value: Tensor, scale_index: Tensor) -> Tensor:
    """Give what is coded the gradient of its rate under noise; the scales have that of `exact`."""
    noisy = bits(value + torch.rand_like(value) - 0.5, scale_index.detach())
    return exact + noisy - noisy.detach()


def loss(arch: Architecture, measured: RateDistortion, anchor: Tensor) -> Tensor:
    """Return the training loss: mean of (bpp + lmbda * mse) * sqrt(lmbda_max / lmbda).

    Rate and weighted distortion both grow about as sqrt(lmbda), so this scaling keeps the levels'
    gradients in the same range and none drowns the others.
    """
    lmbda = arch.lmbda(anchor)
    weight = lmbda.rsqrt() * math.sqrt(arch.lmbda_max)
    return ((measured.bpp + lmbda * measured.mse) * weight).mean()
