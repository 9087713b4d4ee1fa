"""Convolutions of each channel by itself."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.nn import functional

TAPS = 3


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve each channel with its own 3x3 kernel, padded with zeros.

    Where this is compiled, it is a sum of shifted images, which a compiler joins with what comes
    before and after it.

    Args:
        x: ``(n, c, h, w)``.
        weight: ``(c, 9)``.
        bias: ``(c,)``.

    Returns:
        ``(n, c, h, w)``; of the type of `x` where it is compiled, and what autocast says elsewhere.
    """
    channels = x.shape[1]
    if not (torch.compiler.is_compiling() and os.environ.get("STENCIL", "1") == "1"):
        kernels = weight.view(channels, 1, TAPS, TAPS)
        return functional.conv2d(x, kernels, bias, padding=1, groups=channels)
    height, width = x.shape[2:]
    padded = functional.pad(x, (1, 1, 1, 1))
    total = bias.view(-1, 1, 1)
    for tap, factor in enumerate(weight.view(channels, TAPS**2, 1, 1).unbind(1)):
        top, left = divmod(tap, TAPS)
        total = total + factor * padded[:, :, top : top + height, left : left + width]
    return total.to(x.dtype)
