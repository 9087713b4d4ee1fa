"""Image files in memory <-> rasters: any still image that Pillow opens, and 16-bit colour."""

import io
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from vaecodec.container import MAGIC
from vaecodec.deep import read_deep, write_deep
from vaecodec.errors import ImageError, UnfitFormatError, VaecodecError
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.metadata import KINDS, Metadata, image_orientation, read_metadata, save_options
from vaecodec.plugins import load_for
from vaecodec.probing import check_tiff, colour_notices, is_misread, stored_bits
from vaecodec.raster import Raster, from_array, from_pillow, turned, unreadable

IMAGE_SUFFIXES = frozenset(
    {
        *(".apng", ".avif", ".avifs", ".bmp", ".bw", ".dds", ".dib", ".gif", ".heic", ".heics"),
        *(".heif", ".heifs", ".hif", ".icb", ".icns", ".ico", ".j2c", ".j2k", ".jfif", ".jp2"),
        *(".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".pbm", ".pcx"),
        *(".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".ras", ".rgb", ".rgba"),
        *(".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm"),
    }
)
"""What counts as an image where a folder is searched for some."""

# Others that Pillow writes are none for photographs: they scale them, or hold 256 colours.
_WRITTEN = frozenset({"AVIF", "BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"})
_SUGGESTED_SUFFIXES = ".png, .tif, .webp, .bmp, .ppm, .jpg"
# Pillow's defaults would throw away what the codec kept: JPEG at 75 with halved chroma, WebP at 80.
# PNG takes twice the time at its default level, for files that are 4% smaller.
_SAVE_OPTIONS: dict[str, dict[str, object]] = {
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {"compress_level": 4},
    "WEBP": {"lossless": True},
}
# Pillow reads 16-bit samples of several channels as 8-bit ones; these formats have another reader.
_DEEP_FORMATS = frozenset({"PNG", "TIFF"})
# Of these it has no other reader, and few have more than 8 bits: that they lose them is said.
_CUT_FORMATS = frozenset({"AVIF", "HEIF", "JPEG2000"})
# Elsewhere Pillow cuts 16-bit grey to 8 bits, or refuses it.
_DEEP_GREY_FORMATS = frozenset({"JPEG2000", "PNG", "PPM", "TIFF"})
# Where Pillow drops alpha without a word, or refuses it.
_OPAQUE_FORMATS = frozenset({"BMP", "JPEG", "PPM"})
# Where Pillow has no place for profile, EXIF and XMP.
_BARE_FORMATS = frozenset({"BMP", "JPEG2000", "PPM", "TGA"})
_TEXT_BYTES = 2**25
_PILLOW_LOCK = threading.Lock()


def read_image(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Raster:
    """Read an image file of any format that Pillow knows.

    Args:
        data: The whole file.
        limits: Held against the size before any pixel is decoded, in place of Pillow's own.

    Raises:
        ImageError: If it is not an image, a damaged one, or of a kind that has no place here.
        LimitError: If it has too many pixels.
        RuntimeUnavailableError: If it needs a package that is missing: HEIC, JPEG XL, and several
            channels of 16 bits per sample.
    """
    if data.startswith(MAGIC):
        raise ImageError("this is a .vaec file already: decompress it first")
    with pillow_without_limits():
        try:
            image = _opened(data)
            limits.check_size(*image.size)
            if image.format == "TIFF":
                check_tiff(image)
            bits = stored_bits(image, data)
            if bits > 8 and is_misread(image) and image.format not in _CUT_FORMATS:
                return _read_deep(image, data)
            # A tile inside a file may claim more pixels than the image has.
            Image.MAX_IMAGE_PIXELS = limits.max_pixels
            raster = from_pillow(image)
            notices = colour_notices(image, data)
            if bits > raster.bit_depth:
                notices += (f"its {bits} bits per sample are stored as 8",)
            return replace(raster, notices=raster.notices + notices)
        except (VaecodecError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            raise ImageError(
                "this is not an image that Pillow can read, or a damaged one"
            ) from error
        except Exception as error:  # on damage Pillow's readers raise whatever they run into
            raise unreadable(error) from error


def _opened(data: bytes) -> Image.Image:
    """Open a file, through a plugin of Pillow's if need be."""
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        if not load_for(data):
            raise
        return Image.open(io.BytesIO(data))


def check_suffix(suffix: str) -> str:
    """Return Pillow's name of the format that a file's suffix stands for.

    Raises:
        ImageError: If Pillow writes no such format.
    """
    Image.init()
    name = Image.EXTENSION.get(suffix.lower(), "")
    if name not in Image.SAVE or name not in _WRITTEN:
        said = f"suffix {suffix}" if suffix else "a name without a suffix"
        raise ImageError(f"{said} names no format to write: use one of {_SUGGESTED_SUFFIXES}")
    return name


def writing_notices(raster: Raster, suffix: str) -> tuple[str, ...]:
    """Return what a file of the format that a suffix stands for has no place for, a sentence each.

    Args:
        raster: The image.
        suffix: As `write_image` takes it.
    """
    name = check_suffix(suffix)
    kept = raster.metadata
    if name in _BARE_FORMATS:
        parts = {"colour profile": kept.icc, "EXIF": kept.exif, "XMP": kept.xmp}
        lost = [part for part, found in parts.items() if found]
        return (f"{name} files hold no {', '.join(lost)}: left out",) if lost else ()
    if name == "TIFF" and raster.is_deep_colour and kept.exif:
        return ("of EXIF, TIFF files of 16 bits per sample get the main texts alone",)
    return ()


def write_image(raster: Raster, suffix: str) -> bytes | memoryview:
    """Return an image as a file of the format that a suffix stands for, metadata included.

    Lossless where the format allows it, at a high quality elsewhere.

    Args:
        raster: The image.
        suffix: As in a file's name, `.png` for instance, in any case.

    Raises:
        ImageError: If Pillow writes no such format.
        UnfitFormatError: If a file of that format cannot hold this image.
        RuntimeUnavailableError: If the packages that write 16-bit colour are missing.
    """
    name = check_suffix(suffix)
    if raster.is_deep_colour:
        return write_deep(raster.read().astype(np.uint16, copy=False), name, raster.metadata)
    if raster.bit_depth == 16 and name not in _DEEP_GREY_FORMATS:
        raise UnfitFormatError(f"{name} files hold 8 bits per sample: write .png or .tif instead")
    if raster.mode.has_alpha and name in _OPAQUE_FORMATS:
        raise UnfitFormatError(f"{name} files hold no alpha: write .png or .tif instead")
    image = raster.to_pillow()
    buffer = io.BytesIO()
    try:
        with pillow_without_limits():  # which reads EXIF anew for a TIFF
            metadata = save_options(raster.metadata, name)
        image.save(buffer, format=name, **(_SAVE_OPTIONS.get(name, {}) | metadata))
    except Exception as error:  # each of Pillow's writers refuses in its own way
        reason = str(error) or type(error).__name__
        misfits = _misfits(raster.metadata, name)
        hint = f" (what does not fit can be left out: --strip {','.join(misfits)})"
        problem = f"the image cannot be written as {suffix}: {reason}{hint if misfits else ''}"
        raise UnfitFormatError(problem) from error
    return buffer.getbuffer()  # which is no second copy


def _misfits(metadata: Metadata, name: str) -> list[str]:
    """Return the kinds of metadata with which not even a small image can be written."""
    found: list[str] = []
    for kind in KINDS:
        alone = metadata.without([other for other in KINDS if other != kind])
        try:
            options = _SAVE_OPTIONS.get(name, {}) | save_options(alone, name)
            Image.new("RGB", (16, 16)).save(io.BytesIO(), name, **options)
        except Exception:  # each of Pillow's writers refuses in its own way
            found.append(kind)
    return found


def _read_deep(image: Image.Image, data: bytes) -> Raster:
    """Read what Pillow would cut to 8 bits; its own word counts for all but the pixels."""
    if image.format not in _DEEP_FORMATS:
        raise ImageError(
            f"{image.format} files of 16 bits per sample are not read: save it as PNG or TIFF first"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"the file holds {frames} images: save the one to keep on its own first")
    samples = read_deep(data, str(image.format), image.size)
    if image.format == "PNG":
        image.load()  # metadata may follow the pixels
    metadata = read_metadata(image).upright()
    return from_array(turned(samples, image_orientation(image)), metadata)


@contextmanager
def pillow_without_limits() -> Generator[None]:
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
