"""The segments of a JPEG file: what Pillow leaves unread of them, and what it does not write."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Generator
from dataclasses import dataclass, field

from vaecodec.errors import ImageError
from vaecodec.metadata import JPEG_XMP_BYTES, Metadata
from vaecodec.xmp import has_extension, merged, standing_for

BEGINNING = b"\xff\xd8\xff"
END = b"\xff\xd9"
SEGMENT_BYTES = 65_533
"""What one segment holds at most."""
_EXTENSION_BYTES = 65_400
_EXTENDED_BYTES = 2**25
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENDED_HEAD = struct.Struct(">32s2I")  # name (an MD5), length of all, where this part begins
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC = struct.Struct(">4sH2xI")  # 8BIM, 0x0404, an empty name, length
_SOF, _SOS, _DHT, _JPG, _DAC, _COM, _EOI = range(0xC0, 0xD0), 0xDA, 0xC4, 0xC8, 0xCC, 0xFE, 0xD9
_APP0, _APP1, _APP2, _APP13 = 0xE0, 0xE1, 0xE2, 0xED
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
"""Markers that nothing follows: TEM, RST0 to RST7 and SOI."""
_UNREAD = {3: "lossless JPEG", 9: "arithmetic-coded JPEG", 10: "arithmetic-coded JPEG"}


@dataclass
class JpegParts:
    """What the segments of a JPEG say.

    Attributes:
        comments: each of its comments.
        extensions: extended XMP packets by name, as far as they are whole.
        has_gain_map: whether it says that it holds an HDR gain map.
        coding: the number of its kind of coding (0 is baseline, 2 progressive), -1 if unknown.
        precision: bits per sample.
        components: samples of a pixel.
        sampling: the greatest factor by which one is sampled more finely than another.
        scans: where the entropy-coded data of each scan ends.
        end: where the picture ends, its end marker left out.
        is_ended: whether an end marker follows.
    """

    comments: list[bytes] = field(default_factory=list[bytes])
    extensions: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    has_gain_map: bool = False
    coding: int = -1
    precision: int = 8
    components: int = 0
    sampling: int = 1
    scans: list[int] = field(default_factory=list[int])
    end: int = 0
    is_ended: bool = False


def read_parts(data: bytes) -> JpegParts:
    """Return what the segments of a JPEG say, as far as they can be followed."""
    parts = JpegParts()
    pieces: dict[tuple[bytes, int], dict[int, bytes]] = {}
    for marker, start, end in segments_of(data):
        if marker == _EOI:
            parts.is_ended = True
            return _finished(parts, pieces)
        parts.end = end
        payload = data[start:end] if marker != _SOS else b""
        if marker == _SOS:
            parts.scans.append(end)
        elif marker == _COM:
            parts.comments.append(payload)
        elif marker == _APP1 and payload.startswith(_EXTENDED):
            head = payload[len(_EXTENDED) :][: _EXTENDED_HEAD.size]
            if len(head) == _EXTENDED_HEAD.size:
                name, length, offset = _EXTENDED_HEAD.unpack(head)
                rest = payload[len(_EXTENDED) + _EXTENDED_HEAD.size :]
                pieces.setdefault((name, length), {}).setdefault(offset, rest)
        elif marker == _APP2 and payload.startswith(_ISO_GAIN_MAP):
            parts.has_gain_map = True
        elif marker in _SOF and marker not in (_DHT, _JPG, _DAC) and len(payload) >= 6:
            parts.coding, parts.precision = marker - 0xC0, payload[0]
            parts.components = payload[5]
            factors = payload[7 : 6 + 3 * payload[5] : 3]
            parts.sampling = max((max(both >> 4, both & 15) for both in factors), default=1)
    return _finished(parts, pieces)


def check_coding(parts: JpegParts) -> None:
    """Refuse a JPEG that libjpeg cannot read as Pillow has it.

    Raises:
        ImageError: It has more than 8 bits per sample, or is coded in a rare way.
    """
    if parts.coding in _UNREAD and not (parts.coding > 8 and parts.precision == 8):
        said = _UNREAD[parts.coding]
    elif parts.coding >= 0 and parts.precision != 8:
        said = "JPEG"
    else:
        return
    raise ImageError(
        f"the image is a {said} of {parts.precision} bits per sample, which is not read: "
        "convert it to PNG or TIFF of 16 bits first"
    )


def whole_xmp(xmp: bytes, parts: JpegParts) -> tuple[bytes, str]:
    """Return an XMP packet with its extension, and what there is to say where it is lost."""
    if not has_extension(xmp) and not parts.extensions:
        return xmp, ""
    for name, extension in parts.extensions.items():
        if xmp == standing_for(name):  # as `with_parts` writes it
            return extension, ""
        if name in xmp and (joined := merged(xmp, extension)) is not None:
            return joined, ""
    return xmp, "the extended part of its XMP is not kept"


def segments_of(data: bytes) -> Generator[tuple[int, int, int]]:
    """Yield each marker, and where its payload begins and ends, a scan's data included."""
    position = 2
    while position + 2 <= len(data):
        if data[position] != 0xFF:  # as libjpeg does: bytes that mean nothing are skipped
            position = data.find(b"\xff", position)
            if position < 0:
                return
        marker = data[position + 1] if position + 1 < len(data) else 0
        if marker in (0x00, 0xFF) or marker in _ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == _EOI:
            yield marker, position + 2, position + 2
            return
        start = position + 4
        end = position + 2 + int.from_bytes(data[position + 2 : start])
        if end < start or end > len(data):
            return
        if marker == _SOS:
            end = _scan_end(data, end)
        yield marker, start, end
        position = end


