"""The denoiser: a second analysis for the frozen autoencoder, and a network at full resolution.

        noisy --front--> (+ noisy) --g_a--> y of the clean image --no rounding--> g_s --> decoded
          |                                 |                                              |
          |                                 +-- the prior, rounding --> a file             |
          +------------------------------- refine <----------------------------------------+
                                             |
                                          (+ decoded) --> restored

`front` and `g_a` are the denoising analysis, `denoiser.onnx`: g_a starts as the trained one, and
front as nothing, so that all of it starts as the encoder. What it makes of a noisy image is coded,
or goes through the decoder as it is. `refine` is for images that need no file, `refiner.onnx`.
Gains, prior and g_s are those of the bundle and are not trained.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.architecture import PIXEL_UNIT, Architecture
from export.model import Model
from export.networks import Analysis, Block, Conv
from export.recipe import DenoiserShape
from vaecodec.bundle import ANCHORS, PATCH


class Unet(nn.Module):
    """What to add to an image, seen at 1/2, 1/4 and 1/8 of its resolution. Starts as nothing.

    On the way up, what went down at the same resolution is added.

    Attributes:
        reach: pixels beyond a square of 8 x 8 that decide what is added there, on every side.
    """

    def __init__(self, c_in: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        halves, quarters, eighths = widths
        self.reach = 2 * (blocks[0] + blocks[4]) + 4 * (blocks[1] + blocks[3]) + 8 * blocks[2]
        self.stem = Conv(c_in, halves, 2, stride=2)
        self.falling_2 = _blocks(halves, blocks[0])
        self.down_4 = Conv(halves, quarters, 2, stride=2)
        self.falling_4 = _blocks(quarters, blocks[1])
        self.down_8 = Conv(quarters, eighths, 2, stride=2)
        self.blocks_8 = _blocks(eighths, blocks[2])
        self.up_4 = Conv(eighths, 4 * quarters)
        self.rising_4 = _blocks(quarters, blocks[3])
        self.up_2 = Conv(quarters, 4 * halves)
        self.rising_2 = _blocks(halves, blocks[4])
        self.head = Conv(halves, 3 * 4, gain=0.0)

    @property
    def halo(self) -> int:
        """The reach in latents."""
        return math.ceil(self.reach / PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(n, c_in, h, w)``, sides multiples of 8, to ``(n, 3, h, w)`` float32."""
        signal = (x - 0.5) / PIXEL_UNIT
        t_2 = self.falling_2(self.stem(signal.contiguous(memory_format=torch.channels_last)))
        t_4 = self.falling_4(self.down_4(t_2))
        t_8 = self.blocks_8(self.down_8(t_4))
        t_4 = self.rising_4(t_4 + functional.pixel_shuffle(self.up_4(t_8), 2))
        t_2 = self.rising_2(t_2 + functional.pixel_shuffle(self.up_2(t_4), 2))
        return functional.pixel_shuffle(self.head(t_2), 2).float() * PIXEL_UNIT


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(count)))


class DenoisingAnalysis(nn.Module):
    """Noisy image ``(n, 3, h, w)``, sides multiples of 16, to y of the clean one."""

    def __init__(self, arch: Architecture, shape: DenoiserShape) -> None:
        super().__init__()
        self.front = Unet(3, shape.front, shape.blocks)
        self.g_a = Analysis(arch)

    @property
    def halo(self) -> int:
        """Latents on each side that decide a latent."""
        return math.ceil((self.g_a.reach + self.front.reach) / PATCH)

    def forward(self, noisy: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the front makes of the image, and y ``(n, M, h/16, w/16)``, for levels."""
        estimate = noisy + self.front(noisy)
        return estimate, self.g_a(estimate, anchor)


class Denoiser(nn.Module):
    """What is trained, and the autoencoder that stays as it is."""

    def __init__(self, arch: Architecture, shape: DenoiserShape) -> None:
        super().__init__()
        self.arch, self.shape = arch, shape
        self.analysis = DenoisingAnalysis(arch, shape)
        self.refine = Unet(6, shape.refine, shape.blocks)
        self.vae = Model(arch).requires_grad_(False)

    @torch.no_grad()
    def inherit(self, source: Model | Denoiser, earlier: Denoiser | None = None) -> None:
        """Start from an autoencoder, or from a denoiser and its autoencoder.

        Args:
            source: either.
            earlier: the denoiser of another autoencoder, whose networks on pixels are taken.

        Raises:
            ValueError: a denoiser has another shape.
        """
        for denoiser in (source, earlier):
            if isinstance(denoiser, Denoiser) and denoiser.shape != self.shape:
                raise ValueError(f"the denoiser to start from has another shape: {denoiser.shape}")
        if isinstance(source, Denoiser):
            self.load_state_dict(source.state_dict())
        else:
            self.vae.load_state_dict(source.state_dict())
            self.analysis.g_a.load_state_dict(source.g_a.state_dict())
        if earlier is not None:
            self.analysis.front.load_state_dict(earlier.analysis.front.state_dict())
            self.refine.load_state_dict(earlier.refine.state_dict())

    def decode(self, y: Tensor, anchor: Tensor) -> Tensor:
        """Return what the decoder makes of y as it is: gains, but no rounding; not clipped."""
        return self.vae.g_s(self.vae.ungained(self.vae.gained(y, anchor), anchor), anchor)

    def refined(self, noisy: Tensor, decoded: Tensor) -> Tensor:
        """Return the restored image, ``(n, 3, h, w)`` float32, not clipped."""
        return decoded + self.refine(torch.cat((noisy, decoded), 1))

    def forward(self, noisy: Tensor, anchor: Tensor, coded: int) -> dict[str, Tensor]:
        """Train-time pass.

        Args:
            noisy: ``(n, 3, h, w)``, sides multiples of 64.
            anchor: levels ``(n,)``; those of images that are not coded are not looked at.
            coded: images, the first of the batch, that go through rounding and prior. The others
                go to the decoder as they are, at the top level.

        Returns:
            ``estimate`` (n, 3, h, w); of the first images what `Model.forward` returns; of the
            others ``decoded`` and ``restored``.
        """
        anchor = torch.cat((anchor[:coded], anchor.new_full((len(noisy) - coded,), ANCHORS - 1)))
        estimate, y = self.analysis(noisy, anchor)
        out = self.vae.transmit(y[:coded], anchor[:coded]) if coded else {}
        decoded = self.decode(y[coded:], anchor[coded:])
        # Files are decoded without the refinement: what it could mend is not left to it.
        restored = self.refined(noisy[coded:], decoded.detach().clamp(0, 1))
        return out | {"estimate": estimate, "decoded": decoded, "restored": restored}
