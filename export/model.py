"""The variational autoencoder.

        x --g_a--> y --gain--> y' --(round(y' - mean) + mean)--> y_hat --inverse gain, g_s--> x_hat
                               |                 ^
                              h_a                | mean, scale
                               |                 |
                               z --round--> z_hat --h_s--> features --context passes (y_hat so far)

Transforms are ordinary float networks; h_s and the context passes are exact (`export.dyadic`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.architecture import (
    EXPONENT_MAX,
    PIXEL_UNIT,
    SCALE_LOG_STEP,
    SCALE_MIN,
    Architecture,
)
from export.dyadic import (
    ACTIVATION_MAX,
    ACTIVATION_STEPS,
    clip_inward,
    round_straight_through,
    snap,
)
from export.likelihood import quantise
from export.networks import (
    Analysis,
    ContextPass,
    HyperAnalysis,
    HyperSynthesis,
    Synthesis,
    at_level,
    from_phases,
    nearest_anchor,
    pass_order,
    to_phases,
)
from vaecodec.bundle import ANCHORS, PASSES
from vaecodec.tables import SCALE_COUNT

MEAN_STEPS = 8
"""A mean lies on a grid of 1/8 of the quantiser's step."""
MEAN_MAX = 8184
"""Largest magnitude of a mean, in those eighths."""
SCALE_SHIFT = 16
"""Steps of the context's output that make one scale index."""


BASE_SCALE_MIN = 4
"""Least scale index where the context's offset is zero: it leaves room to go below."""


@dataclass
class Coded:
    """What coding leaves behind, float32."""

    y_hat: Tensor
    """``(n, M, h, w)``."""
    residual: Tensor
    """y' - mean, before rounding, ``(n, 4 M, h/2, w/2)``: the passes, one after the other."""
    symbol: Tensor
    """The residual, quantised."""
    scale_index: Tensor
    """Whole numbers in [0, 63], of the same shape; gradients pass."""


