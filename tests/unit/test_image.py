import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from vaecodec.container import MAGIC, Mode
from vaecodec.errors import ImageError, LimitError
from vaecodec.image import (
    check_suffix,
    encode_image,
    from_planes,
    open_image,
    to_array,
    to_planes,
)
from vaecodec.limits import Limits

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = RNG.integers(0, 256, (5, 7, 1), np.uint8)


def saved(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def png_chunk(fourcc: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(fourcc + payload)
    return struct.pack(">I", len(payload)) + fourcc + payload + struct.pack(">I", crc)


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    fields = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", fields)


def with_orientation(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return saved(image, exif=exif)


@pytest.mark.parametrize(("array", "mode"), [(RGB, Mode.RGB), (GREY, Mode.GREY)])
def test_file_to_array_and_back(array: np.ndarray, mode: Mode):
    image = from_planes(to_planes(array), 7, 5, mode)
    assert image.mode == ("RGB" if mode is Mode.RGB else "L")
    read, read_mode = to_array(open_image(encode_image(image, ".png")))
    assert read_mode is mode
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


def test_planes_are_padded_by_their_edge():
    planes = to_planes(RGB)
    assert planes.shape == (1, 3, 16, 16)
    assert planes.dtype == np.float32
    np.testing.assert_array_equal(planes[0, :, :5, :7], RGB.transpose(2, 0, 1) / np.float32(255))
    np.testing.assert_array_equal(planes[:, :, 5:], np.repeat(planes[:, :, 4:5], 11, axis=2))
    np.testing.assert_array_equal(planes[..., 7:], np.repeat(planes[..., 6:7], 9, axis=3))
    assert to_planes(np.zeros((16, 32, 3), np.uint8)).shape == (1, 3, 16, 32)


def test_grey_fills_three_channels_and_comes_back_as_their_mean():
    planes = to_planes(GREY)
    np.testing.assert_array_equal(planes[0, 0], planes[0, 2])
    uneven = np.array([10, 20, 60], np.float32).reshape(1, 3, 1, 1) / 255
    assert from_planes(uneven, 1, 1, Mode.GREY).getpixel((0, 0)) == 30


def test_rounding_is_half_up_and_clipped():
    values = np.array([-1, 0.49, 0.5, 1.5, 254.49, 254.5, 255.4, 900, np.nan, np.inf], np.float32)
    planes = np.broadcast_to(values / np.float32(255), (1, 3, 1, 10))
    image = from_planes(planes, 10, 1, Mode.GREY)
    assert list(image.tobytes()) == [0, 0, 1, 2, 254, 255, 255, 255, 0, 255]


def test_planes_must_cover_the_image():
    planes = np.zeros((1, 3, 16, 16), np.float32)
    for width, height in ((17, 16), (16, 17)):
        with pytest.raises(ValueError, match="do not cover"):
            from_planes(planes, width, height, Mode.RGB)
    with pytest.raises(ValueError, match="not \\(1, 3, H, W\\)"):
        from_planes(planes[:, :2], 1, 1, Mode.RGB)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("RGBA", "transparency"),
        ("LA", "transparency"),
        ("PA", "transparency"),
        ("P", "palette"),
        ("1", "1 bit per pixel"),
        ("CMYK", "CMYK"),
        ("I;16", "more than 8 bits"),
        ("I", "more than 8 bits"),
        ("F", "floating-point"),
        ("YCbCr", "mode YCbCr"),
    ],
)
def test_other_kinds_are_refused_with_a_way_out(mode: str, reason: str):
    with pytest.raises(ImageError, match=rf"{reason}.* first"):
        to_array(Image.new(mode, (2, 2)))


def test_a_transparent_colour_is_transparency():
    image = open_image(saved(Image.new("RGB", (2, 2)), transparency=(0, 0, 0)))
    assert image.mode == "RGB"
    with pytest.raises(ImageError, match="transparency"):
        to_array(image)


def test_sixteen_bits_that_pillow_would_cut_to_eight_are_refused():
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" + b"\x12\x34" * 3))
    data = png_header(1, 1, 16) + pixels + png_chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="more than 8 bits"):
        open_image(data)
    with pytest.raises(ImageError, match="more than 8 bits"):
        to_array(Image.open(io.BytesIO(data)))


def test_several_frames_are_refused():
    frames = [Image.new("L", (2, 2), shade) for shade in (0, 100, 200)]
    data = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="holds 3 images"):
        to_array(open_image(data))
    assert to_array(open_image(saved(frames[1], "TIFF")))[0][0, 0, 0] == 100


