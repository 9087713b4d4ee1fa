"""What an image file says besides its pixels: colour profile, EXIF, XMP and resolution.

Each is kept in an ancillary chunk of its own, byte for byte as it came, but for the orientation
that EXIF and XMP may give: pixels are stored upright, so it is reset to 1.

    iccp   ICC profile         exif   EXIF, from its TIFF header on
    xmpp   XMP packet          dpis   horizontal and vertical resolution, two f64, pixels per inch
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from PIL import ExifTags, Image, PngImagePlugin

from vaecodec.container import Chunk

KINDS = ("exif", "icc", "xmp", "dpi")
"""What can be stripped, by name."""
ALL = "all"
"""Stands for all of them."""

DPI_MAX = 65_535
"""What a JPEG file can say."""

METADATA_CHUNKS = {
    b"iccp": "colour profile",
    b"exif": "EXIF",
    b"xmpp": "XMP",
    b"dpis": "resolution",
}
"""Chunks that hold metadata, and what to call what they hold."""

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
        dpi: Pixels per inch, horizontally and vertically; above 0, at most `DPI_MAX`.

    Raises:
        ValueError: If the resolution is not.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.dpi is not None and not all(0 < value <= DPI_MAX for value in self.dpi):
            raise ValueError(f"a resolution of {self.dpi} pixels per inch is none")

    def upright(self) -> Metadata:
        """Return the same of an image whose pixels have been turned upright."""
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", self.xmp)
        return replace(self, exif=upright_exif(self.exif), xmp=xmp)

    def without(self, kinds: Collection[str]) -> Metadata:
        """Return the rest, some of `KINDS` left out; see `kinds_of` for the error."""
        kinds = kinds_of(kinds)
        return Metadata(
            b"" if "icc" in kinds else self.icc,
            b"" if "exif" in kinds else self.exif,
            b"" if "xmp" in kinds else self.xmp,
            None if "dpi" in kinds else self.dpi,
        )


def kinds_of(names: Collection[str]) -> tuple[str, ...]:
    """Return which of `KINDS` are meant by names, or by a single one; `ALL` is a name, too.

    Raises:
        ValueError: one is none of them.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in (*KINDS, ALL):
            raise ValueError(f"{name} is none of {', '.join((*KINDS, ALL))}")
    return KINDS if ALL in names else names


