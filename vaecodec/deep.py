"""Image files with 16 bits per sample and several channels, which Pillow would cut to 8.

PNG goes through imagecodecs and TIFF through tifffile, an optional extra that is loaded on use.
"""

import importlib
import io
import logging
import math
import struct
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecodec.errors import ImageError, RuntimeUnavailableError, VaecodecError
from vaecodec.metadata import Metadata
from vaecodec.raster import unreadable

_UNAVAILABLE = (
    "files of 16 bits per sample and several channels need imagecodecs and tifffile, "
    "which are not installed"
)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = 33  # the signature and the IHDR chunk
_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_PNG_FILTER_MAX = 4
# First row and column of the seven passes of an interlaced PNG, and their steps.
_TOPS, _LEFTS = (0, 0, 4, 0, 2, 0, 1), (0, 4, 0, 2, 0, 1, 0)
_DOWNS, _ACROSSES = (8, 8, 8, 4, 4, 2, 2), (8, 8, 4, 4, 2, 2, 1)
_ADAM7 = tuple(zip(_TOPS, _LEFTS, _DOWNS, _ACROSSES, strict=True))
_BLOCK_BYTES = 2**16  # a thousandfold of which zlib may make
# Level 6 takes up to three times as long for files 0 to 3 % smaller: low bits are mostly noise.
_PNG_LEVEL = 4
_METRES_PER_INCH = 0.0254
# Those that fill a buffer of a given size. The others, JPEG 2000 for one, hold a size of their own,
# which may be any.
_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946, 50000})
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_OTHER_PHOTOMETRICS = {3: "a palette image", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab"}
_SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point"}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_XMP_TAG, _ORIENTATION_TAG = 700, 274
_TIFF_BYTE, _TIFF_ASCII = 1, 2
# ImageDescription, Make, Model, Software, DateTime, Artist, Copyright: as `metadata` keeps them.
_DESCRIPTIVE = frozenset({270, 271, 272, 305, 306, 315, 33432})
_TILE_SAMPLES = 2**24  # that any tile may have, as small images lie in tiles larger than they are


def read_deep(data: bytes, format: str, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Read the pixels of a file with 16 bits per sample, of a TIFF those of its first page.

    Args:
        data: The whole file.
        format: Pillow's name of its format, PNG or TIFF.
        size: Width and height in Pillow's eyes, which the caller has checked; the file is held to
            them before any pixel is decoded. Pillow exchanges the two where a TIFF's orientation
            lies on its side, so for these both ways pass.

    Returns:
        (h, w, c) uint16 as stored, not turned by any orientation; c is 1 for grey, 2 for grey and
        alpha, 3 for RGB, 4 for RGB and alpha. Alpha is never multiplied in.

    Raises:
        ImageError: If the file is damaged, or of another kind.
        RuntimeUnavailableError: If the libraries are not installed.
    """
    _check_format(format)
    codecs, tifffile = _libraries()
    try:
        with _quiet():
            if format == "PNG":
                return _read_png(codecs, data, size)
            return _read_tiff(tifffile, data, size)
    except (VaecodecError, MemoryError):
        raise
    except Exception as error:  # on damage the libraries raise whatever they run into
        raise unreadable(error) from error


def write_deep(samples: NDArray[np.uint16], format: str, metadata: Metadata) -> bytes:
    """Return a file with 16 bits per sample, lossless.

    Of EXIF, a TIFF gets the texts of its main directory; a PNG gets all of it.

    Args:
        samples: (h, w, c) uint16; c as in `read_deep`.
        format: Pillow's name of the format, PNG or TIFF.
        metadata: Goes into the file as well.

    Raises:
        ImageError: If the format is another, or the libraries refuse.
        RuntimeUnavailableError: If the libraries are not installed.
        ValueError: If the samples have another shape or type.
    """
    _check_format(format)
    if samples.ndim != 3 or not 1 <= samples.shape[2] <= 4 or samples.dtype != np.uint16:
        raise ValueError(f"samples are {samples.dtype} of shape {samples.shape}, not (h, w, 1..4)")
    codecs, tifffile = _libraries()
    pixels = np.ascontiguousarray(samples, np.uint16)
    if pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    try:
        with _quiet():
            if format == "PNG":
                return _write_png(codecs, pixels, metadata)
            return _write_tiff(tifffile, pixels, metadata)
    except MemoryError:
        raise
    except Exception as error:  # each library refuses in its own way
        reason = str(error) or type(error).__name__
        raise ImageError(f"the image cannot be written as {format}: {reason}") from error


def _check_format(format: str) -> None:
    if format not in ("PNG", "TIFF"):
        raise ImageError(f"{format} files hold 8 bits per sample: write .png or .tif instead")


def _libraries() -> tuple[Any, Any]:
    """Return imagecodecs and tifffile."""
    try:
        return importlib.import_module("imagecodecs"), importlib.import_module("tifffile")
    except ImportError as error:
        raise RuntimeUnavailableError(_UNAVAILABLE, "pip install 'vaecodec[deep]'") from error


@contextmanager
def _quiet() -> Generator[None]:
    """Keep what the libraries log off stderr, which is where it goes if nobody set logging up."""
    drop = logging.Filter("all but what is below this name")
    loggers = [logging.getLogger(name) for name in ("imagecodecs", "tifffile")]
    for logger in loggers:
        logger.addFilter(drop)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(drop)


def _read_png(codecs: Any, data: bytes, size: tuple[int, int]) -> NDArray[np.uint16]:
    if not data.startswith(_PNG_SIGNATURE) or data[12:16] != b"IHDR":
        raise ImageError("the image cannot be read: it does not begin as a PNG file")
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">2I5B", data, 16)
    _check_size((width, height), size)
    if depth != 16:
        raise ImageError(f"the image has {depth} bits per sample, not 16")
    if colour not in _PNG_CHANNELS:
        raise ImageError(f"the image cannot be read: it has the PNG colour type {colour}")
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = [np.zeros(1, np.int64)]
    for top, left, down, across in passes:
        row_bytes = 1 + 2 * _PNG_CHANNELS[colour] * len(range(left, width, across))
        rows.append(np.full(len(range(top, height, down)) if left < width else 0, row_bytes))
    _check_png_pixels(data, np.cumsum(np.concatenate(rows)))
    samples: NDArray[np.uint16] = codecs.png_decode(data)
    return np.ascontiguousarray(samples.reshape(height, width, -1))


def _check_png_pixels(data: bytes, rows: NDArray[np.int64]) -> None:
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
    for payload in _png_pixel_chunks(data):
        for start in range(0, len(payload), _BLOCK_BYTES):
            raw = stream.decompress(payload[start : start + _BLOCK_BYTES])
            first, last = np.searchsorted(rows, (done, done + len(raw)))
            filters = np.frombuffer(raw, np.uint8)[rows[first:last] - done]
            done += len(raw)
            if done > rows[-1] or (filters > _PNG_FILTER_MAX).any():
                raise ImageError("the image cannot be read: its rows are damaged")
    if done < rows[-1] or not stream.eof:
        raise ImageError("the image cannot be read: it ends too early")


def _png_pixel_chunks(data: bytes) -> Generator[memoryview]:
    """Yield the IDAT chunks, which follow one another, their checksums verified."""
    position, found = len(_PNG_SIGNATURE), False
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


def _read_tiff(tifffile: Any, data: bytes, size: tuple[int, int]) -> NDArray[np.uint16]:
    # Of these two microscopes' files, tifffile would go through all pages first.
    with tifffile.TiffFile(io.BytesIO(data), is_lsm=False, is_scanimage=False) as file:
        page: Any = file.pages[0]
        width, height = stored = (int(page.imagewidth), int(page.imagelength))
        on_its_side = page.tags.valueof(_ORIENTATION_TAG) in (5, 6, 7, 8)
        _check_size((height, width) if on_its_side and stored != size else stored, size)
        _check_layout(page, len(data))
        alpha = _alpha_kind(page)
        planes: NDArray[np.uint16] = page.asarray(squeeze=False)  # (planes, 1, h, w, interleaved)
        inverted = page.photometric == _WHITE_IS_ZERO
    interleaved = np.moveaxis(planes[:, 0], 0, 2).reshape(height, width, -1)
    samples = np.ascontiguousarray(interleaved, np.uint16)
    if alpha == _ASSOCIATED:
        _unassociate(samples)
    if inverted:
        np.invert(samples[:, :, 0], out=samples[:, :, 0])
    return samples


def _check_size(stored: tuple[int, int], size: tuple[int, int]) -> None:
    if stored != size:
        said = f"{stored[0]}x{stored[1]} pixels where {size[0]}x{size[1]} were expected"
        raise ImageError(f"the image cannot be read: it has {said}")


def _check_layout(page: Any, file_bytes: int) -> None:
    """Refuse samples of another type, and what would take much more memory than the pixels do."""
    if page.dtype != np.uint16 or page.bitspersample != 16:
        kind = _SAMPLE_FORMATS.get(page.sampleformat, "unknown")
        said = f"{kind} samples of {page.bitspersample} bits"
        raise ImageError(f"the image has {said}: convert it to unsigned ones of 16 bits first")
    if page.compression not in _COMPRESSIONS:
        name = getattr(page.compression, "name", page.compression)
        said = f"TIFF compression {name}, which is not read at 16 bits per sample"
        raise ImageError(f"the image has {said}: save it with LZW or deflate first")
    parts, samples = math.prod(page.chunked), math.prod(page.shape)
    if (
        page.imagedepth != 1
        or len(page.dataoffsets) != parts
        or len(page.databytecounts) != parts
        or sum(page.databytecounts) > file_bytes
        or math.prod(page.chunks) > max(samples, _TILE_SAMPLES)
    ):
        raise ImageError("the image cannot be read: its strips or tiles do not fit it")


def _alpha_kind(page: Any) -> int | None:
    """Return the TIFF ExtraSamples of the alpha channel; None if there is none."""
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        said = _OTHER_PHOTOMETRICS.get(page.photometric, f"of TIFF photometric {page.photometric}")
        raise ImageError(f"the image is {said}: convert it to RGB first")
    extra = page.samplesperpixel - (3 if page.photometric == _RGB else 1)
    if extra == 0:
        return None
    if extra != 1:
        said = f"{page.samplesperpixel} channels, not 1 or 3 and perhaps alpha"
        raise ImageError(f"the image has {said}: convert it to RGB first")
    kind = int(page.extrasamples[0]) if page.extrasamples else 0
    if kind not in (_ASSOCIATED, _UNASSOCIATED):
        said = f"an extra channel that its file does not call alpha (TIFF ExtraSamples {kind})"
        raise ImageError(f"the image has {said}: remove it first, or save it as alpha")
    return kind


def _unassociate(samples: NDArray[np.uint16]) -> None:
    """Divide colours by alpha, in place and rounded; nothing is left of what cannot be seen."""
    alpha = samples[:, :, -1]
    divisor = np.maximum(alpha, 1).astype(np.uint32)
    for channel in range(samples.shape[2] - 1):
        # A colour is at most alpha, so that 65,535 times it, half an alpha added, fits 32 bits.
        colour = np.minimum(samples[:, :, channel], alpha).astype(np.uint32)
        colour *= 65_535
        colour += divisor // 2
        colour //= divisor
        samples[:, :, channel] = colour


def _write_png(codecs: Any, pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    encoded: bytes = codecs.png_encode(pixels, level=_PNG_LEVEL)
    parts = [encoded[:_PNG_HEADER_BYTES]]
    if metadata.icc:
        parts.append(_png_chunk(b"iCCP", b"ICC profile\x00\x00" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        across, down = (round(value / _METRES_PER_INCH) for value in metadata.dpi)
        parts.append(_png_chunk(b"pHYs", struct.pack(">2IB", across, down, 1)))
    if metadata.exif:
        parts.append(_png_chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        text = metadata.xmp.decode("utf-8", "replace").encode()
        parts.append(_png_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + text))
    return b"".join([*parts, encoded[_PNG_HEADER_BYTES:]])


def _png_chunk(fourcc: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(payload, zlib.crc32(fourcc))
    return struct.pack(">I", len(payload)) + fourcc + payload + struct.pack(">I", crc)


def _write_tiff(tifffile: Any, pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    tags = [(tag, _TIFF_ASCII, None, text, True) for tag, text in _descriptions(metadata.exif)]
    if metadata.xmp:
        tags.append((_XMP_TAG, _TIFF_BYTE, None, metadata.xmp, True))
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="adobe_deflate",
        predictor=True,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        iccprofile=metadata.icc or None,
        extratags=tags,
        metadata=None,
        software=False,
    )
    return buffer.getvalue()


def _descriptions(exif: bytes) -> list[tuple[int, bytes]]:
    """Return the descriptive texts of an EXIF block by tag, as far as it can be read."""
    found: dict[int, bytes] = {}
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4], "<")
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, length, where = struct.unpack_from(f"{order}2H2I", exif, entry)
            start = entry + 8 if length <= 4 else where
            text = exif[start : start + length].rstrip(b"\x00")
            if tag in _DESCRIPTIVE and kind == _TIFF_ASCII and text:
                found.setdefault(tag, text)
    except struct.error:  # what came before it is kept
        pass
    return list(found.items())
