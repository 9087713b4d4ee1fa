"""Rectangles of an image: the format's segments, the runtime's tiles, and what each must see.

    segment   1,024 x 1,024 pixels, coded by itself: prior and words know nothing of its neighbours
    tile      what one run of a transform covers: one segment or several
    halo      what a transform looks at beyond a tile, so that the tile comes out as if the image
              had been transformed whole

Segments belong to the format, and tiles do not: how a runtime cuts an image into tiles moves no
sample by more than the float error of a transform.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vaecodec.bundle import PATCH
from vaecodec.container import SEGMENT_PIXELS

SEGMENT = SEGMENT_PIXELS // PATCH
"""Latents along each side of a whole segment."""
TILE_SIDE = 2 * SEGMENT
"""Latents along each side of a tile of a large image: its halo then costs a tenth to a seventh more
time, and its activations take some 450 MB, whatever the size of the image."""
_MARGIN = 8
"""Latents that a halo may have, more or less."""
_NARROW = 16
"""Latents across a strip that would be mostly halo."""
TILE_PIXELS = (TILE_SIDE * PATCH) ** 2
"""Pixels of such a tile, its halo left aside."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, its end excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def area(self) -> int:
        """Rows times columns."""
        return self.shape[0] * self.shape[1]

    def scaled(self, factor: int) -> Box:
        """Return the same rectangle in units that are smaller by a factor."""
        return Box(*(factor * edge for edge in (self.top, self.left, self.bottom, self.right)))

    def outward(self, factor: int) -> Box:
        """Return the least rectangle around this one in units that are larger by a factor."""
        low = (self.top // factor, self.left // factor)
        return Box(*low, -(-self.bottom // factor), -(-self.right // factor))

    def grown(self, margin: int) -> Box:
        """Return the rectangle with a margin on every side."""
        return Box(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)

    def within(self, other: Box) -> Box:
        """Return what two rectangles share; empty where they are apart."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Box(top, left, max(top, bottom), max(left, right))

    def slices(self, origin: Box) -> tuple[slice, slice]:
        """Return rows and columns in an array that begins where `origin` does."""
        return (
            slice(self.top - origin.top, self.bottom - origin.top),
            slice(self.left - origin.left, self.right - origin.left),
        )


def latent_box(width: int, height: int) -> Box:
    """Return the grid of latents of an image, sizes in pixels."""
    return Box(0, 0, height, width).outward(PATCH)


def segments(area: Box, latents: Box) -> Iterator[tuple[int, Box]]:
    """Yield the segments that a part of an image touches, by ascending number.

    Args:
        area: the part, in latents.
        latents: the whole image, as `latent_box` returns it.

    Yields:
        The segment's number in the file, and all of its latents.
    """
    across = -(-latents.right // SEGMENT)
    part = area.within(latents).outward(SEGMENT)
    for row in range(part.top, part.bottom):
        for column in range(part.left, part.right):
            cell = Box(row, column, row + 1, column + 1)
            yield row * across + column, cell.scaled(SEGMENT).within(latents)


def tiles(area: Box, side: int = TILE_SIDE) -> list[Box]:
    """Return the tiles that cover a part of an image, in latents, in raster order.

    Args:
        area: the part.
        side: latents of a whole tile, rows and columns: a multiple of a segment's.

    What fits into a tile is one, wherever it lies. Otherwise tiles begin where segments do; a
    narrow strip at the end joins its neighbour. A margin counts, so that long strips, which are
    mostly halo, are cut too.
    """
    if area.grown(_MARGIN).area <= Box(0, 0, side, side).grown(_MARGIN).area:
        return [area]
    return list(_cut(area, side))


def _cut(area: Box, side: int) -> Iterator[Box]:
    """Yield what the cells of a grid, which begins at zero, share with an area."""
    for top, bottom in _steps(area.top, area.bottom, side):
        for left, right in _steps(area.left, area.right, side):
            yield Box(top, left, bottom, right)


def _steps(start: int, end: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a range between multiples of a step; a narrow last one is no part."""
    while start < end:
        stop = (start // step + 1) * step
        stop = end if end - stop <= _NARROW else stop
        yield start, stop
        start = stop
