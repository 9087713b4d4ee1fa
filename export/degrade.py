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
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from export.jpeg import MCU, jpeg

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
    shifted: float = 0.5

    def __post_init__(self) -> None:
        if self.gaussian + self.sensor + self.correlated > 1:
            raise ValueError("gaussian, sensor and correlated are shares of the same images")

    def __call__(
        self, clean: Tensor, generator: torch.Generator, is_grey: Tensor | None = None
    ) -> Tensor:
        """Return what became of images.

        Args:
            clean: ``(n, 3, h, w)`` float32 in [0, 1].
            generator: on the same device; the same state gives the same images.
            is_grey: ``(n, 1, 1, 1)`` bool: which images are grey, and are to stay so; none by
                default.

        Returns:
            ``(n, 3, h, w)`` float32; values may leave [0, 1].
        """
        draw = _Draw(clean, generator)
        noisy = self._with_noise(clean, draw)
        if is_grey is not None:
            noisy = torch.where(is_grey, noisy[:, 1:2], noisy)
        out = torch.where(draw.chance(self.rounded), in_8_bits(noisy), noisy)
        filed = draw.chance(self.jpeg).flatten()
        if filed.any():
            out[filed] = self._filed(noisy[filed], generator)
        return out

    def _with_noise(self, clean: Tensor, draw: _Draw) -> Tensor:
        """Return images with noise of the kinds that are drawn for them."""
        kinds: tuple[tuple[float, Callable[[Tensor, _Draw], Tensor]], ...] = (
            (self.gaussian, lambda x, of: x + self._sigma(of) * of.normal()),
            (self.sensor, lambda x, of: _sensor(x, of, self.shot, self.smoothed)),
            (self.correlated, lambda x, of: x + self._sigma(of) * _correlated(of)),
        )
        kind = draw.uniform().flatten()
        noisy, below = clean.clone(), 0.0
        for share, make in kinds:
            chosen = (kind >= below) & (kind < below + share)
            below += share
            if chosen.any():
                x = clean[chosen]
                noisy[chosen] = make(x, _Draw(x, draw.generator))
        return noisy

    def _sigma(self, draw: _Draw) -> Tensor:
        return draw.uniform(0, self.sigma_max / 255)

    def _filed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images as JPEG files give them back, the blocks of each where they are drawn."""
        draw = _Draw(images, generator)
        height, width = images.shape[2:]
        is_shifted = draw.chance(self.shifted).flatten()
        top, left = (draw.whole(MCU).flatten() * is_shifted for _ in range(2))
        placed = _window(images, -top, -left, height + MCU, width + MCU)
        quality = draw.uniform(*self.quality).flatten()
        coded = jpeg(placed, quality, draw.chance(self.subsampled).flatten())
        return _window(coded, top, left, height, width)


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

    def whole(self, end: int) -> Tensor:
        """Return whole numbers ``(n, 1, 1, 1)`` from 0, an end excluded."""
        shape, device = (len(self.like), 1, 1, 1), self.like.device
        return torch.randint(end, shape, generator=self.generator, device=device)


def _window(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Return of each image ``(n, c, h, w)`` a window that begins at its own row and column.

    Beyond the edges of an image, they are repeated.
    """
    rows, columns = (
        (begin[:, None] + torch.arange(length, device=x.device)).clamp(0, side - 1)
        for begin, length, side in ((top, height, x.shape[2]), (left, width, x.shape[3]))
    )
    image = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


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
    noise = torch.where(draw.chance(0.5), draw.normal(), _demosaiced(draw.normal(), draw))
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
    noise = torch.where(draw.chance(0.5), resized, _demosaiced(draw.normal(), draw))
    return noise / noise.std(dim=(1, 2, 3), keepdim=True)


def _demosaiced(noise: Tensor, draw: _Draw) -> Tensor:
    """Keep of noise what a Bayer filter array sees, interpolated linearly between.

    Where its first red is differs from image to image: by camera, and as images are cut and turned.
    """
    height, width = noise.shape[2:]
    rows = (torch.arange(height, device=noise.device)[:, None] + draw.whole(2)) % 2
    columns = (torch.arange(width, device=noise.device) + draw.whole(2)) % 2
    red, blue = (rows + columns == 0), (rows + columns == 2)
    seen = torch.cat((red, ~(red | blue), blue), 1).to(noise.dtype)
    kernel = torch.tensor(((1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (1.0, 2.0, 1.0)), device=noise.device)
    weight = kernel.expand(3, 1, 3, 3)
    total = F.conv2d(F.pad(noise * seen, (1, 1, 1, 1)), weight, groups=3)
    known = F.conv2d(F.pad(seen, (1, 1, 1, 1)), weight, groups=3)
    return torch.where(seen.bool(), noise, total / known)


def in_8_bits(x: Tensor) -> Tensor:
    """Clip and round as files of 8 bits do, in [0, 1]."""
    return torch.round(x.clamp(0, 1) * 255) / 255
