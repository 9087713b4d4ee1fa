"""Image files with 16 bits per sample and several channels, which Pillow would cut to 8.

PNG goes through imagecodecs and TIFF through tifffile, an optional extra that is loaded on use.
"""

import importlib
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecodec.deep_png import read_png, write_png
from vaecodec.deep_tiff import read_tiff, write_tiff
from vaecodec.errors import RuntimeUnavailableError, UnfitFormatError, VaecodecError
from vaecodec.metadata import Metadata
from vaecodec.raster import unreadable

_UNAVAILABLE = (
    "files of 16 bits per sample and several channels need imagecodecs and tifffile, "
    "which are not installed"
)


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
                return read_png(codecs, data, size)
            return read_tiff(tifffile, data, size)
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
        UnfitFormatError: If the format is another, or the libraries refuse.
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
                return write_png(codecs, pixels, metadata)
            return write_tiff(tifffile, pixels, metadata)
    except MemoryError:
        raise
    except Exception as error:  # each library refuses in its own way
        reason = str(error) or type(error).__name__
        raise UnfitFormatError(f"the image cannot be written as {format}: {reason}") from error


def _check_format(format: str) -> None:
    if format not in ("PNG", "TIFF"):
        raise UnfitFormatError(f"{format} files hold 8 bits per sample: write .png or .tif instead")


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