class Model(nn.Module):
    """The whole autoencoder at every rate.

    Attributes:
        log_gain, log_inverse_gain: ``(knots, M)``, natural logarithms.
        z_shift, z_scale: ``(knots, Nz)``, centre of z, and its scale index in units of 16.
        level_features: ``(knots, P)``, in activation units.
        exponent: ``(anchors, M)``, the integer e of each latent at each level.
        base_scale: ``(anchors, M)``, the scale index where the context's offset is zero.
        order: ``(4, M)``, the channels of each pass in the layout of `to_phases`.
        place: ``(4 M,)``, the inverse: where each such channel stands among the passes.
    """

    exponent: Tensor
    base_scale: Tensor
    order: Tensor
    place: Tensor

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.g_a, self.g_s = Analysis(arch), Synthesis(arch)
        self.h_a, self.h_s = HyperAnalysis(arch), HyperSynthesis(arch)
        self.context = nn.ModuleList(ContextPass(arch, i) for i in range(PASSES))
        self.log_gain = nn.Parameter(torch.zeros(arch.knots, arch.latent))
        self.log_inverse_gain = nn.Parameter(torch.zeros(arch.knots, arch.latent))
        self.z_shift = nn.Parameter(torch.zeros(arch.knots, arch.hyper))
        self.z_scale = nn.Parameter(torch.full((arch.knots, arch.hyper), 1.75))
        self.level_features = nn.Parameter(torch.zeros(arch.knots, arch.prior))
        self.register_buffer("exponent", torch.zeros(ANCHORS, arch.latent))
        self.register_buffer("base_scale", torch.zeros(ANCHORS, arch.latent))
        order = torch.stack([pass_order(i, arch.latent) for i in range(PASSES)])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("place", order.flatten().argsort(), persistent=False)

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
        anchors = torch.arange(ANCHORS)
        gain = PIXEL_UNIT * 255 * self.arch.lmbda(anchors).sqrt() / 5
        knot = gain[:: self.arch.knot_spacing].log().unsqueeze(1)
        self.log_gain.copy_(knot.expand_as(self.log_gain))
        self.log_inverse_gain.copy_(-self.log_gain)
        spread = gain.unsqueeze(1) * deviation
        reach = ACTIVATION_MAX / ACTIVATION_STEPS
        exponent = torch.log2(3.5 * spread / reach).ceil().clamp(0, EXPONENT_MAX)
        self.exponent.copy_(exponent)
        base = torch.round(torch.log(spread / SCALE_MIN) / SCALE_LOG_STEP)
        self.base_scale.copy_(base.clamp(BASE_SCALE_MIN, SCALE_COUNT - 1))

    def gained(self, y: Tensor, anchor: Tensor) -> Tensor:
        """Scale y so that the quantiser's step at this level is 1."""
        return y * at_level(self.log_gain, anchor).exp()

    def ungained(self, y_hat: Tensor, anchor: Tensor) -> Tensor:
        """Undo `gained`, by separately learned gains."""
        return y_hat * at_level(self.log_inverse_gain, anchor).exp()

    def hyper_latent(self, y: Tensor, anchor: Tensor) -> Tensor:
        """Return z, centred for its level and not yet rounded, from gained latents."""
        e = self.exponent[nearest_anchor(anchor).long()][:, :, None, None]
        reach = ACTIVATION_MAX / ACTIVATION_STEPS
        v = (y * torch.exp2(-e)).clamp(-reach, reach)
        return self.h_a(v) + at_level(self.z_shift, anchor)

    def features(self, z_hat: Tensor, anchor: Tensor) -> Tensor:
        """Run the exact hyper-synthesis at the anchor nearest to the level."""
        level = at_level(self.level_features, nearest_anchor(anchor))
        return self.h_s(z_hat, snap(level * ACTIVATION_STEPS))

    def z_scale_index(self, anchor: Tensor) -> Tensor:
        """Return the scale index of each hyper-latent's channel, ``(n, Nz, 1, 1)``."""
        index = SCALE_SHIFT * at_level(self.z_scale, nearest_anchor(anchor))
        index = round_straight_through(index)
        return clip_inward(index, 1, SCALE_COUNT - 1)

    def context_pass(self, index: int) -> ContextPass:
        """Return one of the context passes, as what it is."""
        module = self.context[index]
        if not isinstance(module, ContextPass):
            raise TypeError(f"context pass {index} is a {type(module).__name__}")
        return module

    def coded_channels(self, index: int) -> Tensor:
        """Return the latent channel of each entry that a pass codes, ``(M,)``; each occurs once."""
        return self.order[index] % self.arch.latent

    def predict(
        self, index: int, features: Tensor, y_hat: Tensor, anchor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run context pass `index` on the latents known so far.

        Returns:
            Mean, a multiple of 1/8, and scale index of what the pass codes, ``(n, M, h/2, w/2)``.
        """
        rows = nearest_anchor(anchor).long()
        factor = torch.exp2(self.exponent[rows])[:, :, None, None]
        context = snap(y_hat * ACTIVATION_STEPS / factor)
        mean, offset = self.context_pass(index)(features, context)
        channels = self.coded_channels(index)
        grow = factor[:, channels] * (MEAN_STEPS / ACTIVATION_STEPS)
        mean = round_straight_through(mean * grow).clamp(-MEAN_MAX, MEAN_MAX) / MEAN_STEPS
        scale = round_straight_through(offset / SCALE_SHIFT)
        scale = scale + self.base_scale[rows][:, channels, None, None]
        return mean, clip_inward(scale, 0, SCALE_COUNT - 1)

    def code(self, y: Tensor, features: Tensor, anchor: Tensor) -> Coded:
        """Quantise gained latents ``(n, M, h, w)`` pass by pass, as the file's coder does."""
        passes = to_phases(y)[:, self.order.flatten()].chunk(PASSES, dim=1)
        known: list[Tensor] = []
        residuals: list[Tensor] = []
        symbols: list[Tensor] = []
        scales: list[Tensor] = []
        for index, target in enumerate(passes):
            unknown = [torch.zeros_like(target)] * (PASSES - index)
            y_hat = self.from_passes([*known, *unknown])
            mean, scale = self.predict(index, features, y_hat, anchor)
            r = target - mean
            symbol = quantise(r.detach(), scale.detach())
            # A latent of the smallest scale is not coded: it is its mean.
            known.append(mean + (r + (symbol - r).detach()) * (scale.detach() > 0))
            residuals.append(r)
            symbols.append(symbol)
            scales.append(scale)
        return Coded(
            self.from_passes(known), *(torch.cat(p, 1) for p in (residuals, symbols, scales))
        )

    def from_passes(self, passes: list[Tensor]) -> Tensor:
        """Put what the four passes code, ``(n, M, h/2, w/2)`` each, where it belongs."""
        return from_phases(torch.cat(passes, 1)[:, self.place])

    def forward(self, x: Tensor, anchor: Tensor) -> dict[str, Tensor]:
        """Train-time pass: image ``(n, 3, h, w)``, sides multiples of 64, and levels ``(n,)``.

        Returns:
            ``x_hat`` (n, 3, h, w); ``residual``, ``symbol``, ``scale_index`` (n, 4 M, h/32, w/32);
            ``z`` (n, Nz, h/64, w/64) and ``z_scale_index`` (n, Nz, 1, 1).
        """
        return self.transmit(self.g_a(x, anchor), anchor)

    def transmit(self, y: Tensor, anchor: Tensor) -> dict[str, Tensor]:
        """Do with latents ``(n, M, h/16, w/16)`` what files do; see `forward`."""
        y = self.gained(y, anchor)
        z = self.hyper_latent(y, anchor)
        with torch.autocast(y.device.type, enabled=False):
            features = self.features(self.round_z(z), anchor)
            coded = self.code(y, features, anchor)
        x_hat = self.g_s(self.ungained(coded.y_hat, anchor), anchor)
        return {
            "x_hat": x_hat,
            "residual": coded.residual,
            "symbol": coded.symbol,
            "scale_index": coded.scale_index,
            "z": z,
            "z_scale_index": self.z_scale_index(anchor),
        }

    @staticmethod
    def round_z(z: Tensor) -> Tensor:
        """Return z_hat: whole numbers in the range of an activation."""
        reach = ACTIVATION_MAX / ACTIVATION_STEPS
        return round_straight_through(z).clamp(-reach, reach)
