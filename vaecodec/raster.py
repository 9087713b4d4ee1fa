"""The pixels of one image, upright, as the codec takes and gives them.

A raster is read in rectangles, so that a large Pillow image need not be copied whole. What Pillow
has in other modes becomes one of the format's four (grey or RGB, with or without alpha, 8 or 16
bits); where that changes more than the storage, a notice says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaecodec.alpha import fill_hidden
from vaecodec.bundle import PATCH
from vaecodec.container import Mode
from vaecodec.decoders import check_decoder
from vaecodec.errors import ImageError
from vaecodec.metadata import Metadata, image_orientation
from vaecodec.pillow_modes import DEEP_GREY, TO_SRGB, to_plain
from vaecodec.probing import stored_bits
from vaecodec.segments import Box
from vaecodec.tidying import kept_metadata
from vaecodec.tiff_facts import check_tiff, mended_palette, unscaled_bits

Samples = NDArray[np.uint8 | np.uint16]

_PLAIN = {"L": Mode.GREY, "LA": Mode.GREY_ALPHA, "RGB": Mode.RGB, "RGBA": Mode.RGB_ALPHA}
_GREY_MODES = frozenset({"L", "LA"}) | DEEP_GREY
# Cameras append previews and gain maps to a JPEG, which Pillow then calls MPO. Its first frame is
# the photograph that every other program shows. A HEIC file marks its main picture, with which
# pillow-heif opens it.
_MAIN_FRAME_FORMATS = frozenset({"HEIF", "MPO"})
SAMPLE_TYPES: dict[int, type[np.uint8] | type[np.uint16]] = {8: np.uint8, 16: np.uint16}
"""Of samples, by their bits."""

# How a stored image is turned upright, by its EXIF orientation: rows and columns change places,
# then columns are reversed, then rows.
_SWAPPED, _MIRRORED, _FLIPPED = (
    frozenset({5, 6, 7, 8}),
    frozenset({2, 3, 6, 7}),
    frozenset({3, 4, 7, 8}),
)

_ROWS = 64


@dataclass(frozen=True, eq=False)  # arrays have no one answer to ==
class Raster:
    """An image of one of the format's modes. Two are equal if they are the same object.

    Attributes:
        pixels: a Pillow image of a plain mode, or an array ``(h, w, mode)`` uint8 or uint16.
        mode: grey or RGB, with or without alpha.
        bit_depth: 8 or 16.
        metadata: what is kept besides pixels; its orientation is upright.
        orientation: how a Pillow image is to be turned, 1 to 8 as in EXIF; arrays are upright.
        notices: what was changed to make the image fit, or is lost of it, a sentence each.
        lost: rectangles of the image that a damaged file no longer has, or their alpha.
    """

    pixels: Image.Image | Samples
    mode: Mode
    bit_depth: int
    metadata: Metadata = field(default_factory=Metadata)
    orientation: int = 1
    notices: tuple[str, ...] = ()
    lost: tuple[Box, ...] = ()

    @property
    def width(self) -> int:
        """Pixels of the upright image, from left to right."""
        return self._size[0]

    @property
    def height(self) -> int:
        """Pixels of the upright image, from top to bottom."""
        return self._size[1]

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Of its samples."""
        return SAMPLE_TYPES[self.bit_depth]

    @property
    def is_deep_colour(self) -> bool:
        """Whether it has 16 bits per sample and more than grey, for which Pillow has no mode."""
        return self.bit_depth == 16 and self.mode is not Mode.GREY

    @property
    def box(self) -> Box:
        """The rectangle of the whole upright image."""
        return Box(0, 0, self.height, self.width)

    @property
    def _size(self) -> tuple[int, int]:
        if isinstance(self.pixels, np.ndarray):
            return self.pixels.shape[1], self.pixels.shape[0]
        width, height = self.pixels.size
        return (height, width) if self.orientation in _SWAPPED else (width, height)

    def read(self, box: Box | None = None) -> Samples:
        """Return a rectangle of the upright image, all of it by default.

        Returns:
            ``(h, w, mode)`` uint8 or uint16, which may be read-only.

        Raises:
            ImageError: the pixels cannot be read.
        """
        box = box or self.box
        if isinstance(self.pixels, np.ndarray):
            return self.pixels[box.top : box.bottom, box.left : box.right]
        try:
            samples = np.asarray(_cropped(self.pixels, self._stored(box)))
        except MemoryError:
            raise
        except Exception as error:  # an image that was opened elsewhere may decode only now
            raise unreadable(error) from error
        samples = samples.astype(SAMPLE_TYPES[self.bit_depth], copy=False)
        return turned(samples.reshape(*samples.shape[:2], self.mode), self.orientation)

    def _stored(self, box: Box) -> tuple[int, int, int, int]:
        """Return where a rectangle lies before it is turned: left, top, right, bottom."""
        top, left, bottom, right = box.top, box.left, box.bottom, box.right
        if self.orientation in _FLIPPED:
            top, bottom = self.height - bottom, self.height - top
        if self.orientation in _MIRRORED:
            left, right = self.width - right, self.width - left
        if self.orientation in _SWAPPED:
            return top, left, bottom, right
        return left, top, right, bottom

    def rgb(self) -> NDArray[np.uint8]:
        """Return the colours, alpha left aside, as ``(h, w, 3)`` of 8 bits; maybe read-only."""
        colours = self.read()[:, :, : self.mode.colours] >> (self.bit_depth - 8)
        return np.broadcast_to(colours.astype(np.uint8, copy=False), (*colours.shape[:2], 3))

    def without(self, strip: Collection[str]) -> Raster:
        """Return the same image without some kinds of metadata."""
        return replace(self, metadata=self.metadata.without(strip))

    def to_pillow(self) -> Image.Image:
        """Return a Pillow image, metadata left aside.

        Raises:
            ImageError: Pillow has no mode for it.
        """
        if self.is_deep_colour:
            raise ImageError(
                f"Pillow has no images of 16 bits per sample and {self.mode:d} samples per pixel: "
                "decode to an array"
            )
        samples = self.read()
        return Image.fromarray(samples[:, :, 0] if self.mode is Mode.GREY else samples)


