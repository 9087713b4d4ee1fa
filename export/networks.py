"""The networks of the autoencoder: float transforms, and the exact parts of the prior.

Beside each transform runs a linear path (a 16x16 block transform that starts as principal
components). Signals of the transforms are in units of 16 grey levels, `PIXEL_UNIT`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.architecture import PIXEL_UNIT, Architecture
from export.dyadic import ACTIVATION_STEPS, DyadicConv, activate, snap
from vaecodec.bundle import ANCHORS, PASSES, PATCH

TRANSFORM_SLOPE = 0.125
"""Negative slope of the transforms' LeakyReLU."""


class Conv(nn.Module):
    """A dense convolution whose weight is kept as a matrix, ``(c_out, c_in * k * k)``.

    As a matrix it can be given to Muon, which orthogonalises its updates.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, *, stride: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.shape = (c_out, c_in, kernel, kernel)
        self.stride = stride
        fan_in = c_in * kernel * kernel
        self.weight = nn.Parameter(torch.randn(c_out, fan_in) * (gain / math.sqrt(fan_in)))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c_in, h, w)`` to ``(n, c_out, h / stride, w / stride)``."""
        return functional.conv2d(x, self.weight.view(self.shape), self.bias, self.stride)

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and the second half of the channels of `forward`, for a 1x1 kernel.

        Two convolutions: halves of what one of them gives are strided, and take longer.
        """
        parts = zip(self.weight.view(self.shape).chunk(2), self.bias.chunk(2), strict=True)
        first, second = (functional.conv2d(x, *part, self.stride) for part in parts)
        return first, second


class Depthwise(nn.Module):
    """A convolution of each channel by itself, padded with zeros; 3x3 if not told otherwise."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel
        weight = torch.randn(channels, kernel**2) / kernel
        weight[:, kernel**2 // 2] += 1
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c, h, w)`` to the same shape."""
        channels = self.weight.shape[0]
        weight = self.weight.view(channels, 1, self.kernel, self.kernel)
        return functional.conv2d(x, weight, self.bias, padding=self.kernel // 2, groups=channels)


class Block(nn.Module):
    """Two residual branches: 1x1, depthwise, 1x1; then a gated 1x1 feed-forward."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.expand = Conv(channels, channels)
        self.depthwise = Depthwise(channels, kernel)
        self.project = Conv(channels, channels, gain=0.3)
        self.gate = Conv(channels, 4 * channels)
        self.merge = Conv(2 * channels, channels, gain=0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c, h, w)`` to the same shape."""
        x = x + self.project(self.depthwise(_leaky(self.expand(x))))
        opening, signal = self.gate.halves(x)
        return x + self.merge(torch.sigmoid(opening) * signal)


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, TRANSFORM_SLOPE)


def at_level(table: Tensor, anchor: Tensor) -> Tensor:
    """Interpolate the rows of a table ``(knots, c)`` at levels ``(n,)``, in anchors.

    The knots are spread evenly over the anchors, the first and the last on either end. Beyond
    these, the outer two go on in a straight line.

    Returns:
        ``(n, c, 1, 1)``.
    """
    position = anchor * (len(table) - 1) / (ANCHORS - 1)
    low = position.floor().clamp(0, len(table) - 2)
    share = (position - low).unsqueeze(1)
    low = low.long()
    rows = table[low] * (1 - share) + table[low + 1] * share
    return rows[:, :, None, None]


def nearest_anchor(anchor: Tensor) -> Tensor:
    """Return the anchors whose prior tables serve levels; halves go up, as in the runtime."""
    return torch.floor(anchor + 0.5)


class Modulation(nn.Module):
    """Tells a transform the level: each channel is scaled and shifted. Starts as the identity."""

    def __init__(self, knots: int, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(knots, channels))
        self.shift = nn.Parameter(torch.zeros(knots, channels))

    def forward(self, x: Tensor, anchor: Tensor) -> Tensor:
        """Map ``(n, c, h, w)`` to the same shape, at levels ``(n,)``."""
        return x * at_level(self.log_scale, anchor).exp() + at_level(self.shift, anchor)


def _blocks_8(arch: Architecture) -> nn.ModuleList:
    return nn.ModuleList(Block(arch.channels_8, arch.kernel_8) for _ in range(arch.blocks_8))


class Analysis(nn.Module):
    """g_a: image ``(n, 3, h, w)`` in [0, 1], sides multiples of 16, to y ``(n, M, h/16, w/16)``.

    Attributes:
        reach: pixels beyond a latent's square of 16 x 16 that decide it, on every side.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.reach = 8 * arch.blocks_8 * (arch.kernel_8 // 2) + 16 * arch.blocks_16
        self.linear = nn.Parameter(torch.randn(arch.latent, 3 * PATCH * PATCH) / 28)
        self.stem = Conv(3, arch.channels_8, 8, stride=8, gain=0.3)
        self.level_8 = Modulation(arch.knots, arch.channels_8)
        self.blocks_8 = _blocks_8(arch)
        self.down = Conv(arch.channels_8, arch.channels_16, 2, stride=2)
        self.level_16 = Modulation(arch.knots, arch.channels_16)
        self.blocks_16 = nn.ModuleList(Block(arch.channels_16) for _ in range(arch.blocks_16))
        self.head = Conv(arch.channels_16, arch.latent, gain=0.0)

    def forward(self, x: Tensor, anchor: Tensor) -> Tensor:
        """Return y in units of 16 grey levels (before gains), float32, for levels ``(n,)``."""
        signal = (x - 0.5) / PIXEL_UNIT
        with torch.autocast(x.device.type, enabled=False):
            # The convolution of a patch at a time, whose backward pass is slow by itself.
            patches = functional.pixel_unshuffle(signal.float(), PATCH)
            base = functional.conv2d(patches, self.linear[:, :, None, None])
        t = self.level_8(self.stem(signal), anchor)
        for block in self.blocks_8:
            t = block(t)
        t = self.level_16(self.down(t), anchor)
        for block in self.blocks_16:
            t = block(t)
        return base + self.head(t).float()


