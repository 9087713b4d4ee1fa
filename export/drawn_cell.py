"""The rectangle of a drawn picture that an element fills, and random choices for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

TEXT_SIZES = (8, 48)
"""Range of the sizes of letters, in pixels."""
FINER = 3
"""Smooth edges are drawn on a grid this much finer; sub-pixel text needs just 3."""

Colour = tuple[int, int, int]


@dataclass
class Cell:
    """A rectangle of the picture, while something is drawn in it.

    Attributes:
        rng: decides everything.
        image: what there is so far.
        inks: colours of the whole picture; the first stands out from the ground.
        ground: colour that most of the picture has, where nothing is drawn.
        photograph: what may be shown, if anything.
    """

    rng: np.random.Generator
    image: Image.Image
    inks: list[Colour]
    ground: Colour
    photograph: Image.Image | None

    def chance(self, share: float) -> bool:
        """Return True in this share of the cases."""
        return self.rng.random() < share

    def whole(self, low: int, high: int) -> int:
        """Return a whole number of [low, high]."""
        return int(self.rng.integers(low, max(low, high) + 1))

    def ink(self) -> Colour:
        """Return any of the inks."""
        return self.inks[self.rng.integers(len(self.inks))]

    def text_size(self, largest: int = TEXT_SIZES[1]) -> int:
        """Return a size of letters; small ones, of which pages are full, are the most likely."""
        least, most = TEXT_SIZES
        ratio = max(1, min(largest, most) / least)
        return round(least * ratio ** (self.rng.random() ** 1.5))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number of [low, high) whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))
