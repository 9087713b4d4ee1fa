"""Crops of images through several codecs, side by side in one picture, for papers and pages."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from vaecodec.bench.views import CROP_HEIGHT, CROP_WIDTH, View

SHEET_SUFFIXES = (".png", ".webp", ".jpg")
_GAP, _LABEL = 8, 40
_QUALITY = 92
"""Of the picture itself, where its format loses something."""


def sheet(views: Sequence[View], suffix: str) -> bytes:
    """Return a picture with a row for each image, and in it a crop for each codec.

    Args:
        views: What to show; at least one.
        suffix: One of `SHEET_SUFFIXES`.

    Raises:
        ValueError: If there is nothing to show, or the suffix is another.
    """
    if not views or suffix not in SHEET_SUFFIXES:
        raise ValueError(f"nothing to show as {suffix}: {len(views)} images")
    columns = max(len(view.versions) for view in views)
    step_x, step_y = CROP_WIDTH + _GAP, CROP_HEIGHT + _LABEL
    picture = Image.new("RGB", (columns * step_x - _GAP, len(views) * step_y), "white")
    draw = ImageDraw.Draw(picture)
    large, small = ImageFont.load_default(15), ImageFont.load_default(13)
    for row, view in enumerate(views):
        for column, version in enumerate(view.versions):
            left, top = column * step_x, row * step_y
            figures = f"{version.file_bytes:,} bytes, {version.bpp:.3f} bpp"
            if column:  # the first is the original, whose samples are no file
                figures += f", {version.psnr_db:.2f} dB"
            draw.text((left, top + 2), version.title, "black", large)
            draw.text((left, top + 20), figures, "#444444", small)
            picture.paste(Image.fromarray(version.crop), (left, top + _LABEL))
    file = io.BytesIO()
    picture.save(file, Image.registered_extensions()[suffix], quality=_QUALITY)
    return file.getvalue()