class Synthesis(nn.Module):
    """g_s: y_hat after the inverse gain ``(n, M, h, w)`` to image ``(n, 3, 16h, 16w)``.

    Attributes:
        latent_unit: ``(M, 1, 1)``, the reciprocal deviation of each latent, fixed at the start of
            training: it brings all latents to one magnitude for the network.
    """

    latent_unit: Tensor

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.randn(3 * PATCH * PATCH, arch.latent) / 28)
        self.register_buffer("latent_unit", torch.ones(arch.latent, 1, 1))
        self.stem = Conv(arch.latent, arch.channels_16)
        self.level_16 = Modulation(arch.knots, arch.channels_16)
        self.blocks_16 = nn.ModuleList(Block(arch.channels_16) for _ in range(arch.blocks_16))
        self.up = Conv(arch.channels_16, 4 * arch.channels_8)
        self.level_8 = Modulation(arch.knots, arch.channels_8)
        self.blocks_8 = _blocks_8(arch)
        self.head = Conv(arch.channels_8, 3 * 64, gain=0.0)

    def forward(self, y: Tensor, anchor: Tensor) -> Tensor:
        """Return x_hat, nominally in [0, 1] and not clipped, float32, for levels ``(n,)``."""
        with torch.autocast(y.device.type, enabled=False):
            kernels = self.linear.view(-1, y.shape[1], 1, 1)
            base = functional.pixel_shuffle(functional.conv2d(y.float(), kernels), PATCH)
        t = self.level_16(self.stem(y * self.latent_unit), anchor)
        for block in self.blocks_16:
            t = block(t)
        t = self.level_8(functional.pixel_shuffle(self.up(t), 2), anchor)
        for block in self.blocks_8:
            t = block(t)
        detail = functional.pixel_shuffle(self.head(t), 8)
        return (base + detail.float()) * PIXEL_UNIT + 0.5


class HyperAnalysis(nn.Module):
    """h_a: normalised latents ``(n, M, h, w)``, h and w multiples of 4, to z at a quarter."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.reduce = Conv(arch.latent, arch.prior, gain=0.3)
        self.mix_16 = Depthwise(arch.prior)
        self.down_32 = Conv(arch.prior, arch.prior, 2, stride=2)
        self.mix_32 = Depthwise(arch.prior)
        self.down_64 = Conv(arch.prior, arch.prior, 2, stride=2)
        self.head = Conv(arch.prior, arch.hyper)

    def forward(self, v: Tensor) -> Tensor:
        """Return z before its level's shift and rounding, float32."""
        t = self.mix_16(_leaky(self.reduce(v)))
        t = self.mix_32(_leaky(self.down_32(t)))
        return self.head(_leaky(self.down_64(t))).float()


