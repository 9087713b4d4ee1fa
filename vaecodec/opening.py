"""A file's bytes to an image of Pillow's, with all that the file says in its `info`.

Pillow leaves some parts of files unread, and some it reads within limits of the whole process.
These are read here, and put where Pillow's own readers would have put them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL import ImageFile

from vaecodec.colour_signs import CODES_KEY
from vaecodec.decoders import open_image
from vaecodec.errors import ImageError
from vaecodec.jpeg_check import is_whole
from vaecodec.jpeg_parts import BEGINNING, END, JpegParts, check_coding, read_parts, whole_xmp
from vaecodec.limits import Limits
from vaecodec.metadata import IPTC_RESOURCE, TEXTS_KEY
from vaecodec.png_chunks import SIGNATURE, take_extras
from vaecodec.tidying import GAIN_MAP_KEY

# Boxes and items of HEIF and AVIF that hold gain maps: ISO 21496-1's, and Apple's.
_GAIN_MAPS = (b"tmap\0", b"urn:com:apple:photo:2020:aux:hdrgainmap")
_BOXES = b"\0\0\0\x0cJXL "
_BOX = struct.Struct(">I4s")
_BROTLI = {b"Exif": "EXIF", b"xml ": "XMP"}
_NCLX = struct.Struct(">3HB")


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that has been opened.

    Attributes:
        image: its pixels are not decoded yet.
        data: what Pillow was given, which may lack parts of the file that have been read.
        notices: what is lost of it, a sentence each.
        jpeg: what its segments say, if it is a JPEG.
    """

    image: ImageFile.ImageFile
    data: bytes
    notices: tuple[str, ...] = ()
    jpeg: JpegParts | None = None

    def check_pixels(self) -> tuple[str, ...]:
        """Return what is wrong with the pixels, which have been decoded.

        Raises:
            ImageError: Some are missing.
        """
        if self.jpeg is None or is_whole(self.data, self.jpeg, self.image):
            return ()
        if not self.jpeg.is_ended:
            raise ImageError("the image cannot be read: its file is truncated")
        return ("its compressed data are damaged: a part of the picture may be wrong",)


def open_file(data: bytes, limits: Limits) -> Opened:
    """Open a file; see `open_image` for the errors."""
    if data.startswith(SIGNATURE):
        return _open_png(data, limits)
    if data.startswith(BEGINNING):
        return _open_jpeg(data, limits)
    image = open_image(data, limits)
    if image.format in ("AVIF", "HEIF"):
        place = data.find(b"colrnclx") + 8
        if 8 <= place <= len(data) - _NCLX.size:
            codes = _NCLX.unpack_from(data, place)
            image.info[CODES_KEY] = (*codes[:3], codes[3] >> 7)
        if any(sign in data for sign in _GAIN_MAPS):
            image.info[GAIN_MAP_KEY] = True
    notices: tuple[str, ...] = ()
    if image.format == "JXL" and data.startswith(_BOXES):
        notices = _take_boxes(image, data)
    return Opened(image, data, notices)


def _take_boxes(image: ImageFile.ImageFile, data: bytes) -> tuple[str, ...]:
    """Take the XMP of a JPEG XL, which its plugin leaves; return what is lost."""
    position = 0
    notices: tuple[str, ...] = ()
    while position + _BOX.size <= len(data):
        size, name = _BOX.unpack_from(data, position)
        head = _BOX.size
        if size == 1 and position + 16 <= len(data):
            size, head = int.from_bytes(data[position + 8 : position + 16]), 16
        end = position + size if size else len(data)
        if size and size < head:
            break
        payload = data[position + head : end] if name in (b"xml ", b"brob", b"jhgm") else b""
        if name == b"xml ":
            image.info.setdefault("xmp", payload)
        elif name == b"jhgm":
            image.info[GAIN_MAP_KEY] = True
        elif name == b"brob" and not image.info.get("xmp" if payload[:4] == b"xml " else "exif"):
            notices += (f"its {_BROTLI.get(payload[:4], 'metadata')} (Brotli) is not kept",)
        position = end
    return notices


def _open_png(data: bytes, limits: Limits) -> Opened:
    extras = take_extras(data)
    image = open_image(extras.rest, limits)
    found = {
        "icc_profile": extras.icc,
        "xmp": extras.xmp,
        "exif": extras.exif,
        "photoshop": {IPTC_RESOURCE: extras.iptc} if extras.iptc else {},
        CODES_KEY: extras.codes,
    }
    image.info |= {key: value for key, value in found.items() if value}
    image.info[TEXTS_KEY] = tuple(extras.texts)
    return Opened(image, extras.rest, tuple(extras.notices))


def _open_jpeg(data: bytes, limits: Limits) -> Opened:
    parts = read_parts(data)
    check_coding(parts)
    if parts.scans and not parts.is_ended:
        data = data[: parts.end] + END
    image = open_image(data, limits)
    notices: tuple[str, ...] = ()
    xmp, said = whole_xmp(image.info.get("xmp", b""), parts)
    if xmp:
        image.info["xmp"] = xmp
    if said:
        notices = (said,)
    if len(parts.comments) > 1:
        image.info["comment"] = b"\n".join(parts.comments)
    if parts.has_gain_map:
        image.info[GAIN_MAP_KEY] = True
    return Opened(image, data, notices, parts)
