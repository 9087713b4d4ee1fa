"""What fixes the shape of a model: all that must agree between training, export and runtime."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

PATCH = 16
"""Pixels per latent, along each side."""
HYPER_STRIDE = 4
"""Latents per hyper-latent, along each side."""
PIXEL_UNIT = 16 / 255
"""One unit of the transforms' signal, as a share of the range of x: 16 of 255 grey levels."""
SCALE_MIN, SCALE_MAX, SCALE_COUNT = 0.11, 256.0, 64
"""The table of scales: log-spaced standard deviations of a latent's residual, in steps."""
EXPONENT_MAX = 5
"""Largest exponent e: latents reach 32 * 2^5 = 1,024 steps in the context's input."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the networks and the range of the rates.

    Attributes:
        channels_8: channels of the blocks at 1/8 of the image's resolution.
        channels_16: channels of the blocks at 1/16.
        blocks_8: blocks at 1/8, in each transform.
        blocks_16: blocks at 1/16, in each transform.
        latent: channels M of y; a multiple of `passes`.
        hyper: channels of z.
        prior: channels of the hyper-synthesis and the context passes.
        passes: steps in which the latents are coded, each one seeing those before: 4.
        anchors: quality levels that have prior tables of their own.
        knots: levels at which gains are learned; log-linear between them.
        lmbda_min: weight of the squared error (in 8-bit units, against bpp) at the lowest level.
        lmbda_max: the same at the highest level.
    """

    channels_8: int = 128
    channels_16: int = 256
    blocks_8: int = 3
    blocks_16: int = 3
    latent: int = 320
    hyper: int = 96
    prior: int = 192
    passes: int = 4
    anchors: int = 64
    knots: int = 10
    lmbda_min: float = 0.0005
    lmbda_max: float = 1.0

    def __post_init__(self) -> None:
        if self.passes != 4:
            raise ValueError("the order of coding is a 2x2 pattern: passes must be 4")
        if self.latent % self.passes:
            raise ValueError("latent must be a multiple of passes")
        if (self.anchors - 1) % (self.knots - 1):
            raise ValueError("knots must lie on anchors: (anchors - 1) % (knots - 1) must be 0")

    def lmbda(self, anchor: Tensor) -> Tensor:
        """Return lmbda at levels given in anchors (fractions allowed)."""
        span = math.log(self.lmbda_max / self.lmbda_min)
        return self.lmbda_min * torch.exp(anchor / (self.anchors - 1) * span)

    def to_dict(self) -> dict[str, int | float]:
        """Return the fields, for a checkpoint or a manifest."""
        return asdict(self)


def scale_table() -> Tensor:
    """Return the 64 standard deviations, float64, in steps of the quantiser."""
    ratio = math.log(SCALE_MAX / SCALE_MIN)
    index = torch.arange(SCALE_COUNT, dtype=torch.float64)
    return SCALE_MIN * torch.exp(index / (SCALE_COUNT - 1) * ratio)
