"""What an image file says besides its pixels: colour profile, EXIF, XMP, resolution and texts.

Each is kept in an ancillary chunk of its own, byte for byte as it came, but for the orientation
that EXIF and XMP may give: pixels are stored upright, so it is reset to 1.

    iccp   ICC profile         exif   EXIF, from its TIFF header on
    xmpp   XMP packet          dpis   horizontal and vertical resolution, two f64, pixels per inch
    iptc   IPTC datasets       comm   comment of a JPEG or a GIF
    text   texts of a PNG, see `vaecodec.texts`
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from PIL import ExifTags, Image, PngImagePlugin

from vaecodec.container import Chunk
from vaecodec.texts import Text, pack_texts, texts_of, unpack_texts
from vaecodec.xmp import upright_xmp, xmp_orientation

KINDS = ("exif", "icc", "xmp", "dpi", "iptc", "text", "comment")
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
    b"iptc": "IPTC",
    b"comm": "comment",
    b"text": "texts",
}
"""Chunks that hold metadata, and what to call what they hold."""

IPTC_RESOURCE = 0x0404
"""Number of IPTC among Photoshop's image resources."""
TEXTS_KEY = "vaec_texts"
"""Where in `image.info` the texts stand, for they share it with what Pillow puts there."""

_FOURCC = {"icc": b"iccp", "exif": b"exif", "xmp": b"xmpp", "iptc": b"iptc", "comment": b"comm"}
_TEXT = b"text"
_DPI = b"dpis"
_RESOLUTION = struct.Struct("<2d")
IPTC_TAG = 33723
_OF_PROGRAMS = b"Created by OpenJPEG"  # in every file of that library
JPEG_XMP_BYTES = 65_504
"""What one segment of a JPEG holds of an XMP packet."""
# What Pillow itself keeps in `image.info`, under names that a text may have, too.
_NO_TEXTS = frozenset(
    {
        *("aspect", "chromaticity", "comment", "dpi", "exif", "gamma", "icc_profile"),
        *("interlace", "photoshop", "srgb", "transparency", "xmp", TEXTS_KEY),
    }
)
# There the container turns the image, and the plugins do as it says.
_TURNED_FORMATS = frozenset({"HEIF", "JXL"})
_EXIF_PREFIX = b"Exif\x00\x00"
_ENTRY_BYTES = 12
_SHORT = 3
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
        iptc: IPTC datasets.
        comment: Comment of a JPEG or a GIF, in whatever encoding it came.
        texts: Texts of a PNG, with their keywords.

    Raises:
        ValueError: If the resolution is not.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    iptc: bytes = b""
    comment: bytes = b""
    texts: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        if self.dpi is not None and not all(0 < value <= DPI_MAX for value in self.dpi):
            raise ValueError(f"a resolution of {self.dpi} pixels per inch is none")

    def upright(self) -> Metadata:
        """Return the same of an image whose pixels have been turned upright."""
        return replace(self, exif=upright_exif(self.exif), xmp=upright_xmp(self.xmp))

    def without(self, kinds: Collection[str]) -> Metadata:
        """Return the rest, some of `KINDS` left out; see `kinds_of` for the error."""
        kinds = kinds_of(kinds)
        return Metadata(
            b"" if "icc" in kinds else self.icc,
            b"" if "exif" in kinds else self.exif,
            b"" if "xmp" in kinds else self.xmp,
            None if "dpi" in kinds else self.dpi,
            b"" if "iptc" in kinds else self.iptc,
            b"" if "comment" in kinds else self.comment,
            () if "text" in kinds else self.texts,
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


def kinds_in(metadata: Metadata) -> tuple[str, ...]:
    """Return which of `KINDS` there are in metadata."""
    return tuple(kind for kind in KINDS if metadata.without((kind,)) != metadata)


def read_metadata(image: Image.Image) -> Metadata:
    """Return what Pillow found in an image's file, or what `attach` put there."""
    info = cast("dict[str, Any]", image.info)
    return Metadata(
        icc=_bytes(info.get("icc_profile")),
        exif=_exif_of(image),
        xmp=_xmp_of(image),
        dpi=_resolution(info.get("dpi")) if _has_resolution(image) else None,
        iptc=_iptc_of(image),
        comment=_comment_of(image),
        texts=_texts_of(image),
    )


def attach(image: Image.Image, metadata: Metadata) -> None:
    """Put metadata where Pillow's readers put it: into `image.info`."""
    found: dict[str, Any] = {
        "icc_profile": metadata.icc,
        "exif": _EXIF_PREFIX + metadata.exif if metadata.exif else b"",
        "xmp": metadata.xmp,
        "dpi": metadata.dpi,
        "photoshop": {IPTC_RESOURCE: metadata.iptc} if metadata.iptc else {},
        "comment": metadata.comment,
        TEXTS_KEY: metadata.texts,
    }
    image.info.update({key: value for key, value in found.items() if value})
    for text in metadata.texts:
        if text.keyword not in _NO_TEXTS:
            image.info.setdefault(text.keyword, text.value)


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
    if metadata.comment and format == "JPEG":
        options["comment"] = metadata.comment
    if format == "PNG":
        options["pnginfo"] = _png_info(metadata)
    elif metadata.xmp and not (format == "JPEG" and len(metadata.xmp) > JPEG_XMP_BYTES):
        options["xmp"] = metadata.xmp  # see `jpeg_parts` for longer ones
    return options


def _png_info(metadata: Metadata) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    for text in metadata.texts:
        if text.is_plain:
            info.add_text(text.keyword, text.value)
        else:
            info.add_itxt(text.keyword, text.value, text.language, text.translated)
    return info


def to_chunks(metadata: Metadata) -> tuple[Chunk, ...]:
    """Return the chunks that hold metadata."""
    parts = {name: getattr(metadata, name) for name in _FOURCC}
    chunks = [Chunk(_FOURCC[name], part) for name, part in parts.items() if part]
    if metadata.texts:
        chunks.append(Chunk(_TEXT, pack_texts(metadata.texts)))
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
    parts = {name: first.get(fourcc, b"") for name, fourcc in _FOURCC.items()}
    packed = first.get(_DPI, b"")
    dpi = _RESOLUTION.unpack(packed) if len(packed) == _RESOLUTION.size else None
    texts = unpack_texts(first.get(_TEXT, b""))
    return Metadata(**parts, dpi=_resolution(dpi), texts=texts)


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

    Both are read by what will reset them, so that both see the same. In some formats the container
    turns the image, and what else gives an orientation is left over from before.
    """
    if is_turned(image):
        return 1
    found = exif_orientation(raw_exif(image))
    if found is not None:
        return found
    if image.format == "AVIF":  # to whose EXIF Pillow writes what the container says
        return 1
    found = xmp_orientation(_xmp_of(image))
    if found is not None:
        return found
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's parser raises whatever damage runs it into
        return 1
    return found if found in range(1, 9) else 1


def is_turned(image: Image.Image) -> bool:
    """Tell whether an image's plugin has turned it, as its container says."""
    # The JPEG that a JPEG XL was made from comes as it was.
    return image.format in _TURNED_FORMATS and not getattr(image, "jpeg", False)


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
    if metadata.iptc:
        directory[IPTC_TAG] = metadata.iptc
    return directory


def _copy_descriptive(source: Image.Exif, target: Image.Exif) -> None:
    for tag in _DESCRIPTIVE & set(source):
        target[tag] = source.get_ifd(tag) if tag in _SUBDIRECTORIES else source[tag]


def _xmp_of(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp", b"")
    return xmp.encode("utf-8", "replace") if isinstance(xmp, str) else _bytes(xmp)


def _iptc_of(image: Image.Image) -> bytes:
    """Return IPTC datasets, from among Photoshop's resources or from a TIFF's own tag."""
    resources = image.info.get("photoshop")
    if isinstance(resources, dict):
        return _bytes(cast("dict[Any, Any]", resources).get(IPTC_RESOURCE))
    # As it stands in the file: some writers call the bytes integers, of which Pillow gives one.
    stored = getattr(getattr(image, "tag_v2", None), "_tagdata", None)
    return _bytes(cast("dict[int, Any]", stored).get(IPTC_TAG)) if stored else b""


def _comment_of(image: Image.Image) -> bytes:
    """Return a comment, unless it only names the program that wrote the file."""
    comment = _bytes(image.info.get("comment"))
    return b"" if comment.startswith(_OF_PROGRAMS) else comment


def _texts_of(image: Image.Image) -> tuple[Text, ...]:
    """Return the texts of a PNG that Pillow has read, or those that `attach` put there."""
    kept = image.info.get(TEXTS_KEY)
    if isinstance(kept, tuple):
        return tuple(text for text in cast("tuple[Any, ...]", kept) if isinstance(text, Text))
    return texts_of(getattr(image, "text", None)) if image.format == "PNG" else ()


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
