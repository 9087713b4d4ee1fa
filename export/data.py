"""Training crops that a step number fixes: of photographs, of other images, and drawn ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from export.graphics import draw
from export.packs import is_held_back, members
from export.recipe import Pictures
from vaecodec.errors import VaecodecError
from vaecodec.image import read_image

REDUCTION_MAX = 2.0
"""Crops are taken from up to this many times their size and reduced: a wider range of textures."""
REDUCED_SHARE = 0.5
"""Share of the crops that are reduced at all; the others keep the pixels as they are."""
SATURATION = (0.6, 2.6)
"""Range of the factors of saturation; their logarithm is uniform."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B (BT.601): what a grey crop shows, and what saturation leaves as it is."""
DRAWN_SIDE = 256
"""Side in pixels of the drawings of which `Crops.patches` takes its patches."""
PATCHES_OF_DRAWING = 16

_PATCHES, _CHANGES = 0x9A7C, 0xC0108
"""Set random numbers of different uses apart. Those of the crops stay what they were before there
were drawings and changes of colour."""

Pixels = NDArray[np.uint8]


def read_images(
    sources: Iterable[Path], smallest: int, *, hold_back: bool = False
) -> Iterator[Pixels]:
    """Yield ``(h, w, 3)`` uint8 arrays from folders, files and .tar packs, in a stable order.

    Images with a side under `smallest` are passed over, as is what the codec would refuse.

    Args:
        sources: folders, files and packs.
        smallest: least side, in pixels.
        hold_back: whether the photographs that are held back are passed over, too.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: a pack is damaged.
    """
    for source in sources:
        for name, data in members(source):
            if hold_back and is_held_back(name):
                continue
            try:
                pixels = read_image(data).rgb()
            except VaecodecError:
                continue
            if min(pixels.shape[:2]) >= smallest:
                yield pixels


class Crops:
    """Batches of random crops; batch `step` is the same whenever and wherever it is asked for.

    All images are held decoded, three bytes a pixel, in the memory of the device that trains.
    Drawn crops also depend on the fonts of the machine.

    Args:
        sources: see `read_images`.
        crop: pixels a side.
        batch: crops in each.
        seed: what is drawn depends on it, on the step and on the process.
        device: where images and crops are.
        pictures: what the crops show; by default, all images alike and in their own colours.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: no image is large enough, or the shares do not fit the sources.
    """

    def __init__(
        self,
        sources: Iterable[Path],
        crop: int,
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
        pictures: Pictures | None = None,
    ) -> None:
        self.pictures = pictures or Pictures()
        self.crop, self.batch, self.seed, self.device = crop, batch, seed, device
        self.images: list[Tensor] = []
        paths = list(sources)
        found = [_name(path) for path in paths]
        if unknown := sorted(set(self.pictures.shares) - set(found)):
            raise ValueError(f"no training data is named {', '.join(unknown)}, which has a share")
        names: list[str] = []
        for name, path in zip(found, paths, strict=True):
            for pixels in read_images([path], crop, hold_back=self.pictures.hold_back):
                self.images.append(torch.tensor(pixels, device=device).permute(2, 0, 1))
                names.append(name)
        if not self.images:
            raise ValueError(f"no image of at least {crop} pixels a side in the training data")
        self._groups, self._bounds = self._grouped(names)

    def patches(self, count: int, size: int) -> Tensor:
        """Return `count` random patches ``(count, 3, size, size)`` in [0, 1], for statistics."""
        rng = np.random.default_rng([self.seed, _PATCHES])
        changes = np.random.default_rng([self.seed, _PATCHES, _CHANGES])
        patches = [_square(self._image(rng), size, rng) for _ in range(count)]
        colours = _colours(changes, count, self.pictures)
        drawn = np.flatnonzero(changes.random(count) < self.pictures.drawn)
        for first in range(0, len(drawn), PATCHES_OF_DRAWING):
            picture = self._drawing(changes, DRAWN_SIDE, None)
            for index in drawn[first : first + PATCHES_OF_DRAWING]:
                patches[index] = _square(picture, size, changes)
        return _recoloured(torch.stack(patches), colours).cpu().float().div(255)

    def get(self, step: int, rank: int = 0) -> Tensor:
        """Return batch `step` of process `rank`: ``(batch, 3, crop, crop)`` uint8."""
        rng = np.random.default_rng([self.seed, step, rank])
        changes = np.random.default_rng([self.seed, step, rank, _CHANGES])
        crops = [self._crop(rng) for _ in range(self.batch)]
        colours = _colours(changes, self.batch, self.pictures)
        for index in np.flatnonzero(changes.random(self.batch) < self.pictures.drawn):
            crops[index] = self._drawing(changes, self.crop, crops[index])
        return _recoloured(torch.stack(crops), colours)

    def _grouped(self, names: Sequence[str]) -> tuple[list[list[Tensor]], NDArray[np.float64]]:
        """Group the images by share; return the groups and where each ends in [0, 1].

        Args:
            names: source of each image.
        """
        shares = self.pictures.shares
        left = 1 - self.pictures.drawn - math.fsum(shares.values())
        groups: list[list[Tensor]] = []
        weights: list[float] = []
        for name, share in [*shares.items(), (None, left)]:
            images = [
                image
                for image, origin in zip(self.images, names, strict=True)
                if (origin == name if name is not None else origin not in shares)
            ]
            if share > 1e-9 and not images:
                missing = f"in {name}" if name else f"but those with a share, and {share:g} is left"
                raise ValueError(f"no image of at least {self.crop} pixels a side {missing}")
            if share > 1e-9:
                groups.append(images)
                weights.append(share)
        if not groups:  # all crops are drawn: over any of the images
            return [self.images], np.ones(1)
        return groups, np.cumsum(weights) / math.fsum(weights)

    def _image(self, rng: np.random.Generator) -> Tensor:
        images = self._groups[0]
        if len(self._groups) > 1:
            images = self._groups[np.searchsorted(self._bounds[:-1], rng.random(), side="right")]
        return images[rng.integers(len(images))]

    def _drawing(self, rng: np.random.Generator, size: int, background: Tensor | None) -> Tensor:
        behind = None if background is None else background.permute(1, 2, 0).cpu().numpy()
        pixels = torch.from_numpy(draw(rng, size, behind))
        return pixels.permute(2, 0, 1).to(self.device)

    def _crop(self, rng: np.random.Generator) -> Tensor:
        image = self._image(rng)
        size = self.crop
        if rng.random() < REDUCED_SHARE:
            shorter = min(image.shape[1:])
            largest = min(REDUCTION_MAX, shorter / size)
            size = min(round(size * rng.uniform(1, largest)), shorter)
        pixels = _square(image, size, rng)
        if size != self.crop:
            pixels = _reduced(pixels, self.crop)
        if rng.random() < 0.5:
            pixels = pixels.flip(2)
        return pixels.rot90(1, (1, 2)) if rng.random() < 0.25 else pixels


