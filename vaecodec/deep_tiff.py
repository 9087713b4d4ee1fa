"""TIFF files of 16 bits per sample, through tifffile; see `vaecodec.deep`."""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecodec.errors import ImageError
from vaecodec.metadata import IPTC_TAG, Metadata
from vaecodec.raster import other_size, to_sixteen

# Those that fill a buffer of a given size. The others, JPEG 2000 for one, hold a size of their own,
# which may be any.
_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946, 50000})
_BITS = range(9, 17)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_OTHER_PHOTOMETRICS = {3: "a palette image", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab"}
_SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point"}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_XMP_TAG, _ORIENTATION_TAG = 700, 274
_TYPE_BYTE, _TYPE_ASCII, _TYPE_UNDEFINED = 1, 2, 7
# ImageDescription, Make, Model, Software, DateTime, Artist, Copyright: as `metadata` keeps them.
_DESCRIPTIVE = frozenset({270, 271, 272, 305, 306, 315, 33432})
_TILE_SAMPLES = 2**24  # that any tile may have, as small images lie in tiles larger than they are


def read_tiff(tifffile: Any, data: bytes, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Read the pixels of the first page, as `read_deep`, with the module tifffile."""
    # Of these two microscopes' files, tifffile would go through all pages first.
    with tifffile.TiffFile(io.BytesIO(data), is_lsm=False, is_scanimage=False) as file:
        page: Any = file.pages[0]
        width, height = stored = (int(page.imagewidth), int(page.imagelength))
        on_its_side = page.tags.valueof(_ORIENTATION_TAG) in (5, 6, 7, 8)
        if size not in ((stored, stored[::-1]) if on_its_side else (stored,)):
            raise other_size(stored, size)
        _check_layout(page, len(data))
        alpha = _alpha_kind(page)
        planes: NDArray[np.uint16] = page.asarray(squeeze=False)  # (planes, 1, h, w, interleaved)
        inverted = page.photometric == _WHITE_IS_ZERO
        bits = int(page.bitspersample)
    interleaved = np.moveaxis(planes[:, 0], 0, 2).reshape(height, width, -1)
    samples = np.ascontiguousarray(interleaved, np.uint16)
    if bits < 16:
        samples = to_sixteen(samples, bits)
    if alpha == _ASSOCIATED:
        _unassociate(samples)
    if inverted:
        np.invert(samples[:, :, 0], out=samples[:, :, 0])
    return samples


def _check_layout(page: Any, file_bytes: int) -> None:
    """Refuse samples of another type, and what would take much more memory than the pixels do."""
    if page.dtype != np.uint16 or page.bitspersample not in _BITS:
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


def write_tiff(tifffile: Any, pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    """Write pixels ``(h, w)`` or ``(h, w, c)`` and metadata, with the module tifffile."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    tags = [(tag, _TYPE_ASCII, None, text, True) for tag, text in _descriptions(metadata.exif)]
    if metadata.xmp:
        tags.append((_XMP_TAG, _TYPE_BYTE, None, metadata.xmp, True))
    if metadata.iptc:
        tags.append((IPTC_TAG, _TYPE_UNDEFINED, None, metadata.iptc, True))
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
            if tag in _DESCRIPTIVE and kind == _TYPE_ASCII and text:
                found.setdefault(tag, text)
    except struct.error:  # what came before it is kept
        pass
    return list(found.items())