def test_of_a_camera_file_with_previews_the_photograph_is_taken():
    photo, preview = Image.new("RGB", (8, 8), (200, 0, 0)), Image.new("RGB", (4, 4))
    image = open_image(saved(photo, "MPO", save_all=True, append_images=[preview]))
    assert image.format == "MPO"
    assert to_array(image)[0].shape == (8, 8, 3)


def test_an_empty_image_is_refused():
    with pytest.raises(ImageError, match="empty"):
        to_array(Image.new("RGB", (0, 5)))


def test_orientation_is_applied():
    upright = Image.fromarray(RGB)
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
        array, _ = to_array(open_image(with_orientation(upright, orientation)))
        np.testing.assert_array_equal(array, turn, err_msg=f"orientation {orientation}")


def test_damaged_exif_counts_as_upright(monkeypatch: pytest.MonkeyPatch):
    image = open_image(saved(Image.fromarray(RGB), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    np.testing.assert_array_equal(to_array(image)[0], RGB)

    def fail(_: object) -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    np.testing.assert_array_equal(to_array(Image.fromarray(RGB))[0], RGB)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image"),
        (b"nothing of the kind", "not an image"),
        (MAGIC + b"...", "a .vaec file already"),
        (png_header(3, 3), "damaged one"),
        (saved(Image.fromarray(RGB), "JPEG")[:-40], "cannot be read: .*truncated"),
        (saved(Image.fromarray(RGB), "BMP")[:60], "cannot be read"),
    ],
)
def test_what_is_not_an_image(data: bytes, reason: str):
    with pytest.raises(ImageError, match=reason):
        open_image(data)


def test_damage_in_an_image_opened_elsewhere():
    data = saved(Image.fromarray(RGB), "JPEG")
    with pytest.raises(ImageError, match=r"cannot be read: .*truncated"):
        to_array(Image.open(io.BytesIO(data[:-40])))


def test_size_is_judged_before_pixels_are_decoded():
    """These files hold no pixels at all, so any attempt at them would be an ImageError."""
    for width, height in ((2**16 + 1, 1), (20_000, 20_000)):
        with pytest.raises(LimitError) as caught:
            open_image(png_header(width, height) + png_chunk(b"IDAT", b""))
        assert caught.value.value in (width, width * height)
    small = Limits(max_pixels=34)
    with pytest.raises(LimitError, match="image size in pixels is 35"):
        open_image(encode_image(Image.fromarray(RGB), ".png"), small)
    assert open_image(encode_image(Image.fromarray(RGB), ".png"), Limits(max_pixels=35)).size == (
        7,
        5,
    )


def test_pillows_own_limit_neither_warns_nor_stops(monkeypatch: pytest.MonkeyPatch):
    data = encode_image(Image.fromarray(RGB), ".png")
    for own_limit in (34, 10):  # a warning, and an error, if left to Pillow
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", own_limit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert open_image(data).size == (7, 5)
        assert caught == []
        assert own_limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".webp", ".bmp", ".ppm", ".jp2"])
def test_lossless_formats_keep_every_pixel(suffix: str):
    if suffix == ".jp2" and "JPEG2000" not in Image.SAVE:
        pytest.skip("this Pillow has no JPEG 2000")
    data = encode_image(Image.fromarray(RGB), suffix)
    np.testing.assert_array_equal(to_array(open_image(data))[0], RGB)


def test_jpeg_keeps_its_chroma():
    red_on_blue = np.zeros((16, 16, 3), np.uint8)
    red_on_blue[:, ::2, 0] = red_on_blue[:, 1::2, 2] = 255  # lines one pixel wide
    read, _ = to_array(open_image(encode_image(Image.fromarray(red_on_blue), ".jpg")))
    assert np.abs(read.astype(int) - red_on_blue).max() < 40


@pytest.mark.parametrize("suffix", ["", ".", ".docx", ".vaec", ".psd"])
def test_suffixes_that_name_no_format(suffix: str):
    for function in (check_suffix, lambda name: encode_image(Image.new("L", (1, 1)), name)):
        with pytest.raises(ImageError, match=r"use one of \.png"):
            function(suffix)


def test_a_format_that_cannot_hold_the_image():
    with pytest.raises(ImageError, match=r"cannot be written as \.xbm: cannot write mode RGB"):
        encode_image(Image.fromarray(RGB), ".xbm")
