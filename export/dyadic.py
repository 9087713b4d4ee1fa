"""Layers whose arithmetic is exact in float32, so that any device computes the same bits.

An activation is an integer in [-1024, 1024] that counts steps of 1/32 (so it spans ±32). A weight
is ``k / 2^f`` with an integer ``|k| <= 127`` and one ``f`` per output channel. Every product and
every partial sum is then a multiple of ``2^-f``; as long as it stays below ``2^24`` such steps,
float32 holds it exactly, and the order of summation cannot matter. `DyadicConv.steps_bound` is
that proof obligation, and the choice of ``f`` meets it by construction.

Training sees the same numbers: rounding passes gradients straight through (Bengio et al. 2013).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATION_STEPS = 32
"""Steps per unit of an activation."""
ACTIVATION_MAX = 1024
"""Largest magnitude of an activation, in steps: ±32, eleven bits and a sign."""
WEIGHT_MAX = 127
"""Largest magnitude of a weight's integer: it is stored as int8."""
EXACT_STEPS = 2**24
"""float32 represents every integer below this magnitude."""
FRACTION_BITS = (0, 13)
"""Range of ``f``: below 0 a weight would exceed 127, above 13 the finest weights gain nothing."""
LEAKY_SLOPE = 1 / 8
"""A power of two, so that the negative branch is exact too."""


def round_straight_through(x: Tensor) -> Tensor:
    """Round half to even; the gradient is that of the identity."""
    return x + (torch.round(x) - x).detach()


def clip_inward(x: Tensor, low: float, high: float) -> Tensor:
    """Clip to [low, high]; outside, let gradients through only where they lead back in."""
    return _ClipInward.apply(x, low, high)  # type: ignore[no-any-return]


class _ClipInward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        (x,) = ctx.saved_tensors
        low, high = ctx.bounds
        (gradient,) = gradients
        # Descent moves against the gradient: above the range, a positive one leads back.
        leads_back = ((x <= high) | (gradient > 0)) & ((x >= low) | (gradient < 0))
        return gradient * leads_back, None, None


def snap(x: Tensor) -> Tensor:
    """Bring an exact sum back onto the activation grid: round, then clip to ±1024 steps."""
    return round_straight_through(x).clamp(-ACTIVATION_MAX, ACTIVATION_MAX)


def activate(x: Tensor) -> Tensor:
    """LeakyReLU of slope 1/8, then `snap`."""
    return snap(functional.leaky_relu(x, LEAKY_SLOPE))


class DyadicConv(nn.Module):
    """A 1x1 (possibly grouped) or depthwise convolution, with dyadic weights and bias.

    Only these kinds are allowed: dense spatial kernels invite Winograd and FFT algorithms, whose
    intermediate values leave the grid.

    Attributes:
        weight: ``(c_out, c_in * k * k)`` float32, before quantisation.
        bias: ``(c_out,)`` float32, in activation units (a bias of 1 is 32 steps).
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, *, groups: int = 1) -> None:
        super().__init__()
        if kernel > 1 and not c_in == c_out == groups:
            raise ValueError("an exact convolution is either 1x1 or depthwise")
        self.kernel, self.groups = kernel, groups
        fan_in = (c_in // groups) * kernel * kernel
        self.weight = nn.Parameter(torch.randn(c_out, fan_in) / math.sqrt(fan_in))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def quantised(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the integers that define the layer.

        Returns:
            ``k`` (c_out, fan_in), integers in [-127, 127]; ``f`` (c_out, 1), the fraction bits;
            ``k_bias`` (c_out,), integers in steps of ``2^-f``. All as float32 tensors.
        """
        weight, bias = self.weight.detach(), self.bias.detach() * ACTIVATION_STEPS
        fan_in = weight.shape[1]
        magnitude = weight.abs()
        by_int8 = WEIGHT_MAX / magnitude.amax(1).clamp_min(1e-9)
        # Rounding may add half a step to every weight and to the bias.
        room = EXACT_STEPS - 1 - (fan_in + 1) * ACTIVATION_MAX / 2
        by_sum = room / (magnitude.sum(1) * ACTIVATION_MAX + bias.abs()).clamp_min(1e-9)
        bits = torch.log2(torch.minimum(by_int8, by_sum)).floor().clamp(*FRACTION_BITS)
        bits = bits.unsqueeze(1)
        scale = torch.exp2(bits)
        k = torch.round(weight * scale).clamp(-WEIGHT_MAX, WEIGHT_MAX)
        return k, bits, torch.round(bias * scale.squeeze(1))

    def steps_bound(self) -> Tensor:
        """Return ``sum|k| * 1024 + |k_bias|`` for each output channel; it must be below 2^24."""
        k, _, k_bias = self.quantised()
        return k.double().abs().sum(1) * ACTIVATION_MAX + k_bias.double().abs()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve activations ``(n, c_in, h, w)``; the sums are exact but not yet snapped."""
        k, bits, k_bias = self.quantised()
        scale = torch.exp2(-bits)
        weight = self.weight + (k * scale - self.weight).detach()
        bias = self.bias * ACTIVATION_STEPS
        bias = bias + (k_bias * scale.squeeze(1) - bias).detach()
        shape = (weight.shape[0], -1, self.kernel, self.kernel)
        return functional.conv2d(
            x, weight.view(shape), bias, padding=self.kernel // 2, groups=self.groups
        )
