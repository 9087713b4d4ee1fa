"""Refusals that said too little, or the wrong thing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import SAMPLES

from vaecodec.cli.folders import process_many
from vaecodec.codec import Codec
from vaecodec.container import Mode
from vaecodec.errors import (
    ImageError,
    InputError,
    InsufficientMemoryError,
    OutputError,
    UnfitFormatError,
)
from vaecodec.fileio import check_input, read_bytes
from vaecodec.image import read_image, write_image
from vaecodec.jobs import Compress
from vaecodec.metadata import Metadata
from vaecodec.raster import Raster, from_array, from_pillow

BIG_XMP = Path(__file__).parents[1] / "inputs" / "bigxmp.webp"
DEEP = np.arange(6 * 5 * 3, dtype=np.uint16).reshape(6, 5, 3) * 700


def saved(name: str) -> io.BytesIO:
    buffer = io.BytesIO()
    with Image.open(SAMPLES / "portrait.jpg") as image:
        image.resize((32, 24)).save(buffer, name)
    return buffer


def test_rasters_are_compared_by_identity():
    raster, other = from_array(DEEP), from_array(DEEP)
    assert raster == raster
    assert raster != other
    assert len({raster, other}) == 2


@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_of_either_byte_order(order: str, tiny_bundle: Path):
    array = DEEP.astype(f"{order}u2")
    raster = from_array(array)
    assert raster.read().dtype == np.uint16
    np.testing.assert_array_equal(raster.read(), DEEP)
    codec = Codec(tiny_bundle)
    assert codec.encode(array) == codec.encode(DEEP)
    np.testing.assert_array_equal(codec.denoise(array), codec.denoise(DEEP))
    floats = (DEEP / 65_535).astype(np.float32)
    np.testing.assert_array_equal(codec.denoise(floats.astype(f"{order}f4")), codec.denoise(floats))


def test_arrays_of_other_kinds_are_refused_by_their_names():
    for kind in (np.int16, np.uint32, np.bool_, object):
        with pytest.raises(ImageError, match=f"not {np.dtype(kind)}"):
            from_array(np.ones((4, 4), kind))


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000"])
def test_an_image_that_is_closed_is_said_to_be(name: str, tmp_path: Path):
    path = tmp_path / "image"
    path.write_bytes(saved(name).getvalue())
    with Image.open(path) as image:
        pass
    try:
        from_pillow(image)
    except ImageError as error:
        assert str(error).startswith("the image is closed")  # noqa: PT017
    else:
        assert name in ("WEBP", "AVIF")  # whose readers take all of a file at once
    with Image.open(path) as loaded:
        loaded.load()
        assert from_pillow(loaded).width == 32


def test_an_image_of_no_file_that_is_closed():
    image = Image.new("RGB", (8, 8))
    image.close()
    with pytest.raises(ImageError, match="the image is closed"):
        from_pillow(image)


@pytest.mark.parametrize(
    ("raster", "suffix"),
    [
        (from_array(np.zeros((1, 70_000, 3), np.uint8)), ".jpg"),
        (from_array(np.zeros((1, 17_000, 3), np.uint8)), ".webp"),
        (from_array(DEEP), ".jpg"),
        (from_array(DEEP[:, :, 0]), ".webp"),
        (from_array(np.zeros((4, 4, 4), np.uint8)), ".bmp"),
    ],
)
def test_a_format_too_small_for_a_picture_is_no_fault_of_the_input(raster: Raster, suffix: str):
    with pytest.raises(UnfitFormatError) as caught:
        write_image(raster, suffix)
    assert caught.value.exit_code == 6
    assert isinstance(caught.value, OutputError)
    assert isinstance(caught.value, ImageError)


def test_metadata_that_does_not_fit_is_named():
    raster = read_image(BIG_XMP.read_bytes())
    assert len(raster.metadata.xmp) > 65_502
    try:
        write_image(raster, ".jpg")
    except UnfitFormatError as error:
        assert str(error).endswith("left out: --strip xmp)")  # noqa: PT017
    kept = Metadata(exif=b"MM\0*\0\0\0\x08\0\0" + bytes(70_000), dpi=(300, 300))
    try:
        write_image(from_array(DEEP.astype(np.uint8), kept), ".jpg")
    except UnfitFormatError as error:
        assert str(error).endswith("left out: --strip exif)")  # noqa: PT017


@pytest.mark.parametrize("address", ["https://example.org/a.jpg", "HTTP://example.org/a.vaec"])
def test_addresses_of_the_web_are_told_from_folders(address: str):
    settings = {"recursive": False, "jobs": 1, "force": False, "as_json": False, "verbosity": 0}
    with pytest.raises(InputError, match="download it first"):
        process_many(Compress(), [address], None, quiet=True, **settings)
    for function in (read_bytes, check_input):
        with pytest.raises(InputError, match="download it first"):
            function(address)


class Hungry(Image.Image):
    """An image whose pixels take more memory than there is."""

    def load(self):
        raise MemoryError

    def crop(self, box=None):
        raise MemoryError


def test_too_little_memory_is_no_damage(tiny_bundle: Path):
    image = Hungry()
    image._mode, image._size = "RGB", (64, 64)
    with pytest.raises(MemoryError):
        from_pillow(image)
    with pytest.raises(InsufficientMemoryError, match="not enough memory"):
        Codec(tiny_bundle).encode(image)
    raster = Raster(image, Mode.RGB, 8)
    with pytest.raises(MemoryError):
        raster.read()
