"""Pillow's modes, and which of those that the format has each one becomes."""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from vaecodec.errors import ImageError

PLAIN = frozenset({"L", "LA", "RGB", "RGBA"})
"""Modes of 8 bits that the format has itself."""
DEEP_GREY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
"""Grey of 16 bits, in any order of bytes."""
TO_SRGB = frozenset({"CMYK", "LAB"})
"""Modes whose colours are converted; a profile of theirs says nothing of the result."""
_BECOMES_ALPHA = frozenset({"1", "L", "P", "RGB"}) | DEEP_GREY
_CONVERTED = {
    "1": ("L", "black and white is stored as grey"),
    "P": ("RGB", "its palette is stored as RGB"),
    "PA": ("RGBA", "its palette is stored as RGB with alpha"),
    "La": ("LA", ""),
    "RGBa": ("RGBA", ""),
    "RGBX": ("RGB", ""),
    "YCbCr": ("RGB", ""),
    "HSV": ("RGB", "its HSV colours were converted to RGB"),
}


def to_plain(image: Image.Image) -> tuple[Image.Image | NDArray[np.uint16], str]:
    """Return the image in a mode that the format has, and what there is to say about it.

    Pillow has no mode for 16-bit grey with alpha, which is an array.
    """
    mode = image.mode
    if mode in _BECOMES_ALPHA and image.has_transparency_data:
        # In a palette, or as one colour that is transparent.
        notice = "its transparency is stored as an alpha channel"
        if mode in DEEP_GREY:
            return _to_deep_alpha(image), notice
        return image.convert("LA" if mode in ("1", "L") else "RGBA"), notice
    if mode in PLAIN or mode in DEEP_GREY:
        return image, ""
    if mode in _CONVERTED:
        target, notice = _CONVERTED[mode]
        return image.convert(target), notice
    if mode in TO_SRGB:
        return _to_srgb(image), f"its {mode} colours were converted to sRGB"
    if mode == "I":
        return _to_deep_grey(image), ""
    if mode == "F":
        raise ImageError("the image has floating-point samples: convert it to 16 bits first")
    raise ImageError(f"the image has Pillow's mode {mode}: convert it to RGB first")


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert CMYK through its profile, or by Pillow's formula where it has none, and Lab."""
    cms = cast("Any", ImageCms)  # whose types are incomplete
    profile = image.info.get("icc_profile")
    try:
        if image.mode == "LAB":
            source = cms.createProfile("LAB")
        elif profile:
            source = cms.ImageCmsProfile(io.BytesIO(profile))
        else:
            return image.convert("RGB")
        return cms.profileToProfile(image, source, cms.createProfile("sRGB"), outputMode="RGB")
    except (cms.PyCMSError, OSError):  # the profile is damaged, or one of other colours
        return image.convert("RGB")


def _to_deep_grey(image: Image.Image) -> Image.Image:
    """Convert 32-bit samples, as Pillow reads some 16-bit files."""
    low, high = cast("tuple[int, int]", image.getextrema())
    if low < 0 or high > 65_535:
        raise ImageError(
            "the image has samples below 0 or above 65,535: convert it to 16 bits first"
        )
    return Image.fromarray(np.asarray(image).astype(np.uint16))


def _to_deep_alpha(image: Image.Image) -> NDArray[np.uint16]:
    """Return 16-bit grey, one shade of which is transparent, as ``(h, w, 2)``."""
    grey = np.asarray(image).astype(np.uint16)
    shade = cast("dict[str, Any]", image.info)["transparency"]
    return np.dstack((grey, np.where(grey == shade, 0, 65_535).astype(np.uint16)))
