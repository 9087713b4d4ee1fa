"""What of an image's metadata a format has a place for, and how to say what it has not."""

from __future__ import annotations

from dataclasses import replace

from vaecodec.jpeg_parts import SEGMENT_BYTES
from vaecodec.metadata import Metadata
from vaecodec.texts import Text

_NAMES = {
    "icc": "colour profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "comment": "comment",
    "texts": "texts",
}
# Each format, by Pillow's name, and what it holds; others hold nothing but pixels.
_HELD = {
    "AVIF": ("icc", "exif", "xmp"),
    "JPEG": ("icc", "exif", "xmp", "iptc", "comment"),
    "PNG": ("icc", "exif", "xmp", "comment", "texts"),
    "TIFF": ("icc", "exif", "xmp", "iptc"),
    "WEBP": ("icc", "exif", "xmp"),
}
_KINDS = {"texts": "text"}
_ICC_PARTS, _ICC_HEAD_BYTES = 255, 14
_EXIF_HEAD_BYTES, _IPTC_HEAD_BYTES = 6, 26
_JPEG_BYTES: dict[str, int] = {
    "icc": _ICC_PARTS * (SEGMENT_BYTES - _ICC_HEAD_BYTES),
    "exif": SEGMENT_BYTES - _EXIF_HEAD_BYTES,
    "xmp": 2**25,  # what is read again
    "iptc": SEGMENT_BYTES - _IPTC_HEAD_BYTES,
    "comment": SEGMENT_BYTES,
}


def placed(metadata: Metadata, format: str) -> tuple[Metadata, tuple[str, ...]]:
    """Return what a file of a format gets of metadata, and a notice of what it does not get.

    Args:
        metadata: of an image.
        format: Pillow's name of the format.
    """
    held = _HELD.get(format, ())
    lost = [name for name in _NAMES if getattr(metadata, name) and name not in held]
    notices: list[str] = []
    if lost:
        said = ", ".join(_NAMES[name] for name in lost)
        notices.append(f"{format} files hold no {said}: left out")
    if format == "JPEG":
        for name, most in _JPEG_BYTES.items():
            if len(getattr(metadata, name)) > most:
                lost.append(name)
                size = len(getattr(metadata, name))
                notices.append(
                    f"its {_NAMES[name]} of {size:,} bytes is too long for a JPEG file, which "
                    f"holds {most:,}: left out"
                )
    kept = metadata.without([_KINDS.get(name, name) for name in lost])
    if format == "PNG" and kept.comment:
        kept = replace(kept, comment=b"", texts=(*kept.texts, _comment(kept.comment)))
    return kept, tuple(notices)


def _comment(comment: bytes) -> Text:
    """Return a comment as PNG holds one, which has a keyword for it."""
    try:
        text = comment.decode("utf-8")
    except UnicodeDecodeError:
        text = comment.decode("latin-1")
    return Text("Comment", text.rstrip("\0").replace("\0", " "))
