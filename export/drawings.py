"""Pictures that are no photographs: where a model of photographs fails, measured and shown."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaecodec.codec import Codec
from vaecodec.metrics import bpp, psnr_db

SIZE = (768, 512)
SHOWN = 128
"""Side of the square that is shown of each picture, in pixels; enlarged twice."""
PARAGRAPH = (
    "A codec that learned from photographs expects soft edges, noise and light. Letters have none "
    "of these: every stroke is as sharp as the grid allows, and what surrounds it is one colour. "
)


@dataclass(frozen=True)
class Outcome:
    """One picture at one quality.

    Attributes:
        name: what is drawn.
        bpp: of the whole `.vaec` file.
        psnr_db: of the decoded picture.
        jpeg_bpp: of the smallest JPEG that is as faithful; None where no quality is.
        png_bpp: of the picture itself, lossless.
        shown: a detail, original and decoded side by side.
    """

    name: str
    bpp: float
    psnr_db: float
    jpeg_bpp: float | None
    png_bpp: float
    shown: Image.Image


def examine(codec: Codec, quality: float) -> list[Outcome]:
    """Draw every picture, and send it through the codec at one quality."""
    return [_examine(codec, quality, name, draw()) for name, draw in PICTURES.items()]


def sheet(outcomes: list[Outcome]) -> Image.Image:
    """Put the details under each other, in few colours, so that the file is small."""
    images = [outcome.shown for outcome in outcomes]
    page = Image.new("RGB", (images[0].width, sum(image.height for image in images)))
    top = 0
    for image in images:
        page.paste(image, (0, top))
        top += image.height
    return page.quantize(64)


def _examine(codec: Codec, quality: float, name: str, picture: Image.Image) -> Outcome:
    data = codec.encode(picture, quality=quality)
    decoded = codec.decode(data)
    fidelity = psnr_db(np.asarray(picture), np.asarray(decoded))
    jpegs = (
        _saved(picture, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
        for quality in range(1, 101)
        for subsampling in (0, 2)
    )
    as_faithful = [len(coded) for coded in jpegs if _fidelity(picture, coded) >= fidelity]
    jpeg = bpp(min(as_faithful), *SIZE) if as_faithful else None
    png = bpp(len(_saved(picture, "PNG", optimize=True)), *SIZE)
    left, top = (side // 2 - SHOWN // 2 for side in SIZE)
    pair = Image.new("RGB", (2 * SHOWN, SHOWN))
    for column, image in enumerate((picture, decoded)):
        pair.paste(image.crop((left, top, left + SHOWN, top + SHOWN)), (column * SHOWN, 0))
    shown = pair.resize((4 * SHOWN, 2 * SHOWN), Image.Resampling.NEAREST)
    return Outcome(name, bpp(len(data), *SIZE), fidelity, jpeg, png, shown)


def _fidelity(picture: Image.Image, coded: bytes) -> float:
    with Image.open(io.BytesIO(coded)) as image:
        return psnr_db(np.asarray(picture), np.asarray(image))


def _saved(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def _text() -> Image.Image:
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    words = (PARAGRAPH * 12).split()
    top = 16
    for line, size in enumerate((12, 14, 16, 20) * 9):
        font = ImageFont.load_default(size)
        text = " ".join(words[7 * line % len(words) :])
        draw.text((16, top), text, "black", font)
        top += size + 6
    return picture


def _line_art() -> Image.Image:
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    for turn in range(90):
        angle = 2 * math.pi * turn / 90
        end = (384 + 340 * math.cos(angle), 256 + 340 * math.sin(angle))
        draw.line((384, 256, *end), "black", 1)
    for radius in range(12, 300, 12):
        box = (384 - radius, 256 - radius, 384 + radius, 256 + radius)
        draw.ellipse(box, outline=("black", "crimson", "navy")[radius // 12 % 3])
    return picture


def _screenshot() -> Image.Image:
    picture = Image.new("RGB", SIZE, "#dfe3e8")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13)
    draw.rectangle((0, 0, 768, 30), "#2b3a55")
    draw.text((12, 7), "Untitled document", "white", font)
    draw.rectangle((0, 30, 170, 512), "#f5f6f8", "#b8bec8")
    for row in range(18):
        top = 42 + 26 * row
        if row == 8:
            draw.rectangle((1, top - 4, 169, top + 18), "#3b7ddd")
        draw.text((14, top), f"Item number {row + 1}", "white" if row == 8 else "#222222", font)
    for row in range(19):
        top = 44 + 24 * row
        draw.rectangle((186, top - 4, 752, top + 18), ("white", "#eef1f5")[row % 2], "#c9ced6")
        for column in range(4):
            draw.text(
                (196 + 140 * column, top),
                f"{(row + 3) * (column + 7) * 137 % 9973:,}",
                "#222222",
                font,
            )
    return picture


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "text": _text,
    "line art": _line_art,
    "screenshot": _screenshot,
}
