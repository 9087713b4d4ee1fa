"""Colour descriptions that become profiles: the colours that come out are those that were meant."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from pillow_heif import register_heif_opener

from vaecodec.colour_signs import adobe_rgb
from vaecodec.deep_png import write_png
from vaecodec.icc import (
    BT709_CURVE,
    D65,
    SRGB_CURVE,
    Curve,
    Primaries,
    grey_profile,
    rgb_profile,
    space_of,
)
from vaecodec.image import read_image
from vaecodec.metadata import Metadata
from vaecodec.raster import as_raster

INPUTS = Path(__file__).parents[1] / "inputs"
P3 = Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT709 = Primaries((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
RGB = np.random.default_rng(5).integers(0, 256, (16, 24, 3), np.uint8)
SRGB = ImageCms.createProfile("sRGB")
BT2020_CHRM = (31_270, 32_900, 70_800, 29_200, 17_000, 79_700, 13_100, 4_600)


def seen(samples: np.ndarray, profile: bytes) -> np.ndarray:
    """Return what a viewer that knows profiles shows, in sRGB."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    image = ImageCms.profileToProfile(Image.fromarray(samples), source, SRGB, outputMode="RGB")
    return np.asarray(image).astype(int)


def chunk(name: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(name + payload)
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", crc)


def png(*chunks: bytes, deep: bool = False, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    if deep:
        import imagecodecs

        data = write_png(imagecodecs, RGB.astype(np.uint16) * 257, Metadata())
    else:
        Image.fromarray(RGB).convert(mode).save(buffer, "PNG", **options)
        data = buffer.getvalue()
    return b"".join((data[:33], *chunks, data[33:]))


def cicp(*codes: int) -> bytes:
    return chunk(b"cICP", bytes(codes))


def test_a_profile_of_srgb_changes_nothing():
    np.testing.assert_allclose(seen(RGB, rgb_profile("sRGB", BT709, SRGB_CURVE)), RGB, atol=1)


def test_a_profile_depends_on_its_colours_alone():
    first, second = (rgb_profile("Display P3", P3, SRGB_CURVE) for _ in range(2))
    assert first == second
    assert space_of(first) == "RGB"
    assert space_of(grey_profile("grey", D65, SRGB_CURVE)) == "grey"
    assert space_of(b"no profile") == ""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(first))
    assert ImageCms.getProfileDescription(opened).strip() == "Display P3"
    assert opened.profile.version == pytest.approx(4.3)
    red, green, blue = (xyz[0] for xyz in (
        opened.profile.red_colorant, opened.profile.green_colorant, opened.profile.blue_colorant
    ))  # fmt: skip
    # As Apple's Display P3.icc has them.
    np.testing.assert_allclose(red, (0.51512, 0.24120, -0.00105), atol=3e-4)
    np.testing.assert_allclose(green, (0.29198, 0.69225, 0.04189), atol=3e-4)
    np.testing.assert_allclose(blue, (0.15710, 0.06657, 0.78407), atol=3e-4)


@pytest.mark.parametrize(
    ("curve", "sample", "light"),
    [
        (SRGB_CURVE, 0.5, 0.21404),
        (SRGB_CURVE, 0.03, 0.03 / 12.92),
        (BT709_CURVE, 0.5, ((0.5 + 0.099) / 1.099) ** (1 / 0.45)),
        (BT709_CURVE, 0.05, 0.05 / 4.5),
        (Curve(2.2), 0.5, 0.5**2.2),
        (Curve(1.0), 0.5, 0.5),
    ],
)
def test_curves(curve: Curve, sample: float, light: float):
    """A linear profile of the light shows the same as the sample through the curve."""
    value = np.full((1, 1, 3), round(255 * sample), np.uint8)
    exact = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    slack = 3 if sample < 0.1 else 2
    np.testing.assert_allclose(seen(value, rgb_profile("x", BT709, curve)), 255 * exact, atol=slack)


@pytest.mark.parametrize(
    "points",
    [
        ((0, 0), (0.3, 0.6), (0.15, 0.06)),
        ((0.3, 0.3), (0.3, 0.3), (0.3, 0.3)),
        ((0.1, 0.1), (0.2, 0.2), (0.3, 0.3)),
        ((9, 9), (0.3, 0.6), (0.15, 0.06)),
    ],
)
def test_primaries_that_are_none(points: tuple):
    with pytest.raises(ValueError, match=r"no colours|no chromaticities"):
        rgb_profile("x", Primaries(*points), SRGB_CURVE)


# PNG


@pytest.mark.parametrize("deep", [False, True])
def test_display_p3_of_a_png(deep: bool):
    raster = read_image(png(cicp(12, 13, 0, 1), deep=deep))
    assert raster.notices == ()
    assert raster.metadata.icc == rgb_profile("Display P3", P3, SRGB_CURVE)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("codes", [(9, 16, 0, 1), (9, 18, 0, 1), (1, 16, 0, 1), (10, 8, 0, 1)])
def test_no_profile_is_exact_for_hdr(deep: bool, codes: tuple[int, ...]):
    raster = read_image(png(cicp(*codes), deep=deep))
    assert raster.metadata.icc == b""
    (notice,) = raster.notices
    assert "(cICP) is not kept: no profile is exact for" in notice


@pytest.mark.parametrize("deep", [False, True])
def test_a_narrow_range(deep: bool):
    assert "narrow range" in read_image(png(cicp(1, 13, 0, 0), deep=deep)).notices[0]


def test_code_points_go_before_a_profile():
    other = adobe_rgb(is_grey=False)
    raster = read_image(png(cicp(12, 13, 0, 1), icc_profile=other))
    assert raster.metadata.icc == rgb_profile("Display P3", P3, SRGB_CURVE)
    assert raster.notices == (
        "its colour profile is replaced by what its cICP chunk says, which goes first",
    )
    raster = read_image(png(cicp(9, 16, 0, 1), icc_profile=other))
    assert raster.metadata.icc == other
    assert "no profile is exact for PQ" in raster.notices[0]


@pytest.mark.parametrize("deep", [False, True])
def test_gamma_and_primaries_of_a_png(deep: bool):
    linear = read_image(png(chunk(b"gAMA", struct.pack(">I", 100_000)), deep=deep))
    assert linear.notices == ()
    light = (RGB / 255.0).clip(1e-9)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(seen(RGB, linear.metadata.icc), 255 * encoded, atol=2)

    adobe = (31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)
    gamma = chunk(b"gAMA", struct.pack(">I", 45_470))
    raster = read_image(png(gamma, chunk(b"cHRM", struct.pack(">8I", *adobe)), deep=deep))
    np.testing.assert_allclose(
        seen(RGB, raster.metadata.icc), seen(RGB, adobe_rgb(is_grey=False)), atol=1
    )
    raster = read_image(png(chunk(b"cHRM", struct.pack(">8I", *BT2020_CHRM)), deep=deep))
    assert space_of(raster.metadata.icc) == "RGB"
    assert "without a gamma" in raster.notices[0]


def test_the_gamma_of_grey():
    for mode in ("L", "LA", "1"):
        raster = read_image(png(chunk(b"gAMA", struct.pack(">I", 100_000)), mode=mode))
        assert space_of(raster.metadata.icc) == "grey"


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"gAMA", struct.pack(">I", 45_455))],
        [chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"sRGB", b"\0")],
        [cicp(1, 13, 0, 1)],
        [cicp(2, 2, 0, 1)],
        [chunk(b"cHRM", struct.pack(">8I", *(round(1e5 * v) for point in (
            BT709.white, BT709.red, BT709.green, BT709.blue) for v in point)))],
    ],
)  # fmt: skip
def test_srgb_by_any_description_needs_no_profile(chunks: list[bytes]):
    raster = read_image(png(*chunks))
    assert (raster.metadata.icc, raster.notices) == (b"", ())


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"gAMA", bytes(4))],
        [chunk(b"gAMA", b"\xff\xff\xff\xff"), chunk(b"cHRM", bytes(32))],
        [chunk(b"cHRM", b"\xff" * 32)],
    ],
)
def test_numbers_that_are_no_colours(chunks: list[bytes]):
    raster = read_image(png(*chunks))
    assert raster.metadata.icc == b""
    assert "makes no sense: not kept" in raster.notices[0]


