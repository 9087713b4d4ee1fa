"""What a file holds that Pillow does not say: more bits per sample than it gives, and previews."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from PIL import Image

from vaecodec.errors import ImageError

_BITS, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 258, 262, 277, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2
_SUBFILE, _REDUCED = 254, 1
_DNG_VERSION = 50706
# ISO/IEC 15444-1: markers SOC and SIZ; the first component's depth follows 38 bytes of sizes.
_SIZ, _SIZ_DEPTH = b"\xff\x4f\xff\x51", 42
# AV1 codec ISO media file format binding, section 2.3: flags in the third byte.
_AV1C, _HIGH_BITDEPTH, _TWELVE_BIT = b"av1C", 0x40, 0x20
_SRGB_GAMMA = 1 / 2.2
_SRGB_CODES = (1, 13)
"""What cICP (ITU-T H.273) calls sRGB's primaries and transfer function."""


def stored_bits(image: Image.Image, data: bytes) -> int:
    """Return the bits per sample of an image's file; 8 where it has no more, or none are known.

    Args:
        image: The image, as Pillow has opened it, not yet decoded.
        data: Its file.
    """
    if image.format == "TIFF":
        return max(_tags(image).get(_BITS, (8,)), default=8)
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
    return 16 if any(";16" in str(argument) for argument in arguments) else 8


def check_tiff(image: Image.Image) -> None:
    """Refuse a TIFF whose samples Pillow would take for others, or that is no finished image.

    Raises:
        ImageError: It is a camera's raw file, or has signed samples of 8 bits.
    """
    tags = _tags(image)
    if _DNG_VERSION in tags or tags.get(_SUBFILE, 0) & _REDUCED:
        raise ImageError(
            "this is a camera's raw file, or the preview in one: develop it to TIFF or JPEG first"
        )
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()) and max(tags.get(_BITS, (1,))) <= 8:
        raise ImageError("the image has signed samples of 8 bits: convert it to unsigned first")


def is_misread(image: Image.Image) -> bool:
    """Tell whether Pillow would cut an image of 16 bits per sample to 8, or read it wrongly."""
    if image.format == "TIFF":
        tags = _tags(image)
        grey = tags.get(_SAMPLES, 1) == 1
        return not grey or tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return not image.mode.startswith("I")


def colour_notices(image: Image.Image, data: bytes) -> tuple[str, ...]:
    """Return what a PNG says of its colours that a profile does not, and that is not kept."""
    if image.format != "PNG" or "icc_profile" in image.info:
        return ()
    pixels = data.find(b"IDAT")
    found = data.find(b"cICP", 0, pixels)
    if found >= 0 and tuple(data[found + 4 : found + 6]) != _SRGB_CODES:
        return ("its description of HDR or wide colours (cICP) is not kept",)
    gamma = image.info.get("gamma", _SRGB_GAMMA)
    if "srgb" not in image.info and abs(gamma - _SRGB_GAMMA) > 0.01:
        return (f"its gamma of {gamma:g} (gAMA) is not kept: its colours will look different",)
    return ()


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """Return the first directory of a TIFF, of which values are read when they are asked for."""
    return cast("Mapping[int, Any]", getattr(image, "tag_v2", {}))
