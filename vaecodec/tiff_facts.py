"""What the first directory of a TIFF file says of its samples, and which of them are read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from PIL import Image, TiffImagePlugin

from vaecodec.errors import ImageError

BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of TIFF and BigTIFF files."""
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 258, 259, 262, 277
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _COLOUR_MAP, _PROFILE = 338, 339, 320, 34675
_SUBFILE, _REDUCED, _DNG_VERSION = 254, 1, 50706
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_COLOURS = {_RGB: 3, _CMYK: 4, 6: 3, 8: 3, 9: 3, 10: 3}
"""Samples of a pixel that are no extra ones, by photometric interpretation; others have one."""
_KINDS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex floating-point"}
_ALPHA = (1, 2)  # associated and not
_DEEP_BITS = range(9, 17)
_WEBP, _DEFLATE = 50001, (8, 32946)
_PLACES = ((273, 324), (279, 325))
"""StripOffsets and TileOffsets, StripByteCounts and TileByteCounts."""
_BLOCK_BYTES = 2**20
_COMPRESSIONS = {_WEBP: "WebP", 34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000"} | {
    34892: "lossy JPEG (DNG)",
    52546: "JPEG XL",
    50002: "JPEG XL",
    34887: "LERC",
}


class BareTiff(TiffImagePlugin.TiffImageFile):
    """A TIFF file opened for what it says, even where Pillow knows no mode for its samples."""

    def _setup(self) -> None:
        try:
            super()._setup()
        except (SyntaxError, KeyError, IndexError):
            self._mode, self.tile = "L", []
            size = (int(self.tag_v2.get(256, 0)), int(self.tag_v2.get(257, 0)))
            self._size = size[::-1] if self.tag_v2.get(274) in (5, 6, 7, 8) else size
            if (profile := self.tag_v2.get(_PROFILE)) is not None:
                self.info["icc_profile"] = profile
            across, down = (self.tag_v2.get(tag) for tag in (282, 283))
            unit = {2: 1.0, 3: 2.54, None: 1.0}.get(self.tag_v2.get(296))
            if across and down and unit:
                self.info["dpi"] = (float(across) * unit, float(down) * unit)


def tags_of(image: Image.Image) -> Mapping[int, Any]:
    """Return the directory of a TIFF, of which values are read when they are asked for."""
    return cast("Mapping[int, Any]", getattr(image, "tag_v2", {}))


def bits_of(image: Image.Image) -> int:
    """Return the most bits that a sample of a TIFF has."""
    return max(tags_of(image).get(_BITS, (1,)), default=1)


def check_tiff(image: Image.Image) -> None:
    """Refuse a TIFF whose samples have no place here, or would be taken for others.

    Raises:
        ImageError: It is a camera's raw file, or has samples of another kind.
    """
    tags = tags_of(image)
    if _DNG_VERSION in tags or tags.get(_SUBFILE, 0) & _REDUCED:
        raise ImageError(
            "this is a camera's raw file, or the preview in one: develop it to TIFF or JPEG first"
        )
    bits = cast("tuple[int, ...]", tags.get(_BITS, (1,)))
    kinds = cast("tuple[int, ...]", tags.get(_SAMPLE_FORMAT, ()))
    for kind in kinds:
        if kind in _KINDS and not (kind == 2 and max(bits) > 8):
            raise ImageError(
                f"the image has {_KINDS[kind]} samples of {max(bits)} bits: "
                f"convert it to unsigned ones of {8 if kind == 2 else 16} bits first"
            )
    _check_extra(tags)
    compression = tags.get(_COMPRESSION, 1)
    is_unknown = compression not in TiffImagePlugin.COMPRESSION_INFO
    # Of WebP, libtiff would print that it was built without.
    if compression == _WEBP or (is_unknown and max(bits) <= 8):
        name = _COMPRESSIONS.get(compression, f"number {compression}")
        raise ImageError(f"TIFF compression {name} is not read: save it with LZW or deflate first")
    if isinstance(image, BareTiff) and not image.tile and not _is_for_tifffile(image):
        said = "/".join(str(value) for value in sorted(set(bits)))
        photometric = tags.get(_PHOTOMETRIC, "not given")
        raise ImageError(
            f"the image is a TIFF of {tags.get(_SAMPLES, 1)} samples of {said} bits, photometric "
            f"{photometric}, which is not read: convert it to RGB of 8 or 16 bits first"
        )


