"""What an EXIF block says of a picture's sides, brought to what they are after it was turned.

A block is edited in place, as makers' notes hold offsets from its beginning.
"""

from __future__ import annotations

import struct

_ENTRY_BYTES = 12
_SIZES = ((0x0100, 0x0101), (0xA002, 0xA003))
"""ImageWidth and ImageLength, PixelXDimension and PixelYDimension."""
_EXIF, _SHORT = 0x8769, 3
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202


def with_swapped_sizes(exif: bytes) -> bytes:
    """Return the block of a picture that was laid on its other side, width and height swapped."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4], "")
    patched = bytearray(exif)
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        entries = _entries(exif, order, first)
        _swap_sizes(patched, entries)
        if _EXIF in entries:
            (inner,) = struct.unpack_from(f"{order}I", exif, entries[_EXIF] + 8)
            _swap_sizes(patched, _entries(exif, order, inner))
    except struct.error:  # it ends inside of a directory: what came before is mended
        pass
    return bytes(patched)


def size_of(exif: bytes) -> tuple[int, int] | None:
    """Return the width and height that a block gives its picture; None where it gives none."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4], "")
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (inner,) = struct.unpack_from(f"{order}I", exif, _entries(exif, order, first)[_EXIF] + 8)
        entries = _entries(exif, order, inner)
        across, down = (_number(exif, order, entries[tag]) for tag in _SIZES[1])
    except (struct.error, KeyError):
        return None
    return across, down


def without_thumbnail(exif: bytes) -> bytes:
    """Return a block without its thumbnail, which would not be turned with the picture.

    Its directory is unhooked, and its pixels become zeros; where the block ends with them, they are
    cut off.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4], "")
    patched = bytearray(exif)
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        link = first + 2 + _ENTRY_BYTES * count
        (second,) = struct.unpack_from(f"{order}I", exif, link)
        struct.pack_into(f"{order}I", patched, link, 0)
        entries = _entries(exif, order, second) if second else {}
        if _THUMBNAIL in entries and _THUMBNAIL_BYTES in entries:
            start, size = (
                struct.unpack_from(f"{order}I", exif, entries[tag] + 8)[0]
                for tag in (_THUMBNAIL, _THUMBNAIL_BYTES)
            )
            end = min(start + size, len(exif))
            # Not what lies in front of the directory, such as other directories.
            if second < start < end:
                patched[start:end] = bytes(end - start)
                if end == len(exif):
                    del patched[start:]
    except struct.error:
        pass
    return bytes(patched)


def _entries(exif: bytes, order: str, directory: int) -> dict[int, int]:
    """Return where each tag of a directory stands.

    Raises:
        struct.error: The block ends inside it.
    """
    (count,) = struct.unpack_from(f"{order}H", exif, directory)
    places = [directory + 2 + _ENTRY_BYTES * index for index in range(count)]
    return {struct.unpack_from(f"{order}H10x", exif, place)[0]: place for place in places}


def _number(exif: bytes, order: str, place: int) -> int:
    """Return a SHORT or LONG."""
    (kind,) = struct.unpack_from(f"{order}H", exif, place + 2)
    return struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", exif, place + 8)[0]


def _swap_sizes(patched: bytearray, entries: dict[int, int]) -> None:
    """Exchange type, count and value of width and height."""
    for across, down in _SIZES:
        if across in entries and down in entries:
            one, other = (slice(entries[tag] + 2, entries[tag] + 12) for tag in (across, down))
            patched[one], patched[other] = patched[other], patched[one]
