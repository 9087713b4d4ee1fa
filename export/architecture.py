"""What fixes the shape of a model: all that must agree between training, export and runtime."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vaecodec.bundle import ANCHORS, PASSES
from vaecodec.tables import SCALE_COUNT

PIXEL_UNIT = 16 / 255
"""One unit of the transforms' signal, as a share of the range of x: 16 of 255 grey levels."""
SCALE_MIN, SCALE_MAX = 0.11, 256.0
"""The table of scales: log-spaced standard deviations of a latent's residual, in steps."""
SCALE_LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_COUNT - 1)
"""Natural logarithm of the ratio between two scales of the table."""
EXPONENT_MAX = 5
"""Largest exponent e: latents reach 32 * 2^5 = 1,024 steps in the context's input."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the networks and the range of the rates; by default those of `base`.

    Attributes:
        channels_8: channels of the blocks at 1/8 of the image's resolution.
        channels_16: channels of the blocks at 1/16.
        blocks_8: blocks at 1/8, in each transform.
        blocks_16: blocks at 1/16, in each transform.
        kernel_8: side of the depthwise kernels at 1/8; odd.
        latent: channels M of y; a multiple of 4, the context passes.
        hyper: channels of z.
        prior: channels of the hyper-synthesis and the context passes.
        context_blocks: blocks in each context pass.
        knots: levels at which gains and what else depends on the level are learned; between them
            these are interpolated.
        lmbda_min: weight of the squared error (in 8-bit units, against bpp) at the lowest level.
        lmbda_max: the same at the highest level.
    """

    channels_8: int = 128
    channels_16: int = 256
    blocks_8: int = 5
    blocks_16: int = 3
    kernel_8: int = 5
    latent: int = 576
    hyper: int = 64
    prior: int = 128
    context_blocks: int = 2
    knots: int = 10
    lmbda_min: float = 0.0005
    lmbda_max: float = 1.5

    def __post_init__(self) -> None:
        if self.kernel_8 < 1 or self.kernel_8 % 2 == 0:
            raise ValueError(f"kernel_8 must be odd, not {self.kernel_8}")
        if self.latent % PASSES:
            raise ValueError(f"latent must be a multiple of {PASSES}")
        if self.knots < 2 or (ANCHORS - 1) % (self.knots - 1):
            raise ValueError(f"knots must lie on anchors: {ANCHORS - 1} % (knots - 1) must be 0")

    def lmbda(self, anchor: Tensor) -> Tensor:
        """Return lmbda at levels given in anchors (fractions allowed)."""
        span = math.log(self.lmbda_max / self.lmbda_min)
        return self.lmbda_min * torch.exp(anchor / (ANCHORS - 1) * span)

    def anchor(self, lmbda: Tensor) -> Tensor:
        """Undo `lmbda`: below 0 or above 63 where lmbda is out of the range."""
        span = math.log(self.lmbda_max / self.lmbda_min)
        return torch.log(lmbda / self.lmbda_min) / span * (ANCHORS - 1)

    @property
    def knot_spacing(self) -> int:
        """Anchors between two knots."""
        return (ANCHORS - 1) // (self.knots - 1)

    @property
    def halo(self) -> int:
        """Latents on each side that a transform looks at: one per block at 1/16, or two at 1/8.

        Blocks at 1/8 count as often as their kernels reach beyond the middle.
        """
        return self.blocks_16 + (self.blocks_8 * (self.kernel_8 // 2) + 1) // 2

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Architecture:
        """Build from what `to_dict` gave, also before there were kernels of other sizes."""
        return cls(**{"kernel_8": 3, **stored})

    def to_dict(self) -> dict[str, int | float]:
        """Return the fields, for a manifest."""
        return asdict(self)


def scale_table() -> Tensor:
    """Return the 64 standard deviations, float64, in steps of the quantiser."""
    index = torch.arange(SCALE_COUNT, dtype=torch.float64)
    return SCALE_MIN * torch.exp(index * SCALE_LOG_STEP)
