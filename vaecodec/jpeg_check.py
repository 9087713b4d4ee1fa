"""Whether the compressed data of a JPEG are whole, which libjpeg keeps to itself.

It takes damage for a picture: what it misses it makes grey, or decodes out of step. Bytes that
stand behind a whole scan change nothing; where a scan is not whole, they become pixels. So a second
decoding, with such bytes, tells. Where imagecodecs is installed, its JPEG XL encoder goes through
the data first, which refuses any that are not coded as they should be.
"""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from vaecodec.jpeg_parts import END, JpegParts, segments_of

_FILLING = bytes((0x5A, 0xC3, 0x96, 0x2D, 0xB4, 0x69)) * 16
_PIXEL_MARKERS = frozenset((0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD))
"""SOF0 to SOF2, DHT, SOS, DQT, DRI: what a picture needs."""
_ROWS = 256


def is_whole(data: bytes, parts: JpegParts, image: Image.Image) -> bool:
    """Tell whether every scan of a JPEG holds all of its data.

    Args:
        data: the file.
        parts: what its segments say.
        image: as Pillow has decoded it.
    """
    if not parts.scans:
        return True
    strict = _passes_strictly(data, parts)
    if strict is not None and parts.is_ended:
        return strict
    return bool(strict) or _is_unmoved(data, parts, image)


def _passes_strictly(data: bytes, parts: JpegParts) -> bool | None:
    """Tell whether JPEG XL's encoder takes a JPEG; None where that says nothing."""
    # It knows neither arithmetic coding nor CMYK, nor chroma of a third or a quarter.
    if parts.coding not in (0, 1, 2) or parts.components not in (1, 3) or parts.sampling > 2:
        return None
    try:
        codecs: Any = importlib.import_module("imagecodecs")
        encode = codecs.jpegxl_encode_jpeg
        failure = codecs.JpegxlError
    except (ImportError, AttributeError):
        return None
    bare = [b"\xff\xd8"]
    for marker, start, end in segments_of(data):
        if marker in _PIXEL_MARKERS:
            bare.append(data[start - 4 : end])
    try:
        encode(b"".join((*bare, END)), numthreads=1)
    except failure:
        return False
    return True


def _is_unmoved(data: bytes, parts: JpegParts, image: Image.Image) -> bool:
    """Tell whether a JPEG's pixels stay where they are when bytes follow each of its scans."""
    pieces: list[bytes] = []
    kept = 0
    for end in parts.scans:
        pieces += (data[kept:end], _FILLING)
        kept = end
    rest = data[kept:] if parts.is_ended else END
    with JpegImagePlugin.JpegImageFile(io.BytesIO(b"".join((*pieces, rest)))) as filled:
        filled.load()
        if filled.size != image.size or filled.mode != image.mode:
            return False
        for top in range(0, image.height, _ROWS):
            box = (0, top, image.width, min(top + _ROWS, image.height))
            if not np.array_equal(np.asarray(image.crop(box)), np.asarray(filled.crop(box))):
                return False
    return True
