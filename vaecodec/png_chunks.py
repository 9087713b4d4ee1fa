"""The chunks of a PNG file that hold its profile and its texts, read without Pillow.

Pillow inflates them up to a size that is a setting of the whole process, and refuses the file where
they are larger. Here each is inflated within a limit of its own; Pillow gets a file without them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator
from dataclasses import dataclass, field

from vaecodec.jpeg_parts import iptc_of
from vaecodec.texts import XMP_KEYWORD, Text, bounded

SIGNATURE = b"\x89PNG\r\n\x1a\n"
INFLATED_BYTES = 2**25
"""What one chunk may hold, inflated: profiles of several megabytes exist."""
_RAW_KINDS = frozenset({"app1", "exif", "iptc", "xmp"})
_ALL_BYTES = 2**26
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_OVERHEAD_BYTES = 12


@dataclass
class PngExtras:
    """What a PNG's chunks hold besides pixels.

    Attributes:
        rest: the file without its profile and texts.
        icc: ICC profile.
        xmp: XMP packet.
        exif: EXIF block of a text, as older tools write it.
        iptc: IPTC datasets of a text, likewise.
        codes: code points of ITU-T H.273 of a cICP chunk.
        texts: the other texts, in the order of the file.
        notices: what could not be kept, a sentence each.
    """

    rest: bytes
    icc: bytes = b""
    xmp: bytes = b""
    exif: bytes = b""
    iptc: bytes = b""
    codes: tuple[int, ...] = ()
    texts: list[Text] = field(default_factory=list[Text])
    notices: list[str] = field(default_factory=list[str])


def chunks_of(data: bytes) -> Generator[tuple[int, bytes, memoryview]]:
    """Yield where each chunk of a PNG begins, its name and its payload, as far as it is whole."""
    view, position = memoryview(data), len(SIGNATURE)
    while position + _OVERHEAD_BYTES <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + _OVERHEAD_BYTES + length
        if end > len(data):
            return
        yield position, name, view[position + 8 : end - 4]
        position = end


def take_extras(data: bytes) -> PngExtras:
    """Return a PNG's profile and texts, and the file without them.

    A chunk whose checksum is wrong is left where it is: Pillow judges the file for it.
    """
    parts: list[memoryview] = []
    extras, view, kept, room = PngExtras(b""), memoryview(data), 0, _ALL_BYTES
    for position, name, payload in chunks_of(data):
        if name == b"cICP" and len(payload) == 4:
            extras.codes = tuple(payload)
        if name not in (*_TEXTS, b"iCCP"):
            continue
        end = position + _OVERHEAD_BYTES + len(payload)
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            continue
        room -= _take(extras, name, bytes(payload), min(room, INFLATED_BYTES))
        parts.append(view[kept:position])
        kept = end
    extras.rest = b"".join((*parts, view[kept:])) if parts else data
    _take_raw_profiles(extras)
    texts, notices = bounded(extras.texts)
    extras.texts = list(texts)
    extras.notices += notices
    return extras


def _take_raw_profiles(extras: PngExtras) -> None:
    """Take out of the texts what ImageMagick stores in them, in hexadecimal digits."""
    texts: list[Text] = []
    for text in extras.texts:
        kind = text.keyword.removeprefix("Raw profile type ").lower()
        raw = _raw_profile(text.value) if kind in _RAW_KINDS else b""
        if raw and kind == "iptc":
            extras.iptc = extras.iptc or iptc_of(raw)
        elif raw and kind == "xmp":
            extras.xmp = extras.xmp or raw
        elif raw and kind in ("exif", "app1"):
            extras.exif = extras.exif or raw
        else:
            texts.append(text)
    extras.texts = texts


def _raw_profile(value: str) -> bytes:
    """Return the bytes that a text holds: a line of its kind, one of its length, then digits."""
    fields = value.split(None, 2)
    try:
        return bytes.fromhex("".join(fields[2].split())) if len(fields) == 3 else b""
    except ValueError:
        return b""


def _take(extras: PngExtras, name: bytes, payload: bytes, room: int) -> int:
    """Take one chunk, and return the bytes that it holds."""
    keyword, _, rest = payload.partition(b"\0")
    shown = keyword.decode("latin-1")
    try:
        found = _icc(rest, room) if name == b"iCCP" else _text(name, shown, rest, room)
    except _TooLongError:
        extras.notices.append(f"its {_said(name, shown)} is too long to be kept")
        return 0
    except (ValueError, zlib.error):
        extras.notices.append(f"its {_said(name, shown)} is damaged, and not kept")
        return 0
    if isinstance(found, bytes):
        extras.icc = extras.icc or found
        return len(found)
    if found.keyword == XMP_KEYWORD:
        extras.xmp = extras.xmp or found.value.encode()
    else:
        extras.texts.append(found)
    return len(found.value)


class _TooLongError(Exception):
    """A chunk holds more than there is room for."""


def _icc(rest: bytes, room: int) -> bytes:
    if rest[:1] != b"\0":
        raise ValueError("an unknown method of compression")
    return _inflated(rest[1:], room)


def _text(name: bytes, keyword: str, rest: bytes, room: int) -> Text:
    """Return the text in a chunk, whose keyword has been taken off.

    Raises:
        ValueError: It breaks a rule of PNG.
    """
    if name == b"tEXt":
        return Text(keyword, _bounded(rest, room).decode("latin-1"))
    if name == b"zTXt":
        if rest[:1] != b"\0":
            raise ValueError("an unknown method of compression")
        return Text(keyword, _inflated(rest[1:], room).decode("latin-1"))
    is_compressed, method, fields = rest[:1] == b"\1", rest[1:2], rest[2:].split(b"\0", 2)
    if len(fields) != 3 or (is_compressed and method != b"\0"):
        raise ValueError("not as an iTXt chunk is laid out")
    language, translated, text = fields
    text = _inflated(text, room) if is_compressed else _bounded(text, room)
    return Text(keyword, text.decode("utf-8", "replace"), language.decode(), translated.decode())


def _bounded(text: bytes, room: int) -> bytes:
    if len(text) > room:
        raise _TooLongError
    return text


def _inflated(stream: bytes, room: int) -> bytes:
    inflater = zlib.decompressobj()
    out = inflater.decompress(stream, max(room, 1))
    if inflater.unconsumed_tail or not inflater.eof:
        if len(out) >= room:
            raise _TooLongError
        raise ValueError("it ends too early")
    return out


def _said(name: bytes, keyword: str) -> str:
    return "colour profile" if name == b"iCCP" else f"text {keyword[:79]!r}"