def test_pillows_images_come_to_the_same():
    for data in (
        png(chunk(b"gAMA", struct.pack(">I", 100_000))),
        (INPUTS / "rgb-with-cmyk-icc.jpg").read_bytes(),
    ):
        raster, lazy = read_image(data), as_raster(Image.open(io.BytesIO(data)))
        assert (lazy.metadata, lazy.notices) == (raster.metadata, raster.notices)


# Other formats


@pytest.mark.parametrize("transfer", [13, 16])
def test_code_points_of_a_heic(transfer: int):
    register_heif_opener()
    buffer = io.BytesIO()
    options = {"color_primaries": 12, "transfer_characteristics": transfer}
    Image.fromarray(RGB).save(buffer, "HEIF", save_nclx_profile=True, **options)
    data = bytearray(buffer.getvalue())
    place = data.index(b"colrnclx") + 8
    data[place : place + 4] = struct.pack(">2H", 12, transfer)
    for raster in (read_image(bytes(data)), as_raster(Image.open(io.BytesIO(data)))):
        if transfer == 13:
            assert raster.metadata.icc == rgb_profile("Display P3", P3, SRGB_CURVE)
            assert raster.notices == ()
        else:
            assert "(nclx) is not kept" in raster.notices[0]


def test_code_points_of_an_avif():
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "AVIF")
    data = bytearray(buffer.getvalue())
    place = data.index(b"colrnclx") + 8
    assert (read_image(bytes(data)).metadata.icc, read_image(bytes(data)).notices) == (b"", ())
    data[place : place + 4] = struct.pack(">2H", 9, 1)
    raster = read_image(bytes(data))
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(raster.metadata.icc)))
    assert name.strip() == "BT.2020, H.273 transfer 1"
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "AVIF", icc_profile=adobe_rgb(is_grey=False))
    assert read_image(buffer.getvalue()).metadata.icc == adobe_rgb(is_grey=False)


def test_adobe_rgb_that_a_camera_names():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "ACM"
    exif[ExifTags.Base.ExifOffset] = {
        ExifTags.Base.ColorSpace: 65_535,
        ExifTags.IFD.Interop: {1: "R03", 2: b"0100"},
    }
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG", exif=exif)
    raster = read_image(buffer.getvalue())
    assert raster.metadata.icc == adobe_rgb(is_grey=False)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_profile_of_other_colours_is_left_out(mode: str):
    cmyk = read_cmyk()
    grey = grey_profile("grey", D65, Curve(2.2))
    rgb = adobe_rgb(is_grey=False)
    wanted = {"L": (grey, rgb), "RGB": (rgb,), "CMYK": ()}[mode]
    for profile in (cmyk, grey, rgb):
        buffer = io.BytesIO()
        Image.fromarray(RGB).convert(mode).save(buffer, "JPEG", icc_profile=profile)
        raster = read_image(buffer.getvalue())
        assert raster.metadata.icc == (profile if profile in wanted else b"")
        said = any("left out" in notice for notice in raster.notices)
        assert said == (profile not in wanted and mode != "CMYK")


def read_cmyk() -> bytes:
    with Image.open(INPUTS / "rgb-with-cmyk-icc.jpg") as image:
        return image.info["icc_profile"]
