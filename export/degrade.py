"""What photographs suffer, drawn at random: the training data of a blind denoiser.

    gaussian    noise of one standard deviation for all pixels, as the literature measures with
    sensor      shot and read noise in linear light, before white balance and gamma; some of it
                smoothed, chroma more than luma, as cameras do
    correlated  noise that was interpolated: from a colour filter array, or by resizing
    jpeg        files of quality 10 to 95, after noise or alone

An image in some is left as it is, so that clean photographs pass unharmed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from export.jpeg import BLOCK, jpeg

LUMA_BLUR = (0.0, 1.2)
"""Deviations, in pixels, of the Gaussians by which a camera's software smooths luma."""
CHROMA_BLUR = (0.5, 4.0)
"""The same of chroma."""
BLUR_REACH = 8
"""Pixels on each side that such a Gaussian sees."""


@dataclass(frozen=True)
class Degradations:
    """Shares and ranges of what is drawn.

    Attributes:
        gaussian: share of the images with noise of one deviation everywhere.
        sensor: share with noise of a sensor.
        smoothed: share, of those with noise of a sensor, that a camera's software has smoothed.
        correlated: share with noise that was interpolated. The rest has none.
        jpeg: share, of those with and of those without noise, that goes through JPEG.
        rounded: share of the others that goes through 8 bits, clipped; what is left may leave
            [0, 1].
        sigma_max: standard deviation, of 255, up to which noise goes; all are equally likely.
        shot: variance of a sensor's noise per unit of light, least and most: the lower half of the
            range of Brooks et al. 2019 ("Unprocessing images for learned raw denoising"), above
            which noise is stronger than `sigma_max`.
        quality: of JPEG, least and most; all are equally likely.
        subsampled: share of JPEG files with chroma of half the resolution.
        shifted: share of JPEG files of which the image is a part: blocks begin anywhere.
    """

    gaussian: float = 0.5
    sensor: float = 0.25
    smoothed: float = 0.4
    correlated: float = 0.15
    jpeg: float = 0.25
    rounded: float = 0.4
    sigma_max: float = 55.0
    shot: tuple[float, float] = (1e-4, 6e-3)
    quality: tuple[float, float] = (10, 95)
    subsampled: float = 0.7
    shifted: float = 0.25

    def __post_init__(self) -> None:
        if self.gaussian + self.sensor + self.correlated > 1:
            raise ValueError("gaussian, sensor and correlated are shares of the same images")

    def __call__(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Return what became of images.

        Args:
            clean: ``(n, 3, h, w)`` float32 in [0, 1].
            generator: on the same device; the same state gives the same images.

        Returns:
            ``(n, 3, h, w)`` float32; values may leave [0, 1].
        """
        draw = _Draw(clean, generator)
        kind = draw.uniform()
        sigma = draw.uniform(0, self.sigma_max / 255)
        candidates = (
            (self.gaussian, clean + sigma * draw.normal()),
            (self.sensor, _sensor(clean, draw, self.shot, self.smoothed)),
            (self.correlated, clean + sigma * _correlated(draw)),
        )
        noisy, below = clean, 0.0
        for share, candidate in candidates:
            chosen = (kind >= below) & (kind < below + share)
            noisy = torch.where(chosen, candidate, noisy)
            below += share
        out = torch.where(draw.chance(self.rounded), in_8_bits(noisy), noisy)
        filed = draw.chance(self.jpeg).flatten()
        quality = draw.uniform(*self.quality).flatten()
        subsampled = draw.chance(self.subsampled).flatten()
        offsets = draw.offsets()
        shifted = draw.chance(self.shifted).flatten()
        for chosen, (top, left) in ((filed & ~shifted, (0, 0)), (filed & shifted, offsets)):
            if chosen.any():
                moved = F.pad(noisy[chosen], (left, 0, top, 0), mode="replicate")
                coded = jpeg(moved, quality[chosen], subsampled[chosen])
                out[chosen] = coded[:, :, top:, left:]
        return out


class _Draw:
    """Random numbers for a batch: one for each image, unless said otherwise."""

    def __init__(self, like: Tensor, generator: torch.Generator) -> None:
        self.like, self.generator = like, generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return numbers ``(n, 1, 1, 1)``."""
        shape = (len(self.like), 1, 1, 1)
        unit = torch.rand(shape, generator=self.generator, device=self.like.device)
        return low + (high - low) * unit

    def chance(self, share: float) -> Tensor:
        """Return which images, ``(n, 1, 1, 1)`` bool, are among a share of all."""
        return self.uniform() < share

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, for every sample if no shape is given."""
        size = shape or self.like.shape
        return torch.randn(size, generator=self.generator, device=self.like.device)

    def offsets(self) -> tuple[int, int]:
        """Return a row and a column inside of a block, the same for all images."""
        device = self.like.device
        drawn = torch.randint(BLOCK, (2,), generator=self.generator, device=device)
        top, left = drawn.tolist()
        return top, left


def _sensor(x: Tensor, draw: _Draw, shot: tuple[float, float], smoothed: float) -> Tensor:
    """Add noise in a camera's own light, whose variance is ``shot * light + read``.

    Gamma, gains of white balance, and the relation of read and shot noise are drawn about as
    Brooks et al. 2019 found them in real cameras.
    """
    gamma = draw.uniform(1.8, 2.6)
    gains = torch.cat((draw.uniform(1.2, 2.4), torch.ones_like(gamma), draw.uniform(1.2, 2.4)), 1)
    log_shot = draw.uniform(math.log(shot[0]), math.log(shot[1]))
    log_read = 2.18 * log_shot + 1.2 + 0.26 * draw.normal(*gamma.shape)
    light = x.clamp(0, 1) ** gamma / gains
    deviation = torch.sqrt(light * log_shot.exp() + log_read.exp())
    noise = torch.where(draw.chance(0.5), draw.normal(), _demosaiced(draw.normal()))
    developed = (light + deviation * noise) * gains
    out = developed.clamp(min=0) ** (1 / gamma)
    return torch.where(draw.chance(smoothed), x + _smoothed(out - x, draw), out)


def _smoothed(noise: Tensor, draw: _Draw) -> Tensor:
    """Blur what noise does to luma a little, and what it does to chroma more, and weaken it."""
    luma = noise.mean(1, keepdim=True)
    chroma = _blurred(noise - luma, draw.uniform(*CHROMA_BLUR)) * draw.uniform()
    return _blurred(luma, draw.uniform(*LUMA_BLUR)) + chroma


def _blurred(x: Tensor, deviation: Tensor) -> Tensor:
    """Blur every image by a Gaussian of its own deviation ``(n, 1, 1, 1)``, in pixels."""
    n, c, h, w = x.shape
    offset = torch.arange(-BLUR_REACH, BLUR_REACH + 1, device=x.device)
    weight = torch.exp(-((offset / deviation.clamp_min(1e-3)) ** 2) / 2)
    weight = (weight / weight.sum(-1, keepdim=True)).repeat_interleave(c, 0)
    planes = F.pad(x.reshape(1, n * c, h, w), (BLUR_REACH,) * 4, mode="reflect")
    across = F.conv2d(planes, weight, groups=n * c)
    return F.conv2d(across, weight.transpose(2, 3), groups=n * c).reshape(n, c, h, w)


def _correlated(draw: _Draw) -> Tensor:
    """Return noise of unit deviation, interpolated from a filter array or by resizing."""
    height, width = draw.like.shape[2:]
    factor = 1 + 2 * float(draw.uniform().flatten()[0])
    coarse = draw.normal(len(draw.like), 3, round(height / factor) + 1, round(width / factor) + 1)
    resized = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    noise = torch.where(draw.chance(0.5), resized, _demosaiced(draw.normal()))
    return noise / noise.std(dim=(1, 2, 3), keepdim=True)


def _demosaiced(noise: Tensor) -> Tensor:
    """Keep of noise what a Bayer filter array (RGGB) sees, interpolated linearly between."""
    rows = torch.arange(noise.shape[2], device=noise.device)[:, None] % 2
    columns = torch.arange(noise.shape[3], device=noise.device) % 2
    red, blue = (rows + columns == 0), (rows + columns == 2)
    seen = torch.stack((red, ~(red | blue), blue)).to(noise.dtype)
    kernel = torch.tensor(((1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (1.0, 2.0, 1.0)), device=noise.device)
    weight = kernel.expand(3, 1, 3, 3)
    total = F.conv2d(F.pad(noise * seen, (1, 1, 1, 1)), weight, groups=3)
    known = F.conv2d(F.pad(seen[None], (1, 1, 1, 1)), weight, groups=3)
    return torch.where(seen.bool(), noise, total / known)


def in_8_bits(x: Tensor) -> Tensor:
    """Clip and round as files of 8 bits do, in [0, 1]."""
    return torch.round(x.clamp(0, 1) * 255) / 255
