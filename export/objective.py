"""Rate and distortion: the negative ELBO of the variational autoencoder, for every level at once.

The likelihood of a latent is that of a Gaussian integrated over a unit interval. The rate is that
of the symbols as the encoder chooses them, and so is the gradient of the scales. The latents get
the gradient of the rate under U(-1/2, 1/2) in place of rounding (Ballé et al. 2018, sections 2 and
3). Distortion is taken on quantised latents with a straight-through gradient (Minnen & Singh 2020,
section 3.3).

Half of the distortion, or another share, may be how different the images look (`ssimulacra2`), at
a balance for every level: see `loss`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from export.architecture import Architecture
from export.likelihood import bits
from export.model import Model
from export.networks import at_level
from export.ssimulacra2 import distance


@dataclass
class RateDistortion:
    """Per image, each ``(n,)`` float32.

    Attributes:
        bpp_y: bits per pixel of the latents.
        bpp_z: the same of the hyper-latents.
        mse: mean squared error in 8-bit units.
        distance: how different the images look, `ssimulacra2.distance`; None if not asked for.
    """

    bpp_y: Tensor
    bpp_z: Tensor
    mse: Tensor
    distance: Tensor | None = None

    @property
    def bpp(self) -> Tensor:
        """Bits per pixel in all."""
        return self.bpp_y + self.bpp_z


def rate_distortion(
    out: dict[str, Tensor], x: Tensor, *, hard: bool, visual: bool = False
) -> RateDistortion:
    """Measure a forward pass.

    Args:
        out: what `Model.forward` returned.
        x: the images, ``(n, 3, h, w)`` in [0, 1].
        hard: True measures what a file would hold: rounded symbols, uncoded latents free, pixels
            clipped. False is the differentiable proxy for training.
        visual: whether to measure how different the images look, too.
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
    bpp_y, bpp_z = (b.sum((1, 2, 3)) / pixels for b in (bits_y, bits_z))
    return RateDistortion(bpp_y, bpp_z, error, distance(x, x_hat) if visual else None)


def _with_noisy_gradient(exact: Tensor, value: Tensor, scale_index: Tensor) -> Tensor:
    """Give what is coded the gradient of its rate under noise; the scales have that of `exact`."""
    noisy = bits(value + torch.rand_like(value) - 0.5, scale_index.detach())
    return exact + noisy - noisy.detach()


@dataclass(frozen=True)
class Visual:
    """What the looks of an image count in the distortion.

    Attributes:
        share: of the distortion, 0 to 1.
        balance: at each knot, the weight c that makes ``c * distance`` equal to ``lmbda * mse`` for
            the model that a run begins with.
    """

    share: float
    balance: Sequence[float]


def loss(
    arch: Architecture, measured: RateDistortion, anchor: Tensor, visual: Visual | None = None
) -> Tensor:
    """Return the training loss: mean of (bpp + distortion) * sqrt(lmbda_max / lmbda).

    The distortion is ``lmbda * mse``, or with a visual share w
    ``(1 - w) * lmbda * mse + w * c * distance``. Rate and distortion both grow about as
    sqrt(lmbda), so this scaling keeps the levels' gradients in the same range and none drowns the
    others.
    """
    lmbda = arch.lmbda(anchor)
    distortion = lmbda * measured.mse
    if visual is not None and measured.distance is not None:
        logs = torch.tensor(visual.balance, device=anchor.device).log().unsqueeze(1)
        balance = at_level(logs, anchor).flatten().exp()
        looks = balance * measured.distance
        distortion = (1 - visual.share) * distortion + visual.share * looks
    weight = lmbda.rsqrt() * math.sqrt(arch.lmbda_max)
    return ((measured.bpp + distortion) * weight).mean()


@torch.no_grad()
def find_balance(model: Model, batches: Sequence[Tensor]) -> tuple[float, ...]:
    """Return the balance of `Visual` at each knot of a model.

    Args:
        model: on whose device this runs.
        batches: images ``(n, 3, h, w)`` in [0, 1], sides multiples of 64.
    """
    arch = model.arch
    found: list[float] = []
    for knot in range(arch.knots):
        level = torch.tensor([float(knot * arch.knot_spacing)], device=model.log_gain.device)
        errors, distances = 0.0, 0.0
        for x in batches:
            measured = rate_distortion(model(x, level.expand(len(x))), x, hard=True, visual=True)
            errors += float(measured.mse.sum())
            distances += float(measured.distance.sum()) if measured.distance is not None else 0.0
        found.append(float(arch.lmbda(level)) * errors / distances)
    return tuple(found)
