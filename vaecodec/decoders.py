"""Which of Pillow's decoders open files, and how, without a setting of the whole process.

Pillow tries every plugin that it has, and some start programs: that of EPS runs Ghostscript, under
any file name. Here a format is opened if it is in `DECODERS`, and no other is, whoever asks.

`Image.open` holds a limit on pixels that belongs to the whole process. Files are opened by the
plugins' own classes instead, and held to the limits of the call.
"""

from __future__ import annotations

import contextlib
import io
import struct

from PIL import Image, ImageFile, UnidentifiedImageError

from vaecodec.errors import ImageError, LimitError
from vaecodec.limits import Limits
from vaecodec.plugins import load_for
from vaecodec.tiff_facts import BEGINNINGS, BareTiff

DECODERS = (
    *("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "HEIF", "JXL", "GIF", "BMP", "DIB", "PPM"),
    *("JPEG2000", "MPO", "PSD", "ICO", "ICNS", "DDS", "QOI", "PCX", "SGI", "SUN", "XBM", "XPM"),
    "TGA",  # which has no magic number, and so comes last
)
"""Formats that are opened, by Pillow's names. All of them decode in this process."""

_OWN_FORMAT = "VAEC"  # of `vaecodec.pillow_plugin`, whose images may be encoded again
_PREFIX_BYTES = 16
# What a plugin raises where a file is none of its own, as Pillow has it, and some do on damage.
_DECLINED = (SyntaxError, IndexError, KeyError, TypeError, struct.error)
_TEXT_BYTES = 1024
_REFUSED = (
    ((b"%!PS", b"\xc5\xd0\xd3\xc6"), "PostScript (EPS)", "export it as PNG or TIFF first"),
    ((b"%PDF",), "a PDF document", "export the picture as PNG or TIFF first"),
    ((b"SIMPLE  =",), "a FITS file", "scale its values to 16 bits and save them as TIFF first"),
    ((b"\xd7\xcd\xc6\x9a",), "a WMF drawing", "export it as PNG first"),
    ((b"GRIB", b"BUFR", b"\x89HDF"), "scientific data", "save a picture of it as TIFF first"),
)
"""Beginnings of files that are no damaged pictures, what they are, and what to do."""


def open_image(data: bytes, limits: Limits) -> ImageFile.ImageFile:
    """Open a file by one of `DECODERS`, pixels left for later.

    Args:
        data: The whole file.
        limits: Held against its size, before any pixel is decoded.

    Raises:
        ImageError: It is of another kind, or damaged.
        LimitError: It has too many pixels.
        RuntimeUnavailableError: It needs a plugin for Pillow that is not installed.
    """
    image = _opened(data, limits)
    if image is None and load_for(data):
        image = _opened(data, limits)
    if image is None and data.startswith(BEGINNINGS):
        with contextlib.suppress(*_DECLINED):
            image = BareTiff(io.BytesIO(data))
    if image is None:
        raise _unknown(data)
    limits.check_size(*image.size)
    return image


def check_decoder(image: Image.Image) -> None:
    """Refuse an image that Pillow has opened, but that `DECODERS` would not; it is not loaded.

    Raises:
        ImageError: It is of such a format.
    """
    if not isinstance(image, ImageFile.ImageFile):
        return
    name = str(image.format)
    if name not in (*DECODERS, _OWN_FORMAT):
        raise ImageError(
            f"{name} images are not decoded here, as theirs is not among the decoders that are "
            "allowed: convert it to PNG or TIFF first"
        )


def make_room(image: ImageFile.ImageFile, limits: Limits) -> None:
    """Set the memory of a TIFF's pixels aside, which Pillow would hold to its own limit.

    Raises:
        LimitError: There are too many.
    """
    size = getattr(image, "_tile_size", None)
    if image.format == "TIFF" and size and getattr(image, "_im", None) is None:
        limits.check_size(*size)
        image.im = Image.core.new(image.mode, size)


def limit_error(error: Image.DecompressionBombError, limits: Limits) -> LimitError:
    """Return our error for one of Pillow's, of a picture within a picture that claims too much."""
    digits = "".join(c if c.isdigit() else " " for c in str(error)).split()
    pixels = int(digits[0]) if digits else limits.max_pixels + 1
    return LimitError("image size in pixels", pixels, min(limits.max_pixels, pixels - 1))


def _opened(data: bytes, limits: Limits) -> ImageFile.ImageFile | None:
    """Return what the first plugin makes of a file that takes it; none where all decline."""
    prefix = data[:_PREFIX_BYTES]
    for initialise in (Image.preinit, Image.init):
        initialise()
        for name in DECODERS:
            if name not in Image.ID:
                continue
            factory, accepts = Image.OPEN[name]
            try:
                # A plugin that is left out of Pillow's build answers with a sentence.
                if accepts is not None and accepts(prefix) is not True:
                    continue
                if name == "WEBP":
                    _check_webp(data, limits)
                return factory(_Source(data), "")
            except _DECLINED:
                continue
    return None


class _Source(io.BytesIO):
    """A file that gives no more than 16 bytes when it is first read.

    Of a WebP's beginning Pillow reads 30 bytes, holds the size in them to its own limit, and then
    reads the rest, however much came before. `_check_webp` has looked at that size already.
    """

    _is_fresh = True

    def read(self, size: int | None = -1, /) -> bytes:
        if self._is_fresh and size == 30:
            self._is_fresh = False
            size = _PREFIX_BYTES
        return super().read(size)


def _check_webp(data: bytes, limits: Limits) -> None:
    """Hold the size of a WebP to the limits: its decoder sets memory aside when it is opened."""
    head = data[:30].ljust(30, b"\0")
    width = height = 1
    if head[12:16] == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    elif head[12:16] == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<2H", head, 26))
    elif head[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    limits.check_size(width, height)


def _unknown(data: bytes) -> ImageError | UnidentifiedImageError:
    """Return the error for a file that none of the decoders takes."""
    for beginnings, what, remedy in _REFUSED:
        if data.startswith(beginnings):
            return ImageError(f"this is {what}, which is not read: {remedy}")
    if b"<svg" in data[:_TEXT_BYTES]:
        return ImageError("this is an SVG drawing, which is not read: export it as PNG first")
    return UnidentifiedImageError("no decoder takes it")
