"""PNG files of 16 bits per sample, through imagecodecs; see `vaecodec.deep`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecodec.errors import ImageError
from vaecodec.metadata import Metadata
from vaecodec.raster import other_size
from vaecodec.texts import Text

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 33  # the signature and the IHDR chunk
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_FILTER_MAX = 4
# First row and column of the seven passes of an interlaced PNG, and their steps.
_TOPS, _LEFTS = (0, 0, 4, 0, 2, 0, 1), (0, 4, 0, 2, 0, 1, 0)
_DOWNS, _ACROSSES = (8, 8, 8, 4, 4, 2, 2), (8, 8, 4, 4, 2, 2, 1)
_ADAM7 = tuple(zip(_TOPS, _LEFTS, _DOWNS, _ACROSSES, strict=True))
_BLOCK_BYTES = 2**16  # a thousandfold of which zlib may make
# Level 6 takes up to three times as long for files 0 to 3 % smaller: low bits are mostly noise.
_LEVEL = 4
_METRES_PER_INCH = 0.0254


def read_png(codecs: Any, data: bytes, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Read pixels, as `read_deep`, with the module imagecodecs."""
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        raise ImageError("the image cannot be read: it does not begin as a PNG file")
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">2I5B", data, 16)
    if (width, height) != size:
        raise other_size((width, height), size)
    if depth != 16:
        raise ImageError(f"the image has {depth} bits per sample, not 16")
    if colour not in _CHANNELS:
        raise ImageError(f"the image cannot be read: it has the PNG colour type {colour}")
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = [np.zeros(1, np.int64)]
    for top, left, down, across in passes:
        row_bytes = 1 + 2 * _CHANNELS[colour] * len(range(left, width, across))
        rows.append(np.full(len(range(top, height, down)) if left < width else 0, row_bytes))
    _check_pixels(data, np.cumsum(np.concatenate(rows)))
    samples: NDArray[np.uint16] = codecs.png_decode(data)
    return np.ascontiguousarray(samples.reshape(height, width, -1))


def _check_pixels(data: bytes, rows: NDArray[np.int64]) -> None:
    """Inflate a PNG's pixels once, to find damage before imagecodecs does.

    There libpng jumps out of Python's code, which loses the memory of the image, and one reference
    to None: before Python 3.12, some thousands of these end the process.

    Args:
        data: The whole file.
        rows: (n + 1,) where each of n rows begins among the inflated bytes, and where the last
            ends. The first byte of each is the number of a filter.
    """
    # Like libpng, with the window that the stream asks for.
    stream, done = zlib.decompressobj(0), 0
    for payload in _pixel_chunks(data):
        for start in range(0, len(payload), _BLOCK_BYTES):
            raw = stream.decompress(payload[start : start + _BLOCK_BYTES])
            first, last = np.searchsorted(rows, (done, done + len(raw)))
            filters = np.frombuffer(raw, np.uint8)[rows[first:last] - done]
            done += len(raw)
            if done > rows[-1] or (filters > _FILTER_MAX).any():
                raise ImageError("the image cannot be read: its rows are damaged")
    if done < rows[-1] or not stream.eof:
        raise ImageError("the image cannot be read: it ends too early")


def _pixel_chunks(data: bytes) -> Generator[memoryview]:
    """Yield the IDAT chunks, which follow one another, their checksums verified."""
    position, found = len(_SIGNATURE), False
    while True:
        length, fourcc = struct.unpack_from(">I4s", data, position)
        if fourcc == b"IDAT":
            payload = memoryview(data)[position + 8 : position + 8 + length]
            (crc,) = struct.unpack_from(">I", data, position + 8 + length)
            if crc != zlib.crc32(payload, zlib.crc32(fourcc)):
                raise ImageError("the image cannot be read: a checksum does not match")
            found = True
            yield payload
        elif found:
            return
        position += 12 + length


def write_png(codecs: Any, pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    """Write pixels ``(h, w)`` or ``(h, w, c)`` and metadata, with the module imagecodecs."""
    encoded: bytes = codecs.png_encode(pixels, level=_LEVEL)
    parts = [encoded[:_HEADER_BYTES]]
    if metadata.icc:
        parts.append(_chunk(b"iCCP", b"ICC profile\x00\x00" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        across, down = (round(value / _METRES_PER_INCH) for value in metadata.dpi)
        parts.append(_chunk(b"pHYs", struct.pack(">2IB", across, down, 1)))
    if metadata.exif:
        parts.append(_chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        text = metadata.xmp.decode("utf-8", "replace").encode()
        parts.append(_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + text))
    parts += [_text_chunk(text) for text in metadata.texts]
    return b"".join([*parts, encoded[_HEADER_BYTES:]])


def _text_chunk(text: Text) -> bytes:
    keyword = text.keyword.encode("latin-1")
    if text.is_plain:
        return _chunk(b"tEXt", keyword + b"\0" + text.value.encode("latin-1"))
    fields = (
        text.language.encode("ascii", "ignore"),
        text.translated.encode(),
        text.value.encode(),
    )
    return _chunk(b"iTXt", keyword + bytes(3) + b"\0".join(fields))


def _chunk(fourcc: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(payload, zlib.crc32(fourcc))
    return struct.pack(">I", len(payload)) + fourcc + payload + struct.pack(">I", crc)
