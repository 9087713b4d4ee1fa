"""The variational autoencoder.

        x --g_a--> y --gain--> y' --(round(y' - mean) + mean)--> y_hat --inverse gain, g_s--> x_hat
                               |                 ^
                              h_a                | mean, scale
                               |                 |
                               z --round--> z_hat --h_s--> features --context passes (y_hat so far)

Transforms are ordinary float networks beside a linear path (a 16x16 block transform that starts
as principal components). h_s and the context passes are exact (`export.dyadic`). Signals of the
transforms are in units of 16 grey levels, `PIXEL_UNIT`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.architecture import (
    EXPONENT_MAX,
    PATCH,
    PIXEL_UNIT,
    SCALE_COUNT,
    SCALE_MAX,
    SCALE_MIN,
    Architecture,
)
from export.dyadic import (
    ACTIVATION_MAX,
    ACTIVATION_STEPS,
    DyadicConv,
    activate,
    clip_inward,
    round_straight_through,
    snap,
)

MEAN_STEPS = 8
"""A mean lies on a grid of 1/8 of the quantiser's step."""
MEAN_MAX = 8184
"""Largest magnitude of a mean, in those eighths."""
SCALE_SHIFT = 16
"""Steps of the context's output that make one scale index."""
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


class Depthwise(nn.Module):
    """A 3x3 convolution of each channel by itself, padded with zeros."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        weight = torch.randn(channels, 9) / 3
        weight[:, 4] += 1
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c, h, w)`` to the same shape."""
        channels = self.weight.shape[0]
        weight = self.weight.view(channels, 1, 3, 3)
        return functional.conv2d(x, weight, self.bias, padding=1, groups=channels)


class Block(nn.Module):
    """Two residual branches: 1x1, depthwise 3x3, 1x1; then a gated 1x1 feed-forward."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = Conv(channels, channels)
        self.depthwise = Depthwise(channels)
        self.project = Conv(channels, channels, gain=0.3)
        self.gate = Conv(channels, 4 * channels)
        self.merge = Conv(2 * channels, channels, gain=0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c, h, w)`` to the same shape."""
        x = x + self.project(self.depthwise(_leaky(self.expand(x))))
        opening, signal = self.gate(x).chunk(2, dim=1)
        return x + self.merge(torch.sigmoid(opening) * signal)


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, TRANSFORM_SLOPE)


class Analysis(nn.Module):
    """g_a: image ``(n, 3, h, w)`` in [0, 1], sides multiples of 16, to y ``(n, M, h/16, w/16)``."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.randn(arch.latent, 3 * PATCH * PATCH) / 28)
        self.stem = Conv(3, arch.channels_8, 8, stride=8, gain=0.3)
        self.blocks_8 = nn.ModuleList(Block(arch.channels_8) for _ in range(arch.blocks_8))
        self.down = Conv(arch.channels_8, arch.channels_16, 2, stride=2)
        self.blocks_16 = nn.ModuleList(Block(arch.channels_16) for _ in range(arch.blocks_16))
        self.head = Conv(arch.channels_16, arch.latent, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return y in units of 16 grey levels (before gains), float32."""
        signal = (x - 0.5) / PIXEL_UNIT
        with torch.autocast(x.device.type, enabled=False):
            kernels = self.linear.view(-1, 3, PATCH, PATCH)
            base = functional.conv2d(signal.float(), kernels, stride=PATCH)
        t = self.stem(signal)
        for block in self.blocks_8:
            t = block(t)
        t = self.down(t)
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
        self.blocks_16 = nn.ModuleList(Block(arch.channels_16) for _ in range(arch.blocks_16))
        self.up = Conv(arch.channels_16, 4 * arch.channels_8)
        self.blocks_8 = nn.ModuleList(Block(arch.channels_8) for _ in range(arch.blocks_8))
        self.head = Conv(arch.channels_8, 3 * 64, gain=0.0)

    def forward(self, y: Tensor) -> Tensor:
        """Return x_hat, nominally in [0, 1] and not clipped, float32."""
        with torch.autocast(y.device.type, enabled=False):
            kernels = self.linear.view(-1, y.shape[1], 1, 1)
            base = functional.pixel_shuffle(functional.conv2d(y.float(), kernels), PATCH)
        t = self.stem(y * self.latent_unit)
        for block in self.blocks_16:
            t = block(t)
        t = functional.pixel_shuffle(self.up(t), 2)
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
        self.mix_32 = DyadicConv(arch.prior, arch.prior, 3, depthwise=True)
        self.up_16 = DyadicConv(arch.prior, wide)
        self.mix_16 = DyadicConv(arch.prior, arch.prior, 3, depthwise=True)
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


