"""Pillow images <-> arrays, and image files in memory.

This version encodes 8-bit RGB and grey. Whatever it would have to change to make it fit (alpha,
palettes, 16 bits, other colour spaces) is refused with a word on what to do, never converted in
silence. An EXIF orientation is applied, so that pixels come upright.
"""

import io
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from vaecodec.bundle import PATCH
from vaecodec.container import MAGIC, Mode
from vaecodec.errors import ImageError, VaecodecError
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.metadata import exif_orientation, raw_exif, save_options

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What counts as an image where a folder is searched for some."""

_SUGGESTED_SUFFIXES = ".png, .tif, .webp, .bmp, .ppm, .jpg"
# Pillow's defaults would throw away what the codec kept: JPEG at 75 with halved chroma, WebP at 80.
_SAVE_OPTIONS: dict[str, dict[str, object]] = {
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
_TRANSPARENT_MODES = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_REFUSED_MODES = {
    "1": "is black and white with 1 bit per pixel: convert it to 8-bit grey first",
    "P": "has a palette: convert it to RGB first",
    "CMYK": "is CMYK: convert it to RGB first, through its colour profile",
    "F": "has floating-point samples: convert it to 8 bits first",
}
_TOO_DEEP = "the image has more than 8 bits per sample: convert it to 8 bits first"
# What turns an image upright, by the value of its EXIF orientation.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Cameras append previews and gain maps to a JPEG, which Pillow then calls MPO. Its first frame is
# the photograph that every other program shows.
_FIRST_FRAME_FORMATS = frozenset({"MPO"})
_TEXT_BYTES = 2**25
_PILLOW_LOCK = threading.Lock()


def open_image(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Read an image file of any format that Pillow knows.

    Args:
        data: The whole file.
        limits: Held against the size before any pixel is decoded, in place of Pillow's own.

    Returns:
        The image with its pixels loaded, as they are stored: `to_array` turns them upright.

    Raises:
        ImageError: If it is not an image, a damaged one, or has 16 bits per sample.
        LimitError: If it has too many pixels.
    """
    if data.startswith(MAGIC):
        raise ImageError("this is a .vaec file already: decompress it first")
    with _pillow_without_limits():
        try:
            image = Image.open(io.BytesIO(data))
            limits.check_size(*image.size)
            _check_depth(image)
            # A tile inside a file may claim more pixels than the image has.
            Image.MAX_IMAGE_PIXELS = limits.max_pixels
            image.load()
        except VaecodecError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(
                "this is not an image that Pillow can read, or a damaged one"
            ) from error
        except Exception as error:  # on damage Pillow's readers raise whatever they run into
            raise ImageError(f"the image cannot be read: {_reason(error)}") from error
    return image


def to_array(image: Image.Image) -> tuple[NDArray[np.uint8], Mode]:
    """Return an image's pixels, upright.

    Args:
        image: RGB or L, one frame, without transparency.

    Returns:
        (h, w, c) uint8, which may be read-only, and the mode, whose value is c.

    Raises:
        ImageError: If the image is of another kind, or its pixels cannot be read.
    """
    try:
        _check_kind(image)
        _check_depth(image)
        image.load()
        transposition = _TRANSPOSITIONS.get(_orientation(image))
        upright = image if transposition is None else image.transpose(transposition)
        array = np.asarray(upright)
    except VaecodecError:
        raise
    except Exception as error:  # an image that was opened elsewhere may decode only now
        raise ImageError(f"the image cannot be read: {_reason(error)}") from error
    if array.ndim == 2:
        return array[:, :, np.newaxis], Mode.GREY
    return array, Mode.RGB