class HyperSynthesis(nn.Module):
    """h_s, exact: z_hat ``(n, Nz, h/4, w/4)`` to features ``(n, P, h, w)`` in steps of 1/32."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        wide = 4 * arch.prior
        self.up_32 = DyadicConv(arch.hyper, wide)
        self.mix_32 = DyadicConv(arch.prior, arch.prior, 3, groups=arch.prior)
        self.up_16 = DyadicConv(arch.prior, wide)
        self.mix_16 = DyadicConv(arch.prior, arch.prior, 3, groups=arch.prior)
        self.project = DyadicConv(arch.prior, arch.prior)

    def forward(self, z_hat: Tensor, level_features: Tensor) -> Tensor:
        """Return features; `level_features` ``(n, P, 1, 1)`` are steps that tell the level."""
        a = snap(z_hat * ACTIVATION_STEPS)
        a = functional.pixel_shuffle(activate(self.up_32(a)), 2)
        a = snap(a + level_features)
        a = snap(a + activate(self.mix_32(a)))
        a = functional.pixel_shuffle(activate(self.up_16(a)), 2)
        a = snap(a + activate(self.mix_16(a)))
        return snap(a + activate(self.project(a)))


class ExactBlock(nn.Module):
    """A residual branch of exact layers: depthwise 3x3, then 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = DyadicConv(channels, channels, 3, groups=channels)
        self.project = DyadicConv(channels, channels)

    def forward(self, a: Tensor) -> Tensor:
        """Map activations ``(n, c, h, w)`` to the same shape."""
        return snap(a + activate(self.project(activate(self.mix(a)))))


class ContextPass(nn.Module):
    """One exact pass: features and the latents known so far give mean and scale of a quarter more.

    The first pass knows no latents and sees features alone. The heads see the four places of each
    2x2 square apart (`to_phases`), because a pass codes other channels at each: see `pass_order`.
    """

    def __init__(self, arch: Architecture, index: int) -> None:
        super().__init__()
        self.sees_latents = index > 0
        c_in = arch.prior + (arch.latent if self.sees_latents else 0)
        self.reduce = DyadicConv(c_in, arch.prior)
        self.blocks = nn.ModuleList(ExactBlock(arch.prior) for _ in range(arch.context_blocks))
        self.mean = DyadicConv(PASSES * arch.prior, arch.latent, groups=PASSES)
        self.scale = DyadicConv(PASSES * arch.prior, arch.latent, groups=PASSES)
        for head in (self.mean, self.scale):
            nn.init.zeros_(head.weight)

    def forward(self, features: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unscaled mean and the scale's offset, ``(n, M, h/2, w/2)``, exact sums."""
        a = torch.cat((features, context), 1) if self.sees_latents else features
        a = activate(self.reduce(a))
        for block in self.blocks:
            a = block(a)
        a = to_phases(a)
        return self.mean(a), self.scale(a)


def pass_order(index: int, channels: int) -> Tensor:
    """Return the order in which a pass codes latents, ``(M,)`` int64.

    Latents are named as in the layout of `to_phases`, ``p M + c``: place p of each 2x2 square,
    channel c. At each place a pass codes every fourth channel from ``index xor p``.
    """
    place = torch.arange(PASSES)[:, None]
    channel = torch.arange(0, channels, PASSES) + torch.bitwise_xor(torch.tensor(index), place)
    return (place * channels + channel).flatten()


def to_phases(t: Tensor) -> Tensor:
    """Bring the four places of each 2x2 square into channels, sides even.

    ``(n, c, h, w)`` becomes ``(n, 4 c, h/2, w/2)``; place ``2 (i mod 2) + (j mod 2)`` comes first,
    channel second (SpaceToDepth of ONNX; pixel_unshuffle orders them the other way round). In
    memory, channels are last, as convolutions want them.
    """
    n, c, h, w = t.shape
    split = t.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c)
    joined = split.permute(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)
    return joined.permute(0, 3, 1, 2)


def from_phases(t: Tensor) -> Tensor:
    """Undo `to_phases`."""
    n, c, h, w = t.shape
    split = t.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, c // 4)
    joined = split.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)
    return joined.permute(0, 3, 1, 2)
