import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from vaecodec.container import MAGIC, Mode
from vaecodec.deep import write_deep
from vaecodec.errors import ImageError, LimitError, RuntimeUnavailableError, VaecodecError
from vaecodec.image import check_suffix, read_image, write_image, writing_notices
from vaecodec.limits import Limits
from vaecodec.metadata import Metadata
from vaecodec.plugins import load_heif, load_jxl
from vaecodec.raster import Raster, from_array

RNG = np.random.default_rng(1)
SAMPLES = {c: RNG.integers(1, 256, (5, 7, c), np.uint8) for c in (1, 2, 3, 4)}
DEEP = {c: RNG.integers(1, 65_536, (5, 7, c), np.uint16) for c in (1, 2, 3, 4)}
RGB = SAMPLES[3]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def written(raster: Raster, suffix: str) -> bytes:
    return bytes(write_image(raster, suffix))


def tiff(samples: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def png_chunk(fourcc: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(fourcc + payload)
    return struct.pack(">I", len(payload)) + fourcc + payload + struct.pack(">I", crc)


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    fields = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", fields)


def with_tail(png: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with chunks behind its pixels."""
    return b"".join((png[:-12], *chunks, png[-12:]))


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "ACM"
    return exif


def exif_block(orientation: int) -> bytes:
    return exif_of(orientation).tobytes().removeprefix(b"Exif\x00\x00")


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turn each channel as Pillow does."""
    channels = [Image.fromarray(samples[:, :, c]) for c in range(samples.shape[2])]
    for channel in channels:
        channel.getexif()[ExifTags.Base.Orientation] = orientation
    return np.dstack([np.asarray(ImageOps.exif_transpose(channel)) for channel in channels])


# Reading


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("samples", [SAMPLES, DEEP])
def test_file_to_raster_and_back(samples: dict[int, np.ndarray], channels: int):
    array = samples[channels]
    raster = read_image(written(from_array(array), ".png"))
    assert (raster.mode, raster.bit_depth, raster.notices) == (channels, 8 * array.itemsize, ())
    assert raster.read().dtype == array.dtype
    np.testing.assert_array_equal(raster.read(), array)


def test_a_conversion_is_told():
    raster = read_image(saved(Image.fromarray(RGB).convert("P")))
    assert raster.mode is Mode.RGB
    assert raster.notices == ("its palette is stored as RGB",)


@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_sixteen_bits_of_a_tiff_in_any_layout(layout: str, compression: str | None):
    planes = DEEP[3] if layout == "contig" else DEEP[3].transpose(2, 0, 1)
    data = tiff(planes, photometric="rgb", planarconfig=layout, compression=compression)
    np.testing.assert_array_equal(read_image(data).read(), DEEP[3])


@pytest.mark.parametrize("samples", [SAMPLES[1], DEEP[1]])
def test_white_may_be_zero(samples: np.ndarray):
    data = tiff(~samples[:, :, 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_image(data).read(), samples)


def test_signed_samples_of_a_tiff():
    with pytest.raises(ImageError, match="signed samples of 8 bits"):
        read_image(tiff(np.zeros((4, 5), np.int8)))
    with pytest.raises(ImageError, match="below 0 or above 65,535"):
        read_image(tiff(np.full((4, 5), -1, np.int16)))
    assert read_image(tiff(np.full((4, 5), 300, np.int16))).read().max() == 300


@pytest.mark.parametrize("tag", [(254, 4, 1, 1, True), (50706, 1, 4, b"\1\4\0\0", True)])
def test_a_cameras_raw_file_is_none_to_compress(tag: tuple[object, ...]):
    """Its first image is a preview, or not developed."""
    data = tiff(RGB, photometric="rgb", extratags=[tag])
    with pytest.raises(ImageError, match="raw file"):
        read_image(data)


def test_bits_that_are_lost_are_told():
    sixteen = np.zeros((20, 30, 3), np.uint16)
    for bits, data in (
        (16, imagecodecs.jpeg2k_encode(sixteen, level=0)),
        (10, imagecodecs.avif_encode(sixteen >> 6, bitspersample=10)),
    ):
        raster = read_image(data)
        assert raster.bit_depth == 8
        assert raster.notices == (f"its {bits} bits per sample are stored as 8",)
    for name in ("JPEG2000", "AVIF"):
        assert read_image(saved(Image.fromarray(RGB), name)).notices == ()


def test_colours_that_a_png_describes_without_a_profile():
    png = saved(Image.fromarray(RGB))
    head, rest = png[:33], png[33:]
    linear = head + png_chunk(b"gAMA", struct.pack(">I", 100_000)) + rest
    hdr = head + png_chunk(b"cICP", bytes((9, 16, 0, 1))) + rest
    assert read_image(linear).notices == ()
    assert read_image(linear).metadata.icc[36:40] == b"acsp"
    assert "(cICP) is not kept" in read_image(hdr).notices[0]
    for usual in (
        head + png_chunk(b"gAMA", struct.pack(">I", 45_455)) + rest,
        head + png_chunk(b"cICP", bytes((1, 13, 0, 1))) + rest,
        saved(Image.fromarray(RGB), icc_profile=SRGB),
    ):
        assert read_image(usual).notices == ()


def test_the_second_picture_of_a_camera_is_left_out_and_told():
    pictures = [Image.new("RGB", (16, 16), shade) for shade in ("red", "blue")]
    raster = read_image(saved(pictures[0], "MPO", save_all=True, append_images=pictures[1:]))
    assert raster.read()[0, 0].argmax() == 0
    assert raster.notices == ("only the first of its 2 images is stored",)


@pytest.mark.parametrize(("name", "module"), [("HEIF", "pillow_heif"), ("JXL", "pillow_jxl")])
def test_formats_of_phones_need_a_plugin(name: str, module: str, monkeypatch: pytest.MonkeyPatch):
    (load_heif if name == "HEIF" else load_jxl)()
    data = saved(Image.new("RGB", (40, 30), (200, 100, 50)), name)
    read = read_image(data).read()
    assert read.shape == (30, 40, 3)
    assert np.abs(read.astype(int) - (200, 100, 50)).max() < 8
    monkeypatch.setattr(Image, "ID", ["PNG"])
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeUnavailableError, match="images need pillow-"):
        read_image(data)


@pytest.mark.parametrize("top", [65_535, 1023])
def test_sixteen_bits_of_a_pgm_file(top: int):
    values = np.array([0, 1, top // 2, top], ">u2")
    raster = read_image(b"P5 2 2 %d\n" % top + values.tobytes())
    assert (raster.mode, raster.bit_depth) == (Mode.GREY, 16)
    found = raster.read().reshape(-1)
    np.testing.assert_allclose(found, values.astype(float) / top * 65_535, atol=1)


@pytest.mark.parametrize("top", [256, 1023, 65_535])
def test_sixteen_bits_that_pillow_would_cut_to_eight_are_refused(top: int):
    for data in (b"P6 1 1 %d\n" % top + bytes(range(6)), b"P3 1 1 %d\n1 2 3\n" % top):
        with pytest.raises(ImageError, match="PPM files of 16 bits per sample are not read"):
            read_image(data)
    assert read_image(b"P6 1 1 255\n\1\2\3").read().tolist() == [[[1, 2, 3]]]
    assert read_image(b"P6 1 1 127\n\0\x7f\0").read().tolist() == [[[0, 255, 0]]]
    assert read_image(b"P3 1 1 255\n1 2 3\n").read().tolist() == [[[1, 2, 3]]]


def test_deep_colour_without_its_libraries(monkeypatch: pytest.MonkeyPatch):
    data = written(from_array(DEEP[3]), ".png")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for use in (lambda: read_image(data), lambda: write_image(from_array(DEEP[3]), ".png")):
        with pytest.raises(RuntimeUnavailableError) as caught:
            use()
        assert caught.value.pip_line == "pip install 'vaecodec[deep]'"
    grey = written(from_array(DEEP[1]), ".png")  # which Pillow can do
    np.testing.assert_array_equal(read_image(grey).read(), DEEP[1])


@pytest.mark.parametrize("name", ["TIFF", "GIF", "PNG", "WEBP"])
def test_several_frames_are_refused(name: str):
    frames = [Image.new("L", (2, 2), shade) for shade in (0, 100, 200)]
    data = saved(frames[0], name, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="holds 3 images"):
        read_image(data)
    assert read_image(saved(frames[1], name)).read()[0, 0, 0] == 100


def test_several_frames_of_sixteen_bits_are_refused():
    animated = png_chunk(b"acTL", struct.pack(">2I", 2, 0))
    first = png_chunk(b"fcTL", struct.pack(">5I2H2B", 0, 7, 5, 0, 0, 1, 1, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP[3])
    pixels = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="holds 2 images"):
        read_image(png_header(7, 5, 16) + animated + first + pixels)
    np.testing.assert_array_equal(read_image(png_header(7, 5, 16) + pixels).read(), DEEP[3])


def test_of_a_camera_file_with_previews_the_photograph_is_taken():
    photo, preview = Image.new("RGB", (8, 8), (200, 0, 0)), Image.new("RGB", (4, 4))
    data = saved(photo, "MPO", save_all=True, append_images=[preview])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    samples = read_image(data).read()
    assert samples.shape == (8, 8, 3)
    assert abs(int(samples[0, 0, 0]) - 200) < 3


# Orientation and metadata


@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(name: str):
    options = {"lossless": True} if name == "WEBP" else {}
    for orientation, turn in {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: np.rot90(RGB, 2).transpose(1, 0, 2),
        8: np.rot90(RGB, 1),
        9: RGB,
    }.items():
        data = saved(Image.fromarray(RGB), name, exif=exif_of(orientation), **options)
        array = read_image(data).read()
        np.testing.assert_array_equal(array, turn, err_msg=f"orientation {orientation}")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("behind", [False, True])
def test_orientation_of_a_png_of_sixteen_bits(channels: int, behind: bool):
    for orientation in range(1, 9):
        exif = exif_block(orientation)
        if behind:
            data = with_tail(
                write_deep(DEEP[channels], "PNG", Metadata()), png_chunk(b"eXIf", exif)
            )
        else:
            data = write_deep(DEEP[channels], "PNG", Metadata(exif=exif))
        raster = read_image(data)
        assert raster.bit_depth == 16
        assert raster.metadata.exif == exif_block(1)
        np.testing.assert_array_equal(raster.read(), upright(DEEP[channels], orientation))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_orientation_of_a_tiff_of_sixteen_bits(channels: int):
    for orientation in range(1, 9):
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer,
            DEEP[channels].squeeze(),
            photometric="rgb" if channels > 1 else "minisblack",
            extrasamples=["unassalpha"] if channels == 4 else None,
            metadata=None,
            extratags=[(ExifTags.Base.Orientation, "H", 1, orientation, True)],
        )
        raster = read_image(buffer.getvalue())
        assert raster.bit_depth == 16
        np.testing.assert_array_equal(raster.read(), upright(DEEP[channels], orientation))


@pytest.mark.parametrize("array", [RGB, DEEP[3], DEEP[1]])
def test_metadata_behind_the_pixels(array: np.ndarray):
    """XMP, as GIMP and others write it, after an orientation in front."""
    data = written(from_array(array, Metadata(exif=exif_block(6), dpi=(72, 72))), ".png")
    xmp = png_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + b"<x/>")
    raster = read_image(with_tail(data, xmp))
    assert raster.metadata.xmp == b"<x/>"
    assert raster.metadata.exif == exif_block(1)
    np.testing.assert_array_equal(raster.read(), np.rot90(array, -1))


def test_damaged_exif_counts_as_upright(monkeypatch: pytest.MonkeyPatch):
    data = saved(Image.fromarray(RGB), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_image(data).read(), RGB)

    def fail(_: object) -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    np.testing.assert_array_equal(read_image(saved(Image.fromarray(RGB), "BMP")).read(), RGB)


def test_a_large_profile_is_kept(monkeypatch: pytest.MonkeyPatch):
    profile = RNG.bytes(2**21)
    data = saved(Image.fromarray(RGB), icc_profile=profile)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1000)
    assert read_image(data).metadata.icc == profile
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1000


# Damage


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image"),
        (b"nothing of the kind", "not an image"),
        (MAGIC + b"...", "a .vaec file already"),
        (png_header(3, 3), "damaged one"),
        (saved(Image.fromarray(RGB), "JPEG")[:-40], "cannot be read: .*truncated"),
        (saved(Image.fromarray(RGB), "BMP")[:60], "cannot be read"),
        (saved(Image.fromarray(RGB), "TIFF")[:-20], "cannot be read"),
        (write_deep(DEEP[3], "PNG", Metadata())[:100], "cannot be read"),
        (write_deep(DEEP[3], "TIFF", Metadata())[:-20], "cannot be read"),
    ],
)
def test_what_is_not_an_image(data: bytes, reason: str):
    with pytest.raises(ImageError, match=reason):
        read_image(data)


