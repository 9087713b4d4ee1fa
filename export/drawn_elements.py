"""Elements of drawn pictures: user interfaces, tables, charts, shapes, patterns, gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from export.drawn_cell import FINER, Cell, Colour, log_uniform
from export.drawn_text import label, paragraph, typeface

LABELS = 8
"""Labels of a user interface, at most: letters are what takes most of the time."""
PERIODS = (2.0, 40.0)
"""Range of the periods of patterns, in pixels."""


def _window(cell: Cell) -> None:
    """Draw a user interface: a title, and rows of buttons, fields, check boxes and bars."""
    width, height = cell.image.size
    pen = ImageDraw.Draw(cell.image)
    size, face = cell.text_size(18), typeface(cell.rng)
    row = round(size * cell.rng.uniform(1.6, 2.4))
    panel, edge = cell.ground if cell.chance(0.6) else cell.ink(), cell.ink()
    pen.rectangle((0, 0, width - 1, height - 1), panel, edge if cell.chance(0.7) else None)
    top = cell.whole(2, 8)
    if cell.chance(0.5):
        pen.rectangle((1, 1, width - 2, row), cell.ink())
        label(cell, face, (size // 2, 3), size, width // size, cell.ground)
        top += row
    labels = LABELS
    while top + row < height:
        left = cell.whole(2, size)
        while left < width - 2 * size:
            right = min(left + cell.whole(2 * size, 12 * size), width - 3)
            fill = cell.ink() if cell.chance(0.4) else None
            if _widget(cell, pen, (left, top, right, top + row - 4), fill, edge) and labels:
                labels -= 1
                length = round((right - left) / size * 1.4)
                label(
                    cell, face, (left + 4, top + 1), size, length, panel if fill else cell.inks[0]
                )
            left = right + cell.whole(3, 2 * size)
        top += row + cell.whole(0, 6)


def _widget(
    cell: Cell,
    pen: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    fill: Colour | None,
    edge: Colour,
) -> bool:
    """Draw a part of a user interface; return whether it is to have a label."""
    left, top, right, bottom = box
    kind = cell.rng.random()
    if kind < 0.3:
        pen.rounded_rectangle(box, cell.whole(0, (bottom - top) // 2), fill, edge)
    elif kind < 0.5:
        pen.rectangle(box, fill, edge)
    elif kind < 0.6:
        pen.line((left, (top + bottom) // 2, right, (top + bottom) // 2), edge)
    elif kind < 0.7:
        pen.ellipse((left, top, left + bottom - top, bottom), fill, edge)
    return kind < 0.5 or (kind > 0.7 and fill is None)


def _table(cell: Cell) -> None:
    rng, (width, height) = cell.rng, cell.image.size
    pen = ImageDraw.Draw(cell.image)
    size, face = cell.text_size(20), typeface(rng)
    row, column = round(size * rng.uniform(1.2, 2)), round(size * rng.uniform(2, 8))
    line = cell.ink()
    shade = cell.ink() if cell.chance(0.3) else None
    for index, top in enumerate(range(cell.whole(0, row), height, row)):
        if shade and index % 2:
            pen.rectangle((0, top, width, top + row), shade)
        pen.line((0, top, width, top), line)
        for left in range(0, width, column):
            if index * (width // column + 1) < 2 * LABELS:
                label(cell, face, (left + 3, top + 1), size, int(column / size), cell.inks[0])
    if cell.chance(0.7):
        for left in range(0, width, column):
            pen.line((left, 0, left, height), line)


def _pattern(cell: Cell) -> None:
    """Fill with stripes, checkers, a grid or dots, of hard, smoothed or sinusoidal edges."""
    rng, (width, height) = cell.rng, cell.image.size
    turn = rng.uniform(0, math.pi) if cell.chance(0.5) else cell.whole(0, 1) * math.pi / 2
    periods = [log_uniform(rng, *PERIODS) for _ in range(2)]
    if cell.chance(0.6):
        periods = [max(2, round(periods[0]))] * 2
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    u, v = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    first, second = (
        np.cos((along * (2 * math.pi / period) + rng.uniform(0, 6)).astype(np.float32))
        for along, period in zip((u, v), periods, strict=True)
    )
    waves = (first - rng.uniform(-0.8, 0.8), first * second)
    waves += (np.maximum(first, second) - 0.9, first + second - 1)
    wave = waves[cell.whole(0, 3)]
    edge = rng.random()
    if edge < 0.4:
        cover = wave > 0
    elif edge < 0.8:
        cover = np.clip(0.5 + wave * np.float32(min(periods) / (2 * math.pi)), 0, 1)
    else:
        cover = np.clip(0.5 + wave / 2, 0, 1)
    _mix(cell, cover.astype(np.float32))


def gradient(cell: Cell) -> None:
    """Fill with a linear or a radial gradient."""
    rng, (width, height) = cell.rng, cell.image.size
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    if cell.chance(0.65):
        turn = rng.uniform(0, 2 * math.pi) if cell.chance(0.6) else cell.whole(0, 3) * math.pi / 2
        along = x * math.cos(turn) + y * math.sin(turn)
        along = along - along.min()
    else:
        along = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height))
    length = float(along.max()) * rng.uniform(0.4, 1.2) + 1e-6
    _mix(cell, np.clip(along / length, 0, 1).astype(np.float32))


def _mix(cell: Cell, cover: NDArray[np.float32]) -> None:
    """Fill with two colours, `cover` ``(h, w)`` in [0, 1] of the second."""
    low = np.array(cell.ink() if cell.chance(0.5) else cell.ground, np.float32)
    high = np.array(cell.ink(), np.float32)
    mixed = low + (high - low) * cover[..., None]
    cell.image.paste(Image.fromarray(np.rint(mixed).astype(np.uint8)))


def _shapes(cell: Cell) -> None:
    """Draw ellipses, polygons, lines and arcs, with smooth edges or without."""
    scale = FINER if cell.chance(0.7) else 1
    _on_finer_grid(cell, scale, lambda pen: _draw_shapes(cell, pen, scale))


def _draw_shapes(cell: Cell, pen: ImageDraw.ImageDraw, scale: int) -> None:
    rng = cell.rng
    sides = np.array(cell.image.size) * scale
    for _ in range(cell.whole(1, 7)):
        fill = cell.ink() if cell.chance(0.6) else None
        line, thick = cell.ink(), cell.whole(1, 4 if cell.chance(0.3) else 2) * scale
        centre, radii = rng.uniform(0, 1, 2) * sides, rng.uniform(0.05, 0.5, 2) * min(sides)
        box = [*(centre - radii), *(centre + radii)]
        kind = rng.random()
        if kind < 0.25:
            pen.ellipse(box, fill, line, thick)
        elif kind < 0.35:
            pen.arc(box, rng.uniform(0, 360), rng.uniform(0, 360), line, thick)
        elif kind < 0.65:
            turns = np.sort(rng.uniform(0, 2 * math.pi, cell.whole(3, 7)))
            corners = centre + radii * np.stack([np.cos(turns), np.sin(turns)], 1)
            pen.polygon([*map(tuple, corners)], fill, line, thick if cell.chance(0.5) else scale)
        else:
            points = rng.uniform(0, 1, (cell.whole(2, 5), 2)) * sides
            pen.line([*map(tuple, points)], line, thick, "curve" if cell.chance(0.3) else None)


def _chart(cell: Cell) -> None:
    """Draw curves, bars or points over grid lines, with figures at the axis."""
    width, height = cell.image.size
    pen = ImageDraw.Draw(cell.image)
    step = cell.whole(12, 48)
    if cell.chance(0.7):
        for at in range(cell.whole(0, step), max(width, height), step):
            pen.line((at, 0, at, height), cell.inks[-1])
            pen.line((0, at, width, at), cell.inks[-1])
    scale = FINER if cell.chance(0.8) else 1
    _on_finer_grid(cell, scale, lambda pen: _draw_series(cell, pen, scale))
    size, face = cell.text_size(14), typeface(cell.rng)
    for index in range(min(4, height // step)):
        label(cell, face, (2, index * step), size, 4, cell.inks[0])


def _draw_series(cell: Cell, pen: ImageDraw.ImageDraw, scale: int) -> None:
    width, height = (side * scale for side in cell.image.size)
    for _ in range(cell.whole(1, 4)):
        count, ink, thick = cell.whole(4, 40), cell.ink(), cell.whole(1, 3) * scale
        walk = np.cumsum(cell.rng.normal(size=count)) / math.sqrt(count)
        x = np.linspace(0, width, count).tolist()
        y = ((cell.rng.uniform(0.2, 0.8) + 0.3 * walk) * height).tolist()
        kind = cell.rng.random()
        if kind < 0.65:
            pen.line([*zip(x, y, strict=True)], ink, thick)
            continue
        for left, top in zip(x, y, strict=True):
            if kind < 0.85:
                pen.rectangle((left, min(top, height), left + 2 * thick, height), ink)
            else:
                pen.ellipse((left, top, left + 2 * thick, top + 2 * thick), ink)


def _on_finer_grid(cell: Cell, scale: int, stroke: Callable[[ImageDraw.ImageDraw], None]) -> None:
    if scale == 1:
        stroke(ImageDraw.Draw(cell.image))
        return
    width, height = cell.image.size
    fine = cell.image.resize((width * scale, height * scale), Image.Resampling.NEAREST)
    stroke(ImageDraw.Draw(fine))
    cell.image = fine.reduce(scale)


def _flat(cell: Cell) -> None:
    cell.image.paste(cell.ink(), (0, 0, *cell.image.size))


def _inset(cell: Cell) -> None:
    """Show the photograph, or a part of it; a gradient, if there is none."""
    if cell.photograph is None:
        gradient(cell)
    elif cell.chance(0.5):
        cell.image.paste(cell.photograph)
    else:
        cell.image.paste(cell.photograph.resize(cell.image.size, Image.Resampling.BICUBIC))


ELEMENTS: dict[Callable[[Cell], None], float] = {
    paragraph: 6,
    _window: 2.5,
    _table: 1.5,
    _chart: 1.5,
    _shapes: 2,
    _pattern: 1.5,
    gradient: 1,
    _inset: 1,
    _flat: 0.5,
}
"""What is drawn in the boxes, and how often."""
OVER_PHOTOGRAPHS = (paragraph, _window, _shapes, _chart)
"""Elements that may be drawn over a photograph."""
