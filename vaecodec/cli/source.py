"""The single image that a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaecodec.cli.console import about, tell_notices

if TYPE_CHECKING:
    from vaecodec.limits import Limits
    from vaecodec.raster import Raster


def read_source(source: str, limits: Limits, *, quiet: bool) -> tuple[Raster, int]:
    """Read an image, and say what was changed to make it fit.

    Args:
        source: A file; `-` for standard input.
        limits: Held against its size.
        quiet: Whether nothing is said.

    Returns:
        The image, and the bytes of its file.

    Raises:
        VaecodecError: If it cannot be read.
    """
    from vaecodec.fileio import read_bytes
    from vaecodec.hushed import libraries_hushed
    from vaecodec.image import read_image

    data = read_bytes(source, limits)
    with about(source), libraries_hushed():
        image = read_image(data, limits)
    tell_notices(source, image.notices, quiet=quiet)
    return image, len(data)
