"""Training images: any folders of images and any .tar packs, as crops that a step number fixes."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

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
        with tarfile.open(source) as pack:
            for member in sorted(pack.getmembers(), key=lambda m: m.name):
                stream = pack.extractfile(member)
                if stream is not None:
                    yield stream.read()
        return
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            yield file.read_bytes()


class Crops:
    """Batches of random crops; batch `step` is the same whenever and wherever it is asked for.

    All images are held in memory, decoded: three bytes a pixel.
    """

    def __init__(self, sources: Iterable[Path], crop: int, batch: int, seed: int) -> None:
        self.images = list(read_images(sources, crop))
        if not self.images:
            raise ValueError(f"no image of at least {crop} pixels a side in the training data")
        self.crop, self.batch, self.seed = crop, batch, seed
        self._ahead: tuple[tuple[int, int], Future[Pixels]] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="crops")

    def patches(self, count: int, size: int) -> NDArray[np.float32]:
        """Return `count` random patches ``(count, 3, size, size)`` in [0, 1], for statistics."""
        rng = np.random.default_rng([self.seed, 0x9A7C])
        out = np.empty((count, 3, size, size), np.float32)
        for i in range(count):
            image = self.images[rng.integers(len(self.images))]
            top = rng.integers(image.shape[0] - size + 1)
            left = rng.integers(image.shape[1] - size + 1)
            out[i] = image[top : top + size, left : left + size].transpose(2, 0, 1) / np.float32(
                255
            )
        return out

    def get(self, step: int, rank: int = 0) -> torch.Tensor:
        """Return batch `step` of process `rank`: ``(batch, 3, crop, crop)`` uint8.

        The next one is prepared meanwhile, on another thread.
        """
        if self._ahead is not None and self._ahead[0] == (step, rank):
            pixels = self._ahead[1].result()
        else:
            pixels = self._make(step, rank)
        self._ahead = ((step + 1, rank), self._worker.submit(self._make, step + 1, rank))
        return torch.from_numpy(pixels)

    def _make(self, step: int, rank: int) -> Pixels:
        rng = np.random.default_rng([self.seed, step, rank])
        crops = np.stack([self._crop(rng) for _ in range(self.batch)])
        return np.ascontiguousarray(crops.transpose(0, 3, 1, 2))

    def _crop(self, rng: np.random.Generator) -> Pixels:
        image = self.images[rng.integers(len(self.images))]
        height, width = image.shape[:2]
        size = self.crop
        if rng.random() < REDUCED_SHARE:
            largest = min(REDUCTION_MAX, min(height, width) / size)
            size = min(round(size * rng.uniform(1, largest)), height, width)
        top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
        pixels = image[top : top + size, left : left + size]
        if size != self.crop:
            reduced = Image.fromarray(pixels).resize(
                (self.crop, self.crop), Image.Resampling.LANCZOS
            )
            pixels = np.asarray(reduced)
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return np.rot90(pixels) if rng.random() < 0.25 else pixels
