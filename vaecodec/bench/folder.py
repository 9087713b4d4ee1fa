"""The images of a folder, and which of them can be measured."""

from __future__ import annotations

from pathlib import Path

from vaecodec.errors import ImageError, InputError
from vaecodec.fileio import read_bytes
from vaecodec.image import IMAGE_SUFFIXES, read_image
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.raster import Raster


def find_images(folder: str | Path) -> list[Path]:
    """Return the images in a folder, by name; folders inside it are left aside.

    Raises:
        InputError: If the folder cannot be read, or holds none.
    """
    try:
        entries = sorted(Path(folder).iterdir())
        paths = [
            path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        ]
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from error
    if not paths:
        raise InputError(f"there are no images in {folder} ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths


def load_image(path: Path, limits: Limits = DEFAULT_LIMITS) -> Raster:
    """Return an image of a kind that the codec takes.

    Raises:
        VaecodecError: If it cannot be read or used; an `ImageError` names the file.
    """
    data = read_bytes(path, limits)
    try:
        return read_image(data, limits)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def check_plain(image: Raster, least_side: int) -> None:
    """Refuse what not every codec or metric takes, so that all are measured on the same images.

    Args:
        image: Any.
        least_side: Pixels that each side must have.

    Raises:
        ImageError: If it has alpha or 16 bits per sample, or is smaller.
    """
    if image.mode.has_alpha:
        raise ImageError("it has alpha: only images without are measured")
    if image.bit_depth != 8:
        raise ImageError(f"it has {image.bit_depth} bits per sample: only those of 8 are measured")
    if min(image.width, image.height) < least_side:
        raise ImageError(
            f"it has {image.width}x{image.height} pixels, and a metric needs {least_side} a side"
        )