WHOLE = {
    "bmp": saved(Image.fromarray(RGB), "BMP"),
    "gif": saved(Image.fromarray(SAMPLES[1][:, :, 0]), "GIF"),
    "jpg": saved(Image.fromarray(RGB), "JPEG", exif=exif_of(6), dpi=(300, 300)),
    "palette": saved(Image.fromarray(RGB).convert("P"), transparency=3, icc_profile=SRGB[:300]),
    "png": saved(Image.fromarray(SAMPLES[4]), exif=exif_of(6), dpi=(300, 300)),
    "ppm": saved(Image.fromarray(RGB), "PPM"),
    "tif": saved(Image.fromarray(SAMPLES[4]), "TIFF", exif=exif_of(6), compression="tiff_lzw"),
    "webp": saved(Image.fromarray(SAMPLES[4]), "WEBP", exif=exif_of(6), lossless=True),
    "deep grey": saved(Image.fromarray(DEEP[1][:, :, 0]), transparency=7),
    "deep png": write_deep(DEEP[4], "PNG", Metadata(exif=exif_block(6))),
    "deep tif": write_deep(DEEP[4], "TIFF", Metadata()),
}


@pytest.mark.parametrize("name", WHOLE)
@settings(deadline=None)
@given(st.data())
def test_of_any_damage_comes_an_image_or_our_error(name: str, data: st.DataObject):
    damaged = bytearray(WHOLE[name])
    places = st.integers(0, len(damaged) - 1)
    for place, value in data.draw(st.dictionaries(places, st.integers(0, 255), max_size=3)).items():
        damaged[place] = value
    size = data.draw(st.one_of(st.just(len(damaged)), places))
    try:
        raster = read_image(bytes(damaged[:size]), Limits(max_pixels=2**16))
        samples = raster.read()
    except VaecodecError:
        return
    assert samples.shape == (raster.height, raster.width, raster.mode)
    assert samples.dtype.itemsize * 8 == raster.bit_depth


