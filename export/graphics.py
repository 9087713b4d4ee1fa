"""Training pictures that a program draws, where photographs have nothing to teach."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.drawn_cell import Cell, Colour
from export.drawn_elements import ELEMENTS, OVER_PHOTOGRAPHS, gradient

Box = tuple[int, int, int, int]


def draw(
    rng: np.random.Generator, size: int, background: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Draw a picture ``(size, size, 3)`` that depends on `rng` and the machine's fonts alone.

    Args:
        rng: decides everything.
        size: pixels a side.
        background: photograph ``(size, size, 3)`` that some pictures show, whole, in part or
            through the drawing.
    """
    ground, inks = _palette(rng)
    photograph = None if background is None else Image.fromarray(np.ascontiguousarray(background))
    picture = Image.new("RGB", (size, size), ground)
    over = photograph is not None and rng.random() < 0.25
    if photograph is not None and over:
        picture.paste(photograph)
    elif rng.random() < 0.15:
        gradient(Cell(rng, picture, inks, ground, photograph))
    names = list(OVER_PHOTOGRAPHS if over else ELEMENTS)
    weights = np.array([ELEMENTS[name] for name in names])
    ends = np.cumsum(weights / weights.sum())[:-1]
    for box in _layout(rng, size, few=over):
        cell = Cell(rng, picture.crop(box), inks, ground, photograph)
        names[np.searchsorted(ends, rng.random(), side="right")](cell)
        picture.paste(cell.image, box)
    if photograph is not None and rng.random() < (0.4 if over else 0.08):
        picture = Image.blend(photograph, picture, rng.uniform(0.3, 0.95))
    return np.array(picture)


def _layout(rng: np.random.Generator, size: int, *, few: bool) -> list[Box]:
    """Return boxes to draw in: the parts of a page, or anything, overlapping."""
    if few or rng.random() < 0.35:
        boxes: list[Box] = []
        for _ in range(rng.integers(1, 3) if few else rng.integers(2, 6)):
            width, height = (max(16, round(size * rng.uniform(0.3, 1))) for _ in range(2))
            left, top = (int(rng.integers(size - min(side, size) + 1)) for side in (width, height))
            boxes.append((left, top, min(left + width, size), min(top + height, size)))
        return boxes
    boxes = [(0, 0, size, size)]
    for _ in range(rng.integers(0, 4)):
        left, top, right, bottom = boxes.pop(0)
        if rng.random() < 0.6:
            at = top + round((bottom - top) * rng.uniform(0.2, 0.8))
            boxes += [(left, top, right, at), (left, at, right, bottom)]
        else:
            at = left + round((right - left) * rng.uniform(0.2, 0.8))
            boxes += [(left, top, at, bottom), (at, top, right, bottom)]
    return [box for box in boxes if min(box[2] - box[0], box[3] - box[1]) >= 8]


def _palette(rng: np.random.Generator) -> tuple[Colour, list[Colour]]:
    """Return a ground, and colours for what is drawn on it."""
    kind = rng.random()
    if kind < 0.45:  # light
        ground = (255, 255, 255) if rng.random() < 0.5 else _colour(rng, (0, 0.15), (0.85, 1))
        first, others = _colour(rng, (0, 0.6), (0, 0.35)), ((0.3, 1), (0.2, 0.9))
    elif kind < 0.7:  # dark
        ground = (0, 0, 0) if rng.random() < 0.2 else _colour(rng, (0, 0.5), (0.02, 0.25))
        first, others = _colour(rng, (0, 0.3), (0.75, 1)), ((0.2, 1), (0.4, 1))
    else:
        ground = _colour(rng, (0, 1), (0, 1))
        first, others = _colour(rng, (0, 1), (0, 1)), ((0, 1), (0, 1))
    if rng.random() < 0.2:
        others = ((0, 0.03), (0, 1))
    return ground, [first, *(_colour(rng, *others) for _ in range(rng.integers(1, 6)))]


def _colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Colour:
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    red, green, blue = (round(255 * channel) for channel in rgb)
    return red, green, blue
