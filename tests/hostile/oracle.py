"""The one oracle for hostile input: bytes decode to an image, or raise `VaecodecError`.

Hypothesis, the fuzzer, the campaign of mutations and the replay of the corpus all ask it. Nothing
is swallowed: whatever else is raised, warnings included, comes out as it is, and what is returned
but wrong comes out as an `OracleError`. Time and memory are the business of `campaign.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vaecodec.cli.info import _describe, _read_facts
from vaecodec.codec import Codec
from vaecodec.container import Container, Header, Mode, read_header, unpack
from vaecodec.errors import ImageError, InsufficientMemoryError, VaecodecError
from vaecodec.image import write_image
from vaecodec.limits import Limits
from vaecodec.raster import Raster
from vaecodec.segments import Box

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
LIMITS = Limits(max_pixels=2**22)
"""As the package's own, but that the largest image costs seconds and not minutes."""
IMAGE = "image"

_WRITTEN_PIXELS = 2**13
"""Images up to this are also written as files: there, metadata from the file meets Pillow."""


class OracleError(AssertionError):
    """The codec did something that it must not do with any input."""


@cache
def codec() -> Codec:
    """Return the codec of the golden files, one thread wide."""
    return Codec(GOLDEN / "bundle", threads=1, limits=LIMITS)


def judge(data: bytes) -> None:
    """Decode in every way there is, and raise if any of them misbehaves."""
    verdict(data)


def verdict(data: bytes) -> str:
    """Judge, and say what decoding came to: "image", or the name of its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = _attempt(read_header, data)
        container = _attempt(unpack, data, LIMITS)
        _check_facts(data, container)
        raster = _attempt(codec().decode_raster, data)
        preview = _attempt(codec().preview, data)
        if isinstance(header, Header):
            _check_region(data, header, raster)
        if isinstance(raster, VaecodecError):
            _require(type(preview) is type(raster), f"decoding: {raster!r}, preview: {preview!r}")
            return type(raster).__name__
        _require(isinstance(header, Header), f"an image without a header: {header!r}")
        _require(isinstance(container, Container), f"an image of no container: {container!r}")
        _check_raster(raster, header, (header.width, header.height))
        sides = (-(-header.width // 8), -(-header.height // 8))
        _check_raster(preview, header, sides)
        _check_pillow(data, raster)
        if header.width * header.height <= _WRITTEN_PIXELS:
            _check_files(raster)
        return IMAGE


def _attempt(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what a call returns, or the `VaecodecError` that it raises."""
    try:
        return call(*args, **options)
    except InsufficientMemoryError as error:
        # Under these limits nothing is large: more was asked for than the file can need.
        raise OracleError("memory was asked for without need") from error
    except VaecodecError as error:
        _require(bool(str(error)), f"a {type(error).__name__} without a message")
        _require(error.exit_code != 1, f"a {type(error).__name__} that is our own bug")
        return error


def _check_facts(data: bytes, container: Container | VaecodecError) -> None:
    """Hold `info`, whose limits are wider, to what reading gave."""
    facts = _attempt(_read_facts, data)
    if isinstance(container, Container):
        _require(isinstance(facts, dict), f"a container without facts: {facts!r}")
        _require(bool(_describe("file", facts)), "facts that cannot be described")


def _check_region(data: bytes, header: Header, whole: Raster | VaecodecError) -> None:
    """Decode the last pixel, and a few in the middle.

    Alpha must be that of the whole. Colours need not: latents that no image has may be so large
    that what a transform rounds away is seen.
    """
    height, width = header.height, header.width
    for box in (
        Box(height - 1, width - 1, height, width),
        Box(height // 2, width // 2, min(height // 2 + 3, height), min(width // 2 + 2, width)),
    ):
        part = _attempt(codec().decode_raster, data, region=box)
        if isinstance(part, VaecodecError):
            _require(isinstance(whole, VaecodecError), f"an image, but no region: {part!r}")
            continue
        _check_raster(part, header, box.shape[::-1])
        if isinstance(whole, Raster) and header.mode.has_alpha:
            same = (part.read()[:, :, -1] == whole.read(box)[:, :, -1]).all()
            _require(bool(same), "a region with another alpha than the whole")


def _check_raster(raster: Any, header: Header, size: tuple[int, int]) -> None:
    _require(isinstance(raster, Raster), f"no raster: {raster!r}")
    pixels = raster.read()
    shape, dtype = (*size[::-1], int(header.mode)), np.dtype(f"u{header.bit_depth // 8}")
    _require(pixels.shape == shape, f"pixels {pixels.shape}, not {shape}")
    _require(pixels.dtype == dtype, f"samples {pixels.dtype}, not {dtype}")


def _check_pillow(data: bytes, raster: Raster) -> None:
    image = _attempt(codec().decode, data)
    if raster.bit_depth == 16 and raster.mode is not Mode.GREY:
        _require(isinstance(image, ImageError), f"Pillow has no such image: {image!r}")
    else:
        _require(image.size == (raster.width, raster.height), "a Pillow image of another size")


def _check_files(raster: Raster) -> None:
    """Write the image, with whatever metadata came with it."""
    for suffix in (".png", ".tif", ".jpg", ".webp"):
        written = _attempt(write_image, raster, suffix)
        _require(
            isinstance(written, ImageError) or len(written) > 0,
            f"writing {suffix} gave {written!r}",
        )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise OracleError(message)