# Limits


def test_size_is_judged_before_pixels_are_decoded():
    """These files hold no pixels at all, so any attempt at them would be an ImageError."""
    for width, height in ((2**16 + 1, 1), (20_000, 20_000)):
        for depth in (8, 16):
            with pytest.raises(LimitError) as caught:
                read_image(png_header(width, height, depth) + png_chunk(b"IDAT", b""))
            assert caught.value.value in (width, width * height)
    for array in (RGB, DEEP[3]):
        data = written(from_array(array), ".png")
        with pytest.raises(LimitError, match="image size in pixels is 35"):
            read_image(data, Limits(max_pixels=34))
        assert read_image(data, Limits(max_pixels=35)).box.shape == (5, 7)


def test_pillows_own_limit_neither_warns_nor_stops(monkeypatch: pytest.MonkeyPatch):
    data = written(from_array(RGB), ".png")
    for own_limit in (34, 10):  # a warning, and an error, if left to Pillow
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", own_limit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert read_image(data).box.shape == (5, 7)
            for bad in (data[:50], png_header(2**17, 1)):
                with pytest.raises(VaecodecError):
                    read_image(bad)
        assert caught == []
        assert own_limit == Image.MAX_IMAGE_PIXELS


def test_pillows_own_limit_is_back_after_many_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = written(from_array(RGB), ".png")
    with ThreadPoolExecutor(8) as pool:
        for raster in pool.map(lambda _: read_image(data), range(100)):
            np.testing.assert_array_equal(raster.read(), RGB)
    assert Image.MAX_IMAGE_PIXELS == 10