def read_metadata(image: Image.Image) -> Metadata:
    """Return what Pillow found in an image's file, or what `attach` put there."""
    info = cast("dict[str, Any]", image.info)
    xmp = info.get("xmp", b"")
    xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else _bytes(xmp)
    return Metadata(
        icc=_bytes(info.get("icc_profile")),
        exif=_exif_of(image),
        xmp=xmp,
        dpi=_resolution(info.get("dpi")) if _has_resolution(image) else None,
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


def save_options(metadata: Metadata, format: str) -> dict[str, Any]:
    """Return the arguments of `Image.save` that write metadata in a format."""
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

    A resolution that is none is left out, as no pixel depends on it.
    """
    first: dict[bytes, bytes] = {}
    for chunk in chunks:
        first.setdefault(chunk.fourcc, chunk.payload)
    icc, exif, xmp = (first.get(_FOURCC[name], b"") for name in ("icc", "exif", "xmp"))
    packed = first.get(_DPI, b"")
    dpi = _RESOLUTION.unpack(packed) if len(packed) == _RESOLUTION.size else None
    return Metadata(icc, exif, xmp, _resolution(dpi))


def raw_exif(image: Image.Image) -> bytes:
    """Return the EXIF block of an image's file, from its TIFF header on; empty where it has none.

    TIFF files have none: their own directory holds it.
    """
    raw = _bytes(image.info.get("exif"))
    while raw.startswith(_EXIF_PREFIX):  # some writers put it twice
        raw = raw.removeprefix(_EXIF_PREFIX)
    return raw


def image_orientation(image: Image.Image) -> int:
    """Return the orientation that EXIF or XMP give; what cannot be read counts as upright.

    An EXIF block is read by what will reset it, so that both see the same.
    """
    found = exif_orientation(raw_exif(image))
    if found is not None:
        return found
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's parser raises whatever damage runs it into
        return 1
    return found if found in range(1, 9) else 1


def exif_orientation(exif: bytes) -> int | None:
    """Return the orientation that an EXIF block gives, 1 to 8; None where it gives none."""
    try:
        order, entries = _orientation_entries(exif)
        for entry in entries:
            kind, _, value = struct.unpack_from(f"{order}HIH", exif, entry + 2)
            if kind == _SHORT and 1 <= value <= 8:
                return value
    except struct.error:
        pass
    return None


def upright_exif(exif: bytes) -> bytes:
    """Return an EXIF block with its orientation, if it has one, set to 1.

    Nothing else in it moves, as makers' notes hold offsets from its beginning. A block whose first
    directory cannot be read is dropped: it may turn an upright image.
    """
    try:
        order, entries = _orientation_entries(exif)
    except struct.error:
        return b""
    patched = bytearray(exif)
    for entry in entries:
        upright = (ExifTags.Base.Orientation, _SHORT, 1, 1, 0)
        struct.pack_into(f"{order}HHIHH", patched, entry, *upright)
    return bytes(patched)


def _orientation_entries(exif: bytes) -> tuple[str, list[int]]:
    """Return the order of bytes, and where in the first directory orientations stand.

    Raises:
        struct.error: the block ends inside its first directory, or does not begin as one.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None:
        raise struct.error("no TIFF header")
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, directory)
    entries = [directory + 2 + _ENTRY_BYTES * index for index in range(count)]
    tags = [struct.unpack_from(f"{order}H10x", exif, entry)[0] for entry in entries]
    orientation = ExifTags.Base.Orientation
    return order, [e for e, tag in zip(entries, tags, strict=True) if tag == orientation]


def _tiff_directory(metadata: Metadata) -> Image.Exif:
    directory = Image.Exif()
    if metadata.exif:
        found, kept = Image.Exif(), Image.Exif()
        found.load(_EXIF_PREFIX + metadata.exif)
        _copy_descriptive(found, kept)
        directory.load(kept.tobytes())  # Pillow writes directories inside only of what it has read
    if metadata.xmp:
        directory[ExifTags.Base.XMLPacket] = metadata.xmp
    return directory


def _copy_descriptive(source: Image.Exif, target: Image.Exif) -> None:
    for tag in _DESCRIPTIVE & set(source):
        target[tag] = source.get_ifd(tag) if tag in _SUBDIRECTORIES else source[tag]


def _exif_of(image: Image.Image) -> bytes:
    """Return the EXIF block as it is in the file, or as Pillow puts it together."""
    raw = raw_exif(image)
    if raw:
        return raw
    try:
        found = image.getexif()
        kept = Image.Exif()
        _copy_descriptive(found, kept)
        return kept.tobytes().removeprefix(_EXIF_PREFIX) if len(kept) else b""
    except Exception:  # Pillow's parser raises whatever damage runs it into
        return b""


def _has_resolution(image: Image.Image) -> bool:
    """Tell whether a file gave its resolution: where it did not, Pillow makes one up."""
    if image.format == "TIFF":
        return ExifTags.Base.XResolution in getattr(image, "tag_v2", ())
    if image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in (1, 2):
        try:
            return ExifTags.Base.XResolution in image.getexif()
        except Exception:  # Pillow's parser raises whatever damage runs it into
            return False
    return True


def _resolution(dpi: object) -> tuple[float, float] | None:
    """Return two numbers if they can be a resolution."""
    if not isinstance(dpi, tuple) or len(cast("tuple[Any, ...]", dpi)) != 2:
        return None
    try:
        across, down = (float(value) for value in cast("tuple[Any, Any]", dpi))
        return Metadata(dpi=(across, down)).dpi
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""