def check_deflated(image: Image.Image, data: bytes) -> None:
    """Refuse a TIFF whose deflated strips or tiles are damaged, of which Pillow says nothing.

    Raises:
        ImageError: One cannot be inflated to its end.
    """
    tags = tags_of(image)
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return
    starts, sizes = (_whole(tags.get(old) or tags.get(new)) for old, new in _PLACES)
    for start, size in zip(starts, sizes, strict=False):
        inflater, rest = zlib.decompressobj(), data[start : start + size]
        try:
            while rest and not inflater.eof:
                inflater.decompress(rest, _BLOCK_BYTES)
                rest = inflater.unconsumed_tail
        except zlib.error as error:
            raise ImageError("the image cannot be read: its deflated data are damaged") from error
        if not inflater.eof:
            raise ImageError("the image cannot be read: its deflated data end too early")


def _whole(values: Any) -> tuple[int, ...]:
    """Return a tag's values, of which one alone may come as a number."""
    if isinstance(values, tuple):
        return cast("tuple[int, ...]", values)
    return () if values is None else (int(values),)


def needs_tifffile(image: Image.Image) -> bool:
    """Tell whether Pillow would cut a TIFF's samples to 8 bits, or cannot read them."""
    tags = tags_of(image)
    if isinstance(image, BareTiff) and not image.tile:
        return True
    grey = tags.get(_SAMPLES, 1) == 1
    return bits_of(image) > 8 and (not grey or tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def unscaled_bits(image: Image.Image) -> int:
    """Return the bits that fill Pillow's 16-bit grey samples of an image; 16 for most."""
    bits = bits_of(image) if image.format == "TIFF" else 16
    return bits if 8 < bits < 16 and image.mode.startswith("I;16") else 16


def mended_palette(image: Image.Image) -> Image.Image:
    """Return a palette image of a TIFF in its colours.

    A colour map holds 16-bit values. Those of some writers hold 8-bit ones, which Pillow would make
    black; if none is above 255, they are such (libtiff goes by the same rule).
    """
    if image.format != "TIFF" or image.mode not in ("P", "PA"):
        return image
    colours = cast("tuple[int, ...]", tags_of(image).get(_COLOUR_MAP, ()))
    if not colours or len(colours) % 3 or max(colours) > 255:
        return image
    mended = image.copy()
    planes = np.asarray(colours, np.uint8).reshape(3, -1)
    mended.putpalette(planes.T.tobytes(), "RGB")
    return mended


def _is_for_tifffile(image: Image.Image) -> bool:
    """Tell whether tifffile may read a TIFF that Pillow has no mode for."""
    tags = tags_of(image)
    bits = cast("tuple[int, ...]", tags.get(_BITS, (1,)))
    usual = tags.get(_PHOTOMETRIC) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
    return usual and len(set(bits)) == 1 and bits[0] in _DEEP_BITS


def _check_extra(tags: Mapping[int, Any]) -> None:
    """Refuse a channel that is neither a colour nor alpha.

    Raises:
        ImageError: There is one.
    """
    colours = _COLOURS.get(tags.get(_PHOTOMETRIC, _BLACK_IS_ZERO), 1)
    extra = tags.get(_SAMPLES, 1) - colours
    if extra <= 0:
        return
    kinds = cast("tuple[int, ...]", tags.get(_EXTRA_SAMPLES, ()))
    if extra > 1:
        said = f"{colours + extra} channels, not {colours} and perhaps alpha"
        raise ImageError(f"the image has {said}: convert it to RGB first")
    if kinds and kinds[0] not in _ALPHA:
        said = f"an extra channel that its file does not call alpha (TIFF ExtraSamples {kinds[0]})"
        raise ImageError(f"the image has {said}: remove it first, or save it as alpha")
