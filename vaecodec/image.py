"""Image files in memory <-> rasters: any still image that Pillow opens, and 16-bit colour."""

import io
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from PIL import Image, UnidentifiedImageError

from vaecodec.container import MAGIC
from vaecodec.decoders import limit_error, make_room
from vaecodec.deep import read_deep, write_deep
from vaecodec.errors import ImageError, UnfitFormatError, VaecodecError
from vaecodec.jpeg_parts import with_parts
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.metadata import KINDS, Metadata, image_orientation, kinds_in, save_options
from vaecodec.opening import open_file
from vaecodec.placing import placed
from vaecodec.probing import is_misread, stored_bits
from vaecodec.raster import Raster, cut_notice, from_array, from_pillow, turned, unreadable
from vaecodec.tidying import kept_metadata
from vaecodec.tiff_facts import check_deflated, check_tiff

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
# What their libraries refuse, libjpeg with a line of its own.
_SIDES = {"JPEG": 65_500, "WEBP": 16_383}
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
    try:
        return _read(data, limits)
    except (VaecodecError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise limit_error(error, limits) from error
    except UnidentifiedImageError as error:
        raise ImageError("this is not an image that Pillow can read, or a damaged one") from error
    except Exception as error:  # on damage Pillow's readers raise whatever they run into
        raise unreadable(error) from error


def _read(data: bytes, limits: Limits) -> Raster:
    """Read an image file; on damage, this raises whatever Pillow does."""
    opened = open_file(data, limits)
    image = opened.image
    if image.format == "TIFF":
        check_tiff(image)
    bits = stored_bits(image, data)
    if bits > 8 and is_misread(image) and image.format not in _CUT_FORMATS:
        raster = _read_deep(image, opened.data)
        return replace(raster, notices=raster.notices + opened.notices)
    if image.format == "TIFF":
        check_deflated(image, data)
    make_room(image, limits)
    raster = from_pillow(image)
    notices = raster.notices + opened.notices + opened.check_pixels()
    if bits > raster.bit_depth and cut_notice(bits) not in notices:
        notices += (cut_notice(bits),)
    return replace(raster, notices=notices)


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
    kept, notices = placed(raster.metadata, name)
    if name == "TIFF" and raster.is_deep_colour and kept.exif:
        notices += ("of EXIF, TIFF files of 16 bits per sample get the main texts alone",)
    return notices


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
    metadata, _ = placed(raster.metadata, name)
    if raster.is_deep_colour:
        return write_deep(raster.read().astype(np.uint16, copy=False), name, metadata)
    if raster.bit_depth == 16 and name not in _DEEP_GREY_FORMATS:
        raise UnfitFormatError(f"{name} files hold 8 bits per sample: write .png or .tif instead")
    if raster.mode.has_alpha and name in _OPAQUE_FORMATS:
        raise UnfitFormatError(f"{name} files hold no alpha: write .png or .tif instead")
    if max(raster.width, raster.height) > _SIDES.get(name, 2**32):
        raise UnfitFormatError(
            f"{name} files hold at most {_SIDES[name]:,} pixels a side: write .png or .tif instead"
        )
    image = raster.to_pillow()
    buffer = io.BytesIO()
    try:
        options = save_options(metadata, name)
        image.save(buffer, format=name, **(_SAVE_OPTIONS.get(name, {}) | options))
    except MemoryError:
        raise
    except Exception as error:  # each of Pillow's writers refuses in its own way
        misfits = _misfits(metadata, name)
        hint = f" (what does not fit can be left out: --strip {','.join(misfits)})"
        hint = hint if misfits else ""
        reason = str(error) or type(error).__name__
        raise UnfitFormatError(
            f"the image cannot be written as {suffix}: {reason}{hint}"
        ) from error
    if name == "JPEG" and (metadata.iptc or metadata.xmp):
        return with_parts(buffer.getvalue(), metadata)
    return buffer.getbuffer()  # which is no second copy


def _misfits(metadata: Metadata, name: str) -> list[str]:
    """Return the kinds of metadata with which not even a small image can be written."""
    found: list[str] = []
    for kind in kinds_in(metadata):
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
    orientation = image_orientation(image)
    metadata, notices = kept_metadata(image, orientation, is_grey=samples.shape[2] < 3)
    return replace(from_array(turned(samples, orientation), metadata), notices=notices)


@contextmanager
def pillow_without_limits() -> Generator[None]:
    """Keep Pillow's own limit on pixels away, and its warnings in.

    Both are settings of the whole process, so this is for a process of our own, and one thread at a
    time: for the benchmark, which has Pillow open what it has just written. Reading and writing
    images needs neither.
    """
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = pixels
