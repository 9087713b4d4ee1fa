"""Every mode, every awkward size, with metadata and without: file in, the same file out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from PIL import Image, ImageCms
from support import SAMPLES

from vaecodec.codec import Codec
from vaecodec.container import Mode
from vaecodec.image import read_image, write_image
from vaecodec.metadata import Metadata
from vaecodec.metrics import fidelity_db
from vaecodec.raster import Samples, from_array

SIDES = (1, 2, 15, 16, 17, 63, 64, 65, 257)
SHORT = ((1, 1), (2, 257), (15, 64), (17, 63), (65, 16))
METADATA = Metadata(
    icc=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    exif=bytes.fromhex("49492a0008000000010012010300010000000100000000000000"),
    xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
    dpi=(300.0, 72.0),
)
LEAST_DB = 30
"""At quality 90: a single pixel is the worst of all."""


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec("base")


@pytest.fixture(scope="module")
def photograph() -> Samples:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        return np.asarray(image)[100:400, 300:600]


def pixels_of(photograph: Samples, mode: Mode, depth: int, width: int, height: int) -> Samples:
    rng = np.random.default_rng([width, height])
    colours = photograph[:height, :width, : mode.colours]
    if mode.has_alpha:
        alpha = rng.choice((0, 1, 128, 255), (height, width, 1)).astype(np.uint8)
        colours = np.dstack([colours, alpha])
    if depth == 8:
        return colours
    # Low bytes of their own, so that nothing passes that knows 8 bits alone.
    deep = colours.astype(np.uint16) * 256
    return np.where(colours > 0, deep | rng.integers(0, 256, deep.shape), 0).astype(np.uint16)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        pytest.param(*size, marks=() if size in SHORT else pytest.mark.exhaustive)
        for size in product(SIDES, SIDES)
    ],
)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("mode", Mode)
def test_a_file_comes_back(
    codec: Codec,
    photograph: Samples,
    mode: Mode,
    depth: int,
    width: int,
    height: int,
):
    samples = pixels_of(photograph, mode, depth, width, height)
    for metadata in (Metadata(), METADATA):
        source = read_image(bytes(write_image(from_array(samples, metadata), ".png")))
        np.testing.assert_array_equal(source.read(), samples)
        decoded = codec.decode_raster(codec.encode(source, quality=90))
        result = read_image(bytes(write_image(decoded, ".png")))
        assert (result.mode, result.bit_depth) == (mode, depth)
        assert (result.width, result.height) == (width, height)
        assert (result.metadata.icc, result.metadata.exif) == (metadata.icc, metadata.exif)
        assert result.metadata.xmp == metadata.xmp
        # PNG counts in pixels per metre.
        assert result.metadata.dpi == (metadata.dpi and pytest.approx(metadata.dpi, abs=0.02))
        if mode.has_alpha:
            np.testing.assert_array_equal(result.read()[:, :, -1], samples[:, :, -1])
        assert fidelity_db(source, result) > LEAST_DB
