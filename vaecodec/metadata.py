"""What an image file says besides its pixels: colour profile, EXIF, XMP and resolution.

Each is kept in an ancillary chunk of its own, byte for byte as it came, but for the orientation
that EXIF and XMP may give: pixels are stored upright, so it is reset to 1.

    iccp   ICC profile         exif   EXIF, from its TIFF header on
    xmpp   XMP packet          dpis   horizontal and vertical resolution, two f64, pixels per inch
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from PIL import ExifTags, Image, PngImagePlugin

from vaecodec.container import Chunk
from vaecodec.errors import CorruptError

KINDS = ("exif", "icc", "xmp", "dpi")
"""What can be stripped, by name."""

_FOURCC = {"icc": b"iccp", "exif": b"exif", "xmp": b"xmpp"}
_DPI = b"dpis"
_RESOLUTION = struct.Struct("<2d")
_EXIF_PREFIX = b"Exif\x00\x00"
_ENTRY_BYTES = 12
_SHORT = 3
# Where there is no EXIF block, Pillow and others turn an image by this.
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[0-9]")
_SUBDIRECTORIES = frozenset({ExifTags.Base.ExifOffset, ExifTags.Base.GPSInfo})
# What a TIFF file's own directory says about its pixels would be wrong in any other file.
_DESCRIPTIVE = _SUBDIRECTORIES | frozenset(
    {
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.Copyright,
    }
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is kept of a file besides its pixels; empty where there is none.

    Attributes:
        icc: ICC profile.
        exif: EXIF block, from its TIFF header on.
        xmp: XMP packet, UTF-8.
        dpi: Pixels per inch, horizontally and vertically; both are finite and positive.

    Raises:
        ValueError: If the resolution is not.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.dpi is not None and not all(0 < value < math.inf for value in self.dpi):
            raise ValueError(f"a resolution of {self.dpi} pixels per inch is none")

    def upright(self) -> Metadata:
        """Return the same of an image whose pixels have been turned upright."""
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", self.xmp)
        return replace(self, exif=upright_exif(self.exif), xmp=xmp)

    def without(self, kinds: Collection[str]) -> Metadata:
        """Return the rest, some of `KINDS` left out."""
        return Metadata(
            b"" if "icc" in kinds else self.icc,
            b"" if "exif" in kinds else self.exif,
            b"" if "xmp" in kinds else self.xmp,
            None if "dpi" in kinds else self.dpi,
        )


def read_metadata(image: Image.Image) -> Metadata:
    """Return what Pillow found in an image's file, or what `attach` put there."""
    info = cast("dict[str, Any]", image.info)
    xmp = info.get("xmp", b"")
    xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else _bytes(xmp)
    return Metadata(
        icc=_bytes(info.get("icc_profile")),
        exif=_exif_of(image),
        xmp=xmp,
        dpi=_resolution_of(info.get("dpi")),
    )


def attach(image: Image.Image, metadata: Metadata) -> None:
    """Put metadata where Pillow's readers put it: into `image.info`."""
    found: dict[str, Any] = {
        "icc_profile": metadata.icc,
        "exif": _EXIF_PREFIX + metadata.exif if metadata.exif else b"",
        "xmp": metadata.xmp,
        "dpi": metadata.dpi,
    }
    image.info.update({key: value for key, value in found.items() if value})


def save_options(image: Image.Image, format: str) -> dict[str, Any]:
    """Return the arguments of `Image.save` that write an image's metadata in a format."""
    metadata = read_metadata(image)
    options: dict[str, Any] = {}
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    if format == "TIFF":  # whose own directory holds all of it
        options["exif"] = _tiff_directory(metadata)
        return options
    if metadata.exif:
        options["exif"] = _EXIF_PREFIX + metadata.exif
    if metadata.xmp and format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
        options["pnginfo"] = text
    elif metadata.xmp:
        options["xmp"] = metadata.xmp
    return options


def to_chunks(metadata: Metadata) -> tuple[Chunk, ...]:
    """Return the chunks that hold metadata."""
    parts = {"icc": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    chunks = [Chunk(_FOURCC[name], part) for name, part in parts.items() if part]
    if metadata.dpi is not None:
        chunks.append(Chunk(_DPI, _RESOLUTION.pack(*metadata.dpi)))
    return tuple(chunks)


def from_chunks(chunks: Iterable[Chunk]) -> Metadata:
    """Return the metadata in a file's ancillary chunks; the first of a name counts.

    Raises:
        CorruptError: If the resolution is not of two positive numbers.
    """
    first: dict[bytes, bytes] = {}
    for chunk in chunks:
        first.setdefault(chunk.fourcc, chunk.payload)
    icc, exif, xmp = (first.get(_FOURCC[name], b"") for name in ("icc", "exif", "xmp"))
    try:
        dpi = _RESOLUTION.unpack(first[_DPI]) if _DPI in first else None
        return Metadata(icc, exif, xmp, dpi)
    except (struct.error, ValueError) as error:
        raise CorruptError(f"the resolution cannot be read: {error}") from error


def upright_exif(exif: bytes) -> bytes:
    """Return an EXIF block with its orientation, if it has one, set to 1.

    Nothing else in it moves, as makers' notes hold offsets from its beginning. A block whose first
    directory cannot be read is dropped: it may turn an upright image.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None:
        return b""
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        patched = bytearray(exif)
        for entry in range(directory + 2, directory + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
            (tag,) = struct.unpack_from(f"{order}H", exif, entry)
            if tag == ExifTags.Base.Orientation:
                struct.pack_into(f"{order}HHIHH", patched, entry, tag, _SHORT, 1, 1, 0)
    except struct.error:
        return b""
    return bytes(patched)


def _tiff_directory(metadata: Metadata) -> Image.Exif:
    directory = Image.Exif()
    if metadata.exif:
        directory.load(_EXIF_PREFIX + metadata.exif)
    if metadata.xmp:
        directory[ExifTags.Base.XMLPacket] = metadata.xmp
    return directory


def _exif_of(image: Image.Image) -> bytes:
    """Return the EXIF block as it is in the file, or as Pillow puts it together."""
    raw = _bytes(image.info.get("exif")).removeprefix(_EXIF_PREFIX)
    if raw:
        return raw
    try:
        found = image.getexif()
        kept = Image.Exif()
        for tag in _DESCRIPTIVE & set(found):
            kept[tag] = found.get_ifd(tag) if tag in _SUBDIRECTORIES else found[tag]
        return kept.tobytes().removeprefix(_EXIF_PREFIX) if len(kept) else b""
    except Exception:  # Pillow's parser raises whatever damage runs it into
        return b""


def _resolution_of(dpi: object) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in cast("tuple[Any, Any]", dpi))
        return Metadata(dpi=(across, down)).dpi
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""