def _name(source: Path) -> str:
    return source.name or source.resolve().name


def _square(image: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    top, left = (rng.integers(side - size + 1) for side in image.shape[1:])
    return image[:, top : top + size, left : left + size]


def _reduced(pixels: Tensor, size: int) -> Tensor:
    reduced = functional.interpolate(
        pixels[None].float(), (size, size), mode="bicubic", antialias=True
    )
    return reduced[0].round().clamp(0, 255).to(torch.uint8)


def _colours(rng: np.random.Generator, count: int, pictures: Pictures) -> NDArray[np.float32]:
    """Draw what is done to the colours of each crop: matrices ``(count, 3, 3)``.

    Channels change places first; what is grey is not saturated.
    """
    chance = rng.random((3, count))
    orders = np.array(list(permutations(range(3))))  # the first leaves all in place
    order = np.where(chance[0] < pictures.permuted, rng.integers(1, len(orders), count), 0)
    factor = np.exp(rng.uniform(math.log(SATURATION[0]), math.log(SATURATION[1]), count))
    factor = np.where(chance[1] < pictures.saturated, factor, 1.0)
    factor = np.where(chance[2] < pictures.grey, 0.0, factor)[:, None, None]
    saturation = factor * np.eye(3) + (1 - factor) * np.array(LUMA)
    return (saturation @ np.eye(3)[orders[order]]).astype(np.float32)


def _recoloured(pixels: Tensor, colours: NDArray[np.float32]) -> Tensor:
    """Multiply the colours of ``(n, 3, h, w)`` uint8 by a matrix each, where it changes them."""
    changed = np.flatnonzero((colours != np.eye(3, dtype=np.float32)).any((1, 2)))
    if not len(changed):
        return pixels
    index = torch.from_numpy(changed).to(pixels.device)
    matrices = torch.from_numpy(colours[changed]).to(pixels.device)[..., None, None]
    red, green, blue = pixels[index].float()[:, :, None].unbind(1)
    mixed = matrices[:, :, 0] * red + matrices[:, :, 1] * green + matrices[:, :, 2] * blue
    pixels[index] = mixed.round_().clamp_(0, 255).to(torch.uint8)
    return pixels
