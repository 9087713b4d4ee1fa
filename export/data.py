"""Training images: any folders of images and any .tar packs, as crops that a step number fixes."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vaecodec.errors import VaecodecError
from vaecodec.image import IMAGE_SUFFIXES, read_image

REDUCTION_MAX = 2.0
"""Crops are taken from up to this many times their size and reduced: a wider range of textures."""
REDUCED_SHARE = 0.5
"""Share of the crops that are reduced at all; the others keep the pixels as they are."""

Pixels = NDArray[np.uint8]


def read_images(sources: Iterable[Path], smallest: int) -> Iterator[Pixels]:
    """Yield ``(h, w, 3)`` uint8 arrays from folders, files and .tar packs, in a stable order.

    Images with a side under `smallest` are passed over, as is what the codec would refuse.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: a pack is damaged.
    """
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(f"no training data at {source}")
        for data in _members(source):
            try:
                pixels = read_image(data).rgb()
            except VaecodecError:
                continue
            if min(pixels.shape[:2]) >= smallest:
                yield pixels


def _members(source: Path) -> Iterator[bytes]:
    if source.suffix == ".tar":
        try:
            with tarfile.open(source) as pack:
                for member in sorted(pack.getmembers(), key=lambda m: m.name):
                    stream = pack.extractfile(member)
                    if stream is not None:
                        yield stream.read()
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{source} is no whole .tar: {error}") from error
        return
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            yield file.read_bytes()


class Crops:
    """Batches of random crops; batch `step` is the same whenever and wherever it is asked for.

    All images are held decoded, three bytes a pixel, in the memory of the device that trains.

    Args:
        sources: see `read_images`.
        crop: pixels a side.
        batch: crops in each.
        seed: what is drawn depends on it, on the step and on the process.
        device: where images and crops are.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: no image is large enough.
    """

    def __init__(
        self,
        sources: Iterable[Path],
        crop: int,
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.images = [
            torch.tensor(pixels, device=device).permute(2, 0, 1)
            for pixels in read_images(sources, crop)
        ]
        if not self.images:
            raise ValueError(f"no image of at least {crop} pixels a side in the training data")
        self.crop, self.batch, self.seed = crop, batch, seed

    def patches(self, count: int, size: int) -> Tensor:
        """Return `count` random patches ``(count, 3, size, size)`` in [0, 1], for statistics."""
        rng = np.random.default_rng([self.seed, 0x9A7C])
        patches = [_square(self._image(rng), size, rng) for _ in range(count)]
        return torch.stack(patches).cpu().float().div(255)

    def get(self, step: int, rank: int = 0) -> Tensor:
        """Return batch `step` of process `rank`: ``(batch, 3, crop, crop)`` uint8."""
        rng = np.random.default_rng([self.seed, step, rank])
        return torch.stack([self._crop(rng) for _ in range(self.batch)])

    def _image(self, rng: np.random.Generator) -> Tensor:
        return self.images[rng.integers(len(self.images))]

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


def _square(image: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    top, left = (rng.integers(side - size + 1) for side in image.shape[1:])
    return image[:, top : top + size, left : left + size]


def _reduced(pixels: Tensor, size: int) -> Tensor:
    reduced = functional.interpolate(
        pixels[None].float(), (size, size), mode="bicubic", antialias=True
    )
    return reduced[0].round().clamp(0, 255).to(torch.uint8)
