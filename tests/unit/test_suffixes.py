"""Folders take every suffix whose content is read, and no other."""

from __future__ import annotations

from pathlib import Path

import pillow_jxl  # noqa: F401  # which registers itself
from PIL import Image
from pillow_heif import register_heif_opener

from vaecodec.image import IMAGE_SUFFIXES, read_image
from vaecodec.jobs import Compress, Denoise

# All that Pillow reads, but for fonts, scientific data, programs' own textures, films, and what
# starts another program.
READ = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "HEIF", "ICNS", "ICO", "JPEG", "JPEG2000", "JXL", "MPO"),
    *("PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
)


def test_every_suffix_of_a_format_that_is_read_is_an_image():
    register_heif_opener()
    Image.init()
    registered = {suffix for suffix, name in Image.EXTENSION.items() if name.upper() in READ}
    registered -= {".pfm"}  # of floats, which are refused
    assert {*registered, ".hif", ".jxl"} == IMAGE_SUFFIXES


def test_jobs_take_them():
    for suffix in (".jfif", ".jpe", ".hif", ".mpo", ".tga", ".gif", ".psd"):
        assert Compress().takes(suffix)
        assert Denoise().takes(suffix)
    assert not Compress().takes(".eps")


def test_what_the_suffixes_name_is_read(tmp_path: Path):
    picture = Image.linear_gradient("L").resize((64, 64))
    for suffix in sorted(IMAGE_SUFFIXES):
        name = Image.registered_extensions().get(suffix, "")
        if name not in Image.SAVE or name in ("ICNS", "JXL"):
            continue
        path = tmp_path / f"picture{suffix}"
        picture.convert("1" if name == "XBM" else "RGB").save(path)
        raster = read_image(path.read_bytes())
        assert (raster.width, raster.height) == (64, 64), suffix