# Writing


@pytest.mark.parametrize(
    ("array", "suffixes"),
    [
        (SAMPLES[1], ".png .PNG .tif .bmp .pgm .jp2"),
        (SAMPLES[2], ".png .tif .jp2"),
        (SAMPLES[3], ".png .PNG .tif .webp .bmp .ppm .jp2"),
        (SAMPLES[4], ".png .tif .webp .jp2"),
        (DEEP[1], ".png .tif .pgm .jp2"),
        (DEEP[2], ".png .tif"),
        (DEEP[3], ".png .PNG .tif"),
        (DEEP[4], ".png .tif"),
    ],
)
def test_lossless_formats_keep_every_sample(array: np.ndarray, suffixes: str):
    for suffix in suffixes.split():
        if suffix == ".jp2" and "JPEG2000" not in Image.SAVE:
            continue
        samples = read_image(written(from_array(array), suffix)).read()
        assert samples.dtype == array.dtype
        np.testing.assert_array_equal(samples, array, err_msg=suffix)


def test_jpeg_keeps_its_chroma():
    red_on_blue = np.zeros((16, 16, 3), np.uint8)
    red_on_blue[:, ::2, 0] = red_on_blue[:, 1::2, 2] = 255  # lines one pixel wide
    read = read_image(written(from_array(red_on_blue), ".jpg")).read()
    assert np.abs(read.astype(int) - red_on_blue).max() < 40


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".bmp"])
def test_sixteen_bits_are_not_cut_in_silence(suffix: str, channels: int):
    with pytest.raises(ImageError, match=r"files hold 8 bits per sample: write \.png or \.tif"):
        write_image(from_array(DEEP[channels]), suffix)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_alpha_is_not_dropped_in_silence(suffix: str, channels: int):
    with pytest.raises(ImageError, match=r"files hold no alpha: write \.png or \.tif"):
        write_image(from_array(SAMPLES[channels]), suffix)