def _cropped(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Crop an image, as its own method does, which holds the result to Pillow's limit."""
    image.load()
    return cast("Any", image)._new(image.im.crop(box))


def as_raster(image: Image.Image | Samples | Raster) -> Raster:
    """Take what an encoder is given.

    Raises:
        ImageError: it is an image or array of a kind that has no place here.
        TypeError: it is neither.
    """
    if isinstance(image, Raster):
        return image
    if isinstance(image, Image.Image):
        return from_pillow(image)
    if isinstance(image, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
        return from_array(image)
    raise TypeError(
        f"image must be a PIL image, as Image.open gives, or an array, not {type(image)}"
    )


def turned(samples: Samples, orientation: int) -> Samples:
    """Return stored samples ``(h, w, c)``, turned upright by their orientation, 1 to 8."""
    if orientation in _SWAPPED:
        samples = samples.transpose(1, 0, 2)
    if orientation in _MIRRORED:
        samples = samples[:, ::-1]
    if orientation in _FLIPPED:
        samples = samples[::-1]
    return samples


def from_array(array: Samples, metadata: Metadata | None = None) -> Raster:
    """Take an array for an upright image.

    Args:
        array: ``(h, w)`` or ``(h, w, c)``, uint8 or uint16 of any byte order; c is
            1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
        metadata: what goes with it.

    Raises:
        ImageError: it is of another kind.
    """
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # it may be another machine's
    dtypes = {np.dtype(kind): depth for depth, kind in SAMPLE_TYPES.items()}
    samples = array[:, :, np.newaxis] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in tuple(Mode) or not samples.size:
        raise ImageError(f"an array of shape {array.shape} is no image: (h, w, 1 to 4) would be")
    if array.dtype not in dtypes:
        raise ImageError(f"samples must be uint8 or uint16, not {array.dtype}")
    mode = Mode(samples.shape[2])
    return Raster(samples, mode, dtypes[array.dtype], metadata or Metadata())


def from_pillow(image: Image.Image) -> Raster:
    """Take a Pillow image of any mode that the format has a place for.

    Raises:
        ImageError: it has several frames, is empty or of another kind, or cannot be read.
    """
    check_decoder(image)
    try:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in _MAIN_FRAME_FORMATS:
            raise ImageError(
                f"the file holds {frames} images: save the one to keep on its own first"
            )
        if 0 in image.size:
            raise ImageError(f"the image is empty: it has {image.width}x{image.height} pixels")
        if image.format == "TIFF":
            check_tiff(image)
        bits = stored_bits(image, b"")
        image.load()
        plain, notice = to_plain(mended_palette(image))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # on damage Pillow's readers raise whatever they run into
        raise (_closed() if _is_closed(image) else unreadable(error)) from error
    # Known only now: metadata may follow the pixels, and Pillow itself turns what is in a TIFF.
    orientation = image_orientation(image)
    is_deep = isinstance(plain, np.ndarray) or plain.mode in DEEP_GREY
    is_grey = isinstance(plain, np.ndarray) or plain.mode in _GREY_MODES
    # The profile of a mode that is converted was one of other colours.
    metadata, kept_notices = kept_metadata(
        image, orientation, is_grey=is_grey, is_converted=image.mode in TO_SRGB
    )
    notices = ((notice,) if notice else ()) + kept_notices
    if bits > 8 and not is_deep:
        notices += (cut_notice(bits),)
    if frames > 1:
        which = "main" if image.format == "HEIF" else "first"
        notices += (f"only the {which} of its {frames} images is stored",)
    if isinstance(plain, np.ndarray):
        raster = from_array(turned(plain, orientation), metadata)
        return replace(raster, notices=notices)
    if plain.mode in DEEP_GREY:
        if (depth := unscaled_bits(image)) < 16:
            grey = turned(to_sixteen(np.asarray(plain)[:, :, np.newaxis], depth), orientation)
            return replace(from_array(grey, metadata), notices=notices)
        return Raster(plain, Mode.GREY, 16, metadata, orientation, notices)
    return Raster(plain, _PLAIN[plain.mode], 8, metadata, orientation, notices)


def _is_closed(image: Image.Image) -> bool:
    """Tell whether an image has no pixels, and nothing left to read them from."""
    file = getattr(image, "fp", None)
    try:
        has_pixels = bool(image.im.size)
    except Exception:  # each version of Pillow says it in its own way
        has_pixels = False
    return not has_pixels and (file is None or getattr(file, "closed", False))


def _closed() -> ImageError:
    return ImageError(
        "the image is closed: use it inside the `with` that opens it, or load() it there"
    )


def to_sixteen(samples: NDArray[np.uint16], bits: int) -> NDArray[np.uint16]:
    """Return samples of fewer bits as those of 16, rounded; larger ones count as the largest."""
    top = 2**bits - 1
    scaled = np.minimum(samples, top).astype(np.uint32)
    scaled *= 65_535
    scaled += top // 2
    scaled //= top
    return scaled.astype(np.uint16)


def cut_notice(bits: int) -> str:
    """Return what to say of an image that loses bits."""
    return f"its {bits} bits per sample are stored as 8"


def unreadable(error: Exception) -> ImageError:
    """Return the error for an image that Pillow or another library could not read."""
    return ImageError(f"the image cannot be read: {str(error) or type(error).__name__}")


def other_size(stored: tuple[int, int], expected: tuple[int, int]) -> ImageError:
    """Return the error for an image whose file has another width and height than it claimed."""
    said = f"{stored[0]}x{stored[1]} pixels where {expected[0]}x{expected[1]} were expected"
    return ImageError(f"the image cannot be read: it has {said}")


def padded_shape(height: int, width: int) -> tuple[int, int, int, int]:
    """Return the shape of planes whose sides are the next multiples of `PATCH`."""
    return 1, 3, height + -height % PATCH, width + -width % PATCH


def to_planes(
    samples: Samples, out: NDArray[np.float32] | None = None, *, mirrored: bool = False
) -> NDArray[np.float32]:
    """Return colours as the encoder takes them.

    Args:
        samples: ``(h, w, 1 to 4)`` uint8 or uint16, as `Raster.read` gives them. Where alpha is
            zero, colours are replaced by what `fill_hidden` finds.
        out: an array of `padded_shape` to write to, and to return.
        mirrored: what is beyond the image: its mirror image instead of its last row and column. It
            takes more bits, but noise stays noise in it, where repeated it would be stripes.

    Returns:
        ``(1, 3, H, W)`` float32 in [0, 1], where H and W are h and w padded at the bottom and the
        right to multiples of `PATCH`. Grey fills all three channels.
    """
    height, width, channels = samples.shape
    mode = Mode(channels)
    if out is None:
        out = np.empty(padded_shape(height, width), np.float32)
    planes = out[0, :, :height, :width]
    top = np.float32(np.iinfo(samples.dtype).max)
    for rows in _row_blocks(height):
        colours = samples[rows, :, : mode.colours].transpose(2, 0, 1)
        np.divide(colours, top, out=planes[:, rows])
    if mode.has_alpha:
        fill_hidden(planes, samples[:, :, -1])
    _fill_beyond(out, height, width, "symmetric" if mirrored else "edge")
    return out


def pad_mirrored(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``(1, 3, h, w)`` with its mirror image up to multiples of `PATCH`."""
    height, width = planes.shape[2:]
    out = np.empty(padded_shape(height, width), np.float32)
    out[:, :, :height, :width] = planes
    _fill_beyond(out, height, width, "symmetric")
    return out


def _fill_beyond(
    planes: NDArray[np.float32], height: int, width: int, mode: Literal["edge", "symmetric"]
) -> None:
    """Fill what is beyond an image with rows and columns of it, as `numpy.pad` chooses them."""
    rows, columns = (
        np.pad(np.arange(inside), (0, side - inside), mode)[inside:]
        for side, inside in zip(planes.shape[2:], (height, width), strict=True)
    )
    planes[:, :, :height, width:] = planes[:, :, :height, columns]
    planes[:, :, height:] = planes[:, :, rows]


def _row_blocks(height: int) -> Iterator[slice]:
    """Yield rows, so few at a time that what is made of them on the way stays in the cache."""
    for start in range(0, height, _ROWS):
        yield slice(start, start + _ROWS)


def from_planes(planes: NDArray[np.float32], out: Samples) -> None:
    """Write what the decoder gives as samples: the inverse of `to_planes`, rounded.

    Args:
        planes: ``(3, h, w)`` float32, nominally in [0, 1].
        out: ``(h, w, 1 or 3)`` uint8 or uint16; grey takes the mean of the three channels.
    """
    top = np.iinfo(out.dtype).max
    # Truncation after +0.5 rounds half up. Unlike clip, fmax turns NaN into a number, so that
    # planes of any content give an image.
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in _row_blocks(out.shape[0]):
            block = planes[:, rows]
            if out.shape[2] == 1:
                block = block.mean(axis=0, keepdims=True)
            for plane, target in zip(block, out[rows].transpose(2, 0, 1), strict=True):
                scaled = plane * np.float32(top)
                scaled += 0.5
                np.fmin(np.fmax(scaled, 0, out=scaled), top, out=scaled)
                target[...] = scaled
