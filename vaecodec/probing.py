"""What a file holds that Pillow does not say: more bits per sample than it gives."""

from __future__ import annotations

from typing import Any, cast

from PIL import Image

from vaecodec.tiff_facts import bits_of, needs_tifffile

# ISO/IEC 15444-1: markers SOC and SIZ; the first component's depth follows 38 bytes of sizes.
_SIZ, _SIZ_DEPTH = b"\xff\x4f\xff\x51", 42
# AV1 codec ISO media file format binding, section 2.3: flags in the third byte.
_AV1C, _HIGH_BITDEPTH, _TWELVE_BIT = b"av1C", 0x40, 0x20


def stored_bits(image: Image.Image, data: bytes) -> int:
    """Return the bits per sample of an image's file; 8 where it has no more, or none are known.

    Args:
        image: The image, as Pillow has opened it, not yet decoded.
        data: Its file.
    """
    if image.format == "TIFF":
        return bits_of(image)
    if image.format == "JPEG2000":
        depth = data.find(_SIZ) + _SIZ_DEPTH
        return (data[depth] & 0x7F) + 1 if _SIZ_DEPTH <= depth < len(data) else 8
    if image.format == "AVIF":
        flags = data.find(_AV1C) + len(_AV1C) + 2
        if not data[flags : flags + 1] or not data[flags] & _HIGH_BITDEPTH:
            return 8
        return 12 if data[flags] & _TWELVE_BIT else 10
    if image.format == "HEIF":
        return int(image.info.get("bit_depth", 8))
    arguments = [tile[3] for tile in getattr(image, "tile", ())]
    if image.format == "PPM":  # where an argument is the greatest sample
        found = [cast("tuple[Any, ...]", a)[-1] for a in arguments if isinstance(a, tuple)]
        return 16 if any(greatest > 255 for greatest in found) else 8
    # Of a BMP, that is 16 bits of a whole pixel, which become 8 of each sample.
    deep = (";16" in str(argument) and "BGR;16" not in str(argument) for argument in arguments)
    return 16 if any(deep) else 8


def is_misread(image: Image.Image) -> bool:
    """Tell whether Pillow would cut an image of 16 bits per sample to 8, or read it wrongly."""
    if image.format == "TIFF":
        return needs_tifffile(image)
    return not image.mode.startswith("I")
