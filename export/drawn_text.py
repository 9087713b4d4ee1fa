"""Text of drawn pictures: paragraphs and labels in the fonts of this machine."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from export.drawn_cell import FINER, Cell, Colour
from export.fonts import ALPHABETS, alphabets, find_fonts, load_font, random_text

NEW_LINES = 6
"""Lines of a paragraph that are typeset; those after them repeat one of these, shifted."""


Typeface = tuple[str, str]
"""Path of a font, and letters that it has."""


def typeface(rng: np.random.Generator) -> Typeface:
    """Choose a font of this machine, and an alphabet of it."""
    paths = ("", *find_fonts())
    path = paths[rng.integers(len(paths))]
    known = alphabets(path)
    if not known:
        path, known = "", ALPHABETS[:1]
    return path, known[0] if rng.random() < 0.4 else known[rng.integers(len(known))]


def paragraph(cell: Cell) -> None:
    """Set lines of text, sometimes turned, with letters of whole pixels or of sub-pixels."""
    width, height = cell.image.size
    upright = not cell.chance(0.12)
    scale = FINER if upright and cell.chance(0.2) else 1
    size = cell.text_size(height)
    pitch, margin = round(size * cell.rng.uniform(1.15, 1.7)), cell.whole(0, size)
    mask = _typeset(cell, size * scale, pitch * scale, margin * scale, scale)
    if not upright:
        mask = mask.rotate(cell.rng.uniform(-90, 90), Image.Resampling.BICUBIC)
    colours = Image.new("RGB", cell.image.size, cell.inks[0] if cell.chance(0.7) else cell.ink())
    if cell.chance(0.3):  # words in other colours
        for _ in range(cell.whole(2, 8)):
            left, top = cell.whole(0, width), margin + cell.whole(0, height // pitch) * pitch
            right = left + cell.whole(size, 8 * size)
            colours.paste(cell.ink(), (left, top, right, top + pitch))
    if scale == 1:
        cell.image.paste(colours, (0, 0), mask)
    else:
        _paste_subpixels(cell.image, colours, mask)


def _typeset(cell: Cell, size: int, pitch: int, margin: int, scale: int) -> Image.Image:
    """Return a mask of lines, `scale` times the size of the cell as all lengths are."""
    path, letters = typeface(cell.rng)
    font = load_font(path, size)
    width, height = (side * scale for side in cell.image.size)
    mask = Image.new("L", (width, height))
    pen = ImageDraw.Draw(mask)
    pen.fontmode = "1" if scale == 1 and cell.chance(0.1) else "L"
    longest = max(2, round(width / size * cell.rng.uniform(1, 2.2)))
    for row, top in enumerate(range(margin, height, pitch)):
        if row < NEW_LINES:
            text = random_text(cell.rng, letters, cell.whole(longest // 2, longest))
            pen.text((margin, top), text, 255, font)
        else:
            above = margin + cell.whole(0, NEW_LINES - 1) * pitch
            line = mask.crop((0, above, width, above + pitch))
            mask.paste(line, (-cell.whole(0, 1) * cell.whole(0, width // 2), top))
    return mask


def _paste_subpixels(image: Image.Image, colours: Image.Image, mask: Image.Image) -> None:
    """Paste with a mask of three times the size, a third of a pixel apart for R, G and B."""
    fine = np.pad(np.asarray(mask.reduce((1, FINER)), np.float32), ((0, 0), (1, 1)))
    soft = (fine[:, :-2] + fine[:, 1:-1] + fine[:, 2:]) / (3 * 255)
    cover = soft.reshape(image.height, image.width, 3)
    below = np.asarray(image, np.float32)
    mixed = below + (np.asarray(colours, np.float32) - below) * cover
    image.paste(Image.fromarray(np.rint(mixed).astype(np.uint8)))


def label(
    cell: Cell, face: Typeface, at: tuple[int, int], size: int, length: int, ink: Colour
) -> None:
    """Write `length` letters, from their upper left corner on."""
    path, letters = face
    text = random_text(cell.rng, letters, max(length, 1))
    ImageDraw.Draw(cell.image).text(at, text, ink, load_font(path, size))