@pytest.mark.parametrize(
    "suffix", ["", ".", ".docx", ".vaec", ".psd", ".gif", ".ico", ".icns", ".mpo", ".xbm"]
)
def test_suffixes_that_name_no_format(suffix: str):
    for function in (check_suffix, lambda name: write_image(from_array(SAMPLES[1]), name)):
        with pytest.raises(ImageError, match=r"use one of \.png"):
            function(suffix)


@pytest.mark.parametrize("suffix", [".jp2", ".bmp", ".ppm", ".tga"])
def test_metadata_without_a_place_is_told(suffix: str):
    raster = from_array(RGB, Metadata(icc=SRGB, exif=exif_block(1), dpi=(300, 300)))
    assert writing_notices(raster, suffix)[0].endswith("hold no colour profile, EXIF: left out")
    assert writing_notices(from_array(RGB), suffix) == ()
    for other in (".png", ".jpg", ".tif", ".webp", ".avif"):
        assert writing_notices(raster, other) == ()
        found = read_image(written(raster, other)).metadata
        assert (found.icc, bool(found.exif)) == (SRGB, True)


def test_most_of_exif_has_no_place_in_a_deep_tiff():
    raster = from_array(DEEP[3], Metadata(exif=exif_block(1)))
    assert "main texts alone" in writing_notices(raster, ".tif")[0]
    assert writing_notices(raster, ".png") == ()


def test_names_of_formats():
    assert [check_suffix(name) for name in (".png", ".JPG", ".tiff")] == ["PNG", "JPEG", "TIFF"]


def test_a_format_that_cannot_hold_the_image():
    wide = from_array(np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(ImageError, match="WEBP files hold at most 16,383 pixels a side"):
        write_image(wide, ".webp")
    wide = from_array(np.zeros((1, 65_501, 1), np.uint8))
    with pytest.raises(ImageError, match="JPEG files hold at most 65,500 pixels a side"):
        write_image(wide, ".jpg")


def test_metadata_that_does_not_fit():
    raster = from_array(RGB, Metadata(exif=exif_block(1) + bytes(70_000)))
    assert "its EXIF of 70,0" in writing_notices(raster, ".jpg")[0]
    assert read_image(written(raster, ".jpg")).metadata == Metadata()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_what_was_read_is_written_upright_and_with_its_own_metadata(suffix: str):
    raster = read_image(saved(Image.fromarray(RGB), exif=exif_of(6), icc_profile=SRGB))
    assert raster.orientation == 6
    for bearer in (raster, replace(raster, metadata=Metadata())):
        back = read_image(written(bearer, suffix))
        np.testing.assert_array_equal(back.read(), np.rot90(RGB, -1))
        assert back.metadata.icc == bearer.metadata.icc
        assert bool(back.metadata.exif) == bool(bearer.metadata.exif)


def test_a_view_is_written_as_it_is_seen():
    for array in (RGB, SAMPLES[1], DEEP[1], DEEP[3]):
        view = array.transpose(1, 0, 2)[::-1, ::2]
        view.flags.writeable = False
        back = read_image(written(from_array(view), ".png"))
        np.testing.assert_array_equal(back.read(), view)