def with_parts(jpeg: bytes, metadata: Metadata) -> bytes:
    """Return a JPEG with what Pillow does not write: IPTC, and XMP that is longer than a segment.

    It is what Pillow wrote, and `placed` has made sure that the rest fits.
    """
    added: list[bytes] = []
    if len(metadata.xmp) > JPEG_XMP_BYTES:
        name = hashlib.md5(metadata.xmp, usedforsecurity=False).hexdigest().upper().encode()
        added.append(_segment(_APP1, _XMP + standing_for(name)))
        for at in range(0, len(metadata.xmp), _EXTENSION_BYTES):
            head = _EXTENDED + _EXTENDED_HEAD.pack(name, len(metadata.xmp), at)
            added.append(_segment(_APP1, head + metadata.xmp[at : at + _EXTENSION_BYTES]))
    if metadata.iptc:
        padding = bytes(len(metadata.iptc) % 2)
        resource = _IPTC.pack(b"8BIM", 0x0404, len(metadata.iptc)) + metadata.iptc + padding
        added.append(_segment(_APP13, _PHOTOSHOP + resource))
    if not added:
        return jpeg
    place = 2
    for marker, _, end in segments_of(jpeg):
        if marker not in (_APP0, _APP1):
            break
        place = end
    return b"".join((jpeg[:place], *added, jpeg[place:]))


def iptc_of(resources: bytes) -> bytes:
    """Return the IPTC datasets among Photoshop's image resources, or what is no such resources."""
    position = 0
    while resources[position : position + 4] == b"8BIM" and position + 12 <= len(resources):
        number = int.from_bytes(resources[position + 4 : position + 6])
        place = position + 6 + (resources[position + 6] + 2) // 2 * 2
        size = int.from_bytes(resources[place : place + 4])
        if number == 0x0404:
            return resources[place + 4 : place + 4 + size]
        position = place + 4 + size + size % 2
    return resources if position == 0 else b""


def _finished(parts: JpegParts, pieces: dict[tuple[bytes, int], dict[int, bytes]]) -> JpegParts:
    """Join the pieces of extended XMP."""
    for (name, length), found in pieces.items():
        joined = bytearray()
        for offset in sorted(found):
            if offset != len(joined) or len(joined) > _EXTENDED_BYTES:
                break
            joined += found[offset]
        if len(joined) == length:
            parts.extensions[name] = bytes(joined)
    return parts


def _scan_end(data: bytes, position: int) -> int:
    """Return where entropy-coded data ends: at a marker that is no restart, or with the file."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            return len(data)
        if data[position + 1] != 0 and not 0xD0 <= data[position + 1] <= 0xD7:
            return position
        position += 2


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
