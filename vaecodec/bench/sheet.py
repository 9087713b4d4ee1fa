"""Crops of images, side by side in one picture, for papers and pages."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vaecodec.bench.views import CROP_HEIGHT, CROP_WIDTH, ORIGINAL, Version, View

SHEET_SUFFIXES = (".png", ".webp", ".jpg")
_GAP, _LABEL = 8, 40
_QUALITY = 92
"""Of the picture itself, where its format loses something."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One crop of a picture, and what stands above it.

    Attributes:
        title: The first line.
        figures: The second.
        crop: ``(h, w, 3)`` uint8, at most `CROP_HEIGHT` by `CROP_WIDTH`.
    """

    title: str
    figures: str
    crop: NDArray[np.uint8]


def sheet(views: Sequence[View], suffix: str) -> bytes:
    """Return a picture with a row for each image, and in it a crop for each codec.

    Args:
        views: What to show; at least one.
        suffix: One of `SHEET_SUFFIXES`.

    Raises:
        ValueError: If there is nothing to show, or the suffix is another.
    """
    return picture([[_panel(version) for version in view.versions] for view in views], suffix)


def _panel(version: Version) -> Panel:
    figures = f"{version.file_bytes:,} bytes, {version.bpp:.3f} bpp"
    if version.codec != ORIGINAL:  # whose samples are no file
        figures += f", {version.psnr_db:.2f} dB"
    return Panel(version.title, figures, version.crop)


def picture(rows: Sequence[Sequence[Panel]], suffix: str) -> bytes:
    """Return a picture of rows of panels; see `sheet`."""
    if not rows or suffix not in SHEET_SUFFIXES:
        raise ValueError(f"nothing to show as {suffix}: {len(rows)} images")
    columns = max(map(len, rows))
    step_x, step_y = CROP_WIDTH + _GAP, CROP_HEIGHT + _LABEL
    canvas = Image.new("RGB", (columns * step_x - _GAP, len(rows) * step_y), "white")
    draw = ImageDraw.Draw(canvas)
    large, small = ImageFont.load_default(15), ImageFont.load_default(13)
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            left, top = column * step_x, row * step_y
            draw.text((left, top + 2), panel.title, "black", large)
            draw.text((left, top + 20), panel.figures, "#444444", small)
            canvas.paste(Image.fromarray(panel.crop), (left, top + _LABEL))
    file = io.BytesIO()
    canvas.save(file, Image.registered_extensions()[suffix], quality=_QUALITY)
    return file.getvalue()