def to_planes(array: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return an image as the encoder takes it.

    Args:
        array: (h, w, 1 or 3) uint8.

    Returns:
        (1, 3, H, W) float32 in [0, 1], where H and W are h and w padded at the bottom and the
        right to multiples of `PATCH` by repeating the last row and column. Grey fills all three
        channels.
    """
    height, width = array.shape[:2]
    padding = ((0, -height % PATCH), (0, -width % PATCH), (0, 0))
    padded = np.pad(array, padding, mode="edge")
    planes = np.empty((1, 3, *padded.shape[:2]), np.float32)
    np.divide(padded.transpose(2, 0, 1), np.float32(255), out=planes[0])
    return planes


def from_planes(planes: NDArray[np.float32], width: int, height: int, mode: Mode) -> Image.Image:
    """Return what the decoder gives as an image: the inverse of `to_planes`, rounded.

    Args:
        planes: (1, 3, H, W) float32, nominally in [0, 1].
        width: At most W; what lies beyond is padding.
        height: At most H.
        mode: Grey takes the mean of the three channels.

    Raises:
        ValueError: If the planes do not cover the image.
    """
    if planes.ndim != 4 or planes.shape[:2] != (1, 3):
        raise ValueError(f"planes have shape {planes.shape}, not (1, 3, H, W)")
    if planes.shape[2] < height or planes.shape[3] < width:
        raise ValueError(f"planes of shape {planes.shape} do not cover {width}x{height} pixels")
    cropped = planes[0, :, :height, :width]
    if mode is Mode.GREY:
        cropped = cropped.mean(axis=0, keepdims=True)
    # Truncation after +0.5 rounds half up. Unlike clip, fmax turns NaN into a number, so that
    # planes of any content give an image.
    samples = np.fmin(np.fmax(cropped * 255 + 0.5, 0), 255).astype(np.uint8)
    if mode is Mode.GREY:
        return Image.fromarray(samples[0])
    return Image.fromarray(np.ascontiguousarray(samples.transpose(1, 2, 0)))


def check_suffix(suffix: str) -> str:
    """Return Pillow's name of the format that a file's suffix stands for.

    Raises:
        ImageError: If Pillow writes no such format.
    """
    Image.init()
    name = Image.EXTENSION.get(suffix.lower(), "")
    if name not in Image.SAVE:
        said = f"suffix {suffix}" if suffix else "a name without a suffix"
        raise ImageError(f"{said} names no format to write: use one of {_SUGGESTED_SUFFIXES}")
    return name


def encode_image(image: Image.Image, suffix: str) -> bytes:
    """Return an image as a file of the format that a suffix stands for, metadata included.

    Lossless where the format allows it, at a high quality elsewhere.

    Args:
        image: Any image.
        suffix: As in a file's name, `.png` for instance, in any case.

    Raises:
        ImageError: If Pillow writes no such format, or not this image in it.
    """
    name = check_suffix(suffix)
    buffer = io.BytesIO()
    with _pillow_without_limits():
        metadata = save_options(image, name)
    try:
        image.save(buffer, format=name, **(_SAVE_OPTIONS.get(name, {}) | metadata))
    except Exception as error:  # each of Pillow's writers refuses in its own way
        hint = " (metadata that does not fit can be left out: --strip all)" if metadata else ""
        reason = f"the image cannot be written as {suffix}: {_reason(error)}{hint}"
        raise ImageError(reason) from error
    return buffer.getvalue()


@contextmanager
def _pillow_without_limits() -> Generator[None]:
    """Keep Pillow's warnings in, and its own limit on pixels, which is under ours, away.

    Both are settings of the whole process, so one thread at a time may hold them.
    """
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels, text = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS = None
        # Of a PNG's metadata, which may be a colour profile of several megabytes.
        PngImagePlugin.MAX_TEXT_CHUNK = _TEXT_BYTES
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = pixels, text


def _check_kind(image: Image.Image) -> None:
    """Refuse what this version cannot store as it is."""
    frames = 1 if image.format in _FIRST_FRAME_FORMATS else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"the file holds {frames} images: save the one to keep on its own first")
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        raise ImageError(
            "the image has transparency, which this version cannot store: "
            "flatten it onto a background first"
        )
    if image.mode in _REFUSED_MODES:
        raise ImageError(f"the image {_REFUSED_MODES[image.mode]}")
    if image.mode.startswith("I"):
        raise ImageError(_TOO_DEEP)
    if image.mode not in ("RGB", "L"):
        raise ImageError(f"the image has Pillow's mode {image.mode}: convert it to RGB first")
    if 0 in image.size:
        raise ImageError(f"the image is empty: it has {image.width}x{image.height} pixels")


def _check_depth(image: Image.Image) -> None:
    """Refuse 16 bits per sample, which Pillow would cut to 8 on loading."""
    for tile in getattr(image, "tile", ()):
        if ";16" in str(tile[3]):
            raise ImageError(_TOO_DEEP)


def _orientation(image: Image.Image) -> int:
    """Return the orientation that EXIF or XMP give; what cannot be read counts as upright.

    An EXIF block is read by what will reset it there, so that both see the same.
    """
    found = exif_orientation(raw_exif(image))
    if found is not None:
        return found
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return image.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:
            return 1


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