class ContextPass(nn.Module):
    """One exact pass: features and the latents known so far give mean and scale of the others.

    The first pass knows no latents and sees features alone.
    """

    def __init__(self, arch: Architecture, index: int) -> None:
        super().__init__()
        self.sees_latents = index > 0
        c_in = arch.prior + (arch.latent if self.sees_latents else 0)
        self.reduce = DyadicConv(c_in, arch.prior)
        self.mix = DyadicConv(arch.prior, arch.prior, 3, depthwise=True)
        self.project = DyadicConv(arch.prior, arch.prior)
        self.head = DyadicConv(arch.prior, 2 * arch.latent)
        nn.init.zeros_(self.head.weight)

    def forward(self, features: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unscaled mean and the scale's offset, ``(n, M, h, w)`` each, exact sums."""
        a = torch.cat((features, context), 1) if self.sees_latents else features
        a = activate(self.reduce(a))
        a = snap(a + activate(self.project(activate(self.mix(a)))))
        mean, scale = self.head(a).chunk(2, dim=1)
        return mean, scale


@dataclass
class Coded:
    """What one pass of the prior over latents leaves behind, each ``(n, M, h, w)`` float32."""

    y_hat: Tensor
    residual: Tensor
    """y' - mean, before rounding."""
    scale_index: Tensor
    """Whole numbers in [0, 63]; gradients pass."""


class Model(nn.Module):
    """The whole autoencoder at every rate.

    Attributes:
        log_gain, log_inverse_gain: ``(knots, M)``, natural logarithms.
        z_shift, z_scale: ``(knots, Nz)``, centre of z, and its scale index in units of 16.
        level_features: ``(knots, P)``, in activation units.
        exponent: ``(anchors, M)``, the integer e of each latent at each level.
        base_scale: ``(anchors, M)``, the scale index where the context's offset is zero.
    """

    exponent: Tensor
    base_scale: Tensor

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.g_a, self.g_s = Analysis(arch), Synthesis(arch)
        self.h_a, self.h_s = HyperAnalysis(arch), HyperSynthesis(arch)
        self.context = nn.ModuleList(ContextPass(arch, i) for i in range(arch.passes))
        self.log_gain = nn.Parameter(torch.zeros(arch.knots, arch.latent))
        self.log_inverse_gain = nn.Parameter(torch.zeros(arch.knots, arch.latent))
        self.z_shift = nn.Parameter(torch.zeros(arch.knots, arch.hyper))
        self.z_scale = nn.Parameter(torch.full((arch.knots, arch.hyper), 1.75))
        self.level_features = nn.Parameter(torch.zeros(arch.knots, arch.prior))
        self.register_buffer("exponent", torch.zeros(arch.anchors, arch.latent))
        self.register_buffer("base_scale", torch.zeros(arch.anchors, arch.latent))

    @torch.no_grad()
    def start_linear(self, basis: Tensor, deviation: Tensor) -> None:
        """Begin as a transform codec on principal components.

        Args:
            basis: ``(M, 768)`` orthonormal rows over flattened ``(3, 16, 16)`` patches.
            deviation: ``(M,)`` standard deviations along them, in units of 16 grey levels.

        The step that minimises rate + lmbda * squared error at high rate, where
        D = step^2 / 12 and dD/dR = -2 ln2 D per component, is near 5 / sqrt(lmbda) grey levels.
        """
        self.g_a.linear.copy_(basis)
        self.g_s.linear.copy_(basis.T)
        self.g_s.latent_unit.copy_((1 / deviation.clamp_min(0.1)).view(-1, 1, 1))
        anchors = torch.arange(self.arch.anchors)
        gain = PIXEL_UNIT * 255 * self.arch.lmbda(anchors).sqrt() / 5
        knot = gain[:: self._knot_spacing].log().unsqueeze(1)
        self.log_gain.copy_(knot.expand_as(self.log_gain))
        self.log_inverse_gain.copy_(-self.log_gain)
        spread = gain.unsqueeze(1) * deviation
        reach = ACTIVATION_MAX / ACTIVATION_STEPS
        exponent = torch.log2(3.5 * spread / reach).ceil().clamp(0, EXPONENT_MAX)
        self.exponent.copy_(exponent)
        index_step = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_COUNT - 1)
        base = torch.round(torch.log(spread / SCALE_MIN) / index_step)
        self.base_scale.copy_(base.clamp(4, SCALE_COUNT - 1))

    @property
    def _knot_spacing(self) -> int:
        return (self.arch.anchors - 1) // (self.arch.knots - 1)

    def at_level(self, table: Tensor, anchor: Tensor) -> Tensor:
        """Interpolate rows of a ``(knots, c)`` table at levels ``(n,)``: ``(n, c, 1, 1)``."""
        position = anchor / self._knot_spacing
        low = position.floor().clamp(max=self.arch.knots - 2)
        share = (position - low).unsqueeze(1)
        low = low.long()
        rows = table[low] * (1 - share) + table[low + 1] * share
        return rows[:, :, None, None]

    def gained(self, y: Tensor, anchor: Tensor) -> Tensor:
        """Scale y so that the quantiser's step at this level is 1."""
        return y * self.at_level(self.log_gain, anchor).exp()

    def ungained(self, y_hat: Tensor, anchor: Tensor) -> Tensor:
        """Undo `gained`, by separately learned gains."""
        return y_hat * self.at_level(self.log_inverse_gain, anchor).exp()

    def hyper_latent(self, y: Tensor, anchor: Tensor) -> Tensor:
        """Return z, centred for its level and not yet rounded, from gained latents."""
        e = self.exponent[anchor.round().long()][:, :, None, None]
        reach = ACTIVATION_MAX / ACTIVATION_STEPS
        v = (y * torch.exp2(-e)).clamp(-reach, reach)
        return self.h_a(v) + self.at_level(self.z_shift, anchor)

    def features(self, z_hat: Tensor, anchor: Tensor) -> Tensor:
        """Run the exact hyper-synthesis at the anchor nearest to the level."""
        level = self.at_level(self.level_features, anchor.round())
        return self.h_s(z_hat, snap(level * ACTIVATION_STEPS))

    def z_scale_index(self, anchor: Tensor) -> Tensor:
        """Return the scale index of each hyper-latent's channel, ``(n, Nz, 1, 1)``."""
        index = SCALE_SHIFT * self.at_level(self.z_scale, anchor.round())
        index = round_straight_through(index)
        return clip_inward(index, 1, SCALE_COUNT - 1)

    def context_pass(self, index: int) -> ContextPass:
        """Return one of the context passes, as what it is."""
        module = self.context[index]
        if not isinstance(module, ContextPass):
            raise TypeError(f"context pass {index} is a {type(module).__name__}")
        return module

    def predict(
        self, index: int, features: Tensor, y_hat: Tensor, anchor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run context pass `index`: mean (in eighths) and scale index of every latent."""
        rows = anchor.round().long()
        factor = torch.exp2(self.exponent[rows])[:, :, None, None]
        context = snap(y_hat * ACTIVATION_STEPS / factor)
        mean, offset = self.context_pass(index)(features, context)
        mean = round_straight_through(mean * factor * (MEAN_STEPS / ACTIVATION_STEPS))
        mean = mean.clamp(-MEAN_MAX, MEAN_MAX) / MEAN_STEPS
        scale = round_straight_through(offset / SCALE_SHIFT)
        scale = scale + self.base_scale[rows][:, :, None, None]
        return mean, clip_inward(scale, 0, SCALE_COUNT - 1)

    def code(self, y: Tensor, features: Tensor, anchor: Tensor) -> Coded:
        """Quantise gained latents pass by pass, as the file's coder does."""
        y_hat = torch.zeros_like(y)
        residual, scale_index = torch.zeros_like(y), torch.zeros_like(y)
        for index, mask in enumerate(self.masks(y.shape[2], y.shape[3], y.device)):
            mean, scale = self.predict(index, features, y_hat, anchor)
            r = y - mean
            # A latent of the smallest scale is not coded: it is its mean.
            coded = round_straight_through(r) * (scale.detach() > 0)
            y_hat = torch.where(mask, mean + coded, y_hat)
            residual = torch.where(mask, r, residual)
            scale_index = torch.where(mask, scale, scale_index)
        return Coded(y_hat, residual, scale_index)

    def masks(self, height: int, width: int, device: torch.device) -> Tensor:
        """Return which latents each pass codes, ``(4, M, height, width)`` bool.

        Latent (c, i, j) belongs to pass ``(c mod 4) xor (2 (i mod 2) + (j mod 2))``: at each place
        every pass codes a quarter of the channels, and in each channel a quarter of the places.
        """
        rows = torch.arange(height, device=device)[:, None] % 2
        columns = torch.arange(width, device=device)[None, :] % 2
        group = torch.arange(self.arch.latent, device=device)[:, None, None] % self.arch.passes
        turn = torch.bitwise_xor(group, 2 * rows + columns)
        return turn == torch.arange(self.arch.passes, device=device)[:, None, None, None]

    def forward(self, x: Tensor, anchor: Tensor) -> dict[str, Tensor]:
        """Train-time pass: image ``(n, 3, h, w)``, sides multiples of 64, and levels ``(n,)``.

        Returns:
            ``x_hat`` (n, 3, h, w), ``residual`` and ``scale_index`` (n, M, h/16, w/16), ``z`` and
            ``z_scale_index`` (n, Nz, h/64, w/64) and (n, Nz, 1, 1), ``y_hat``.
        """
        y = self.gained(self.g_a(x), anchor)
        z = self.hyper_latent(y, anchor)
        with torch.autocast(x.device.type, enabled=False):
            features = self.features(self.round_z(z), anchor)
            coded = self.code(y, features, anchor)
        x_hat = self.g_s(self.ungained(coded.y_hat, anchor))
        return {
            "x_hat": x_hat,
            "y_hat": coded.y_hat,
            "residual": coded.residual,
            "scale_index": coded.scale_index,
            "z": z,
            "z_scale_index": self.z_scale_index(anchor),
        }

    @staticmethod
    def round_z(z: Tensor) -> Tensor:
        """Return z_hat: whole numbers in the range of an activation."""
        reach = ACTIVATION_MAX / ACTIVATION_STEPS
        return round_straight_through(z).clamp(-reach, reach)
