import io
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from vaecodec.container import Mode
from vaecodec.errors import ImageError
from vaecodec.metadata import Metadata, read_metadata
from vaecodec.raster import Raster, as_raster, from_array, from_pillow, from_planes, to_planes
from vaecodec.segments import Box

RNG = np.random.default_rng(1)
HEIGHT, WIDTH = 5, 7
SAMPLES = {c: RNG.integers(0, 256, (HEIGHT, WIDTH, c), np.uint8) for c in (1, 2, 3, 4)}
DEEP = {c: RNG.integers(0, 65_536, (HEIGHT, WIDTH, c), np.uint16) for c in (1, 2, 3, 4)}
GREY, RGB, RGBA = SAMPLES[1], SAMPLES[3], SAMPLES[4]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ALPHA = "its transparency is stored as an alpha channel"
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
EVERY_BOX = [
    Box(top, left, bottom, right)
    for top in range(5)
    for bottom in range(top + 1, 6)
    for left in range(5)
    for right in range(left + 1, 6)
]


def pillow(mode: str) -> Image.Image:
    if mode == "I;16B":
        return Image.frombytes(mode, (WIDTH, HEIGHT), DEEP[1].astype(">u2").tobytes())
    if mode == "I;16":
        return Image.fromarray(DEEP[1][:, :, 0])
    return Image.fromarray(SAMPLES[MODES[mode]].squeeze())


def read_back(image: Image.Image, name: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return Image.open(buffer)


def pixels(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array.reshape(*array.shape[:2], -1)


def turned_image(image: Image.Image, orientation: int) -> Image.Image:
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return image


# Rectangles


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", [*MODES, "I;16", "I;16B"])
def test_any_rectangle_of_an_image_that_is_turned(mode: str, orientation: int):
    image = turned_image(pillow(mode), orientation)
    upright = pixels(ImageOps.exif_transpose(image))
    raster = from_pillow(image)
    assert (raster.height, raster.width) == upright.shape[:2]
    assert raster.box == Box(0, 0, *upright.shape[:2])
    assert raster.orientation == orientation
    whole = raster.read()
    assert whole.dtype == (np.uint16 if mode.startswith("I") else np.uint8)
    assert whole.dtype.isnative
    np.testing.assert_array_equal(whole, upright)
    for box in EVERY_BOX:
        np.testing.assert_array_equal(
            raster.read(box), upright[box.top : box.bottom, box.left : box.right]
        )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("samples", [SAMPLES, DEEP])
def test_any_rectangle_of_an_array(samples: dict[int, np.ndarray], channels: int):
    array = samples[channels]
    raster = from_array(array)
    assert (raster.width, raster.height, raster.mode) == (WIDTH, HEIGHT, channels)
    assert raster.bit_depth == 8 * array.itemsize
    assert raster.orientation == 1
    np.testing.assert_array_equal(raster.read(), array)
    for box in EVERY_BOX:
        expected = array[box.top : box.bottom, box.left : box.right]
        np.testing.assert_array_equal(raster.read(box), expected)


def test_damage_that_shows_only_now():
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG")
    image = Image.open(io.BytesIO(buffer.getvalue()[:-40]))
    with pytest.raises(ImageError, match=r"cannot be read: .*truncated"):
        Raster(image, Mode.RGB, 8).read()


# Arrays


def test_an_array_of_two_axes_is_grey():
    raster = from_array(DEEP[1][:, :, 0], Metadata(xmp=b"<x/>"))
    assert (raster.mode, raster.bit_depth) == (Mode.GREY, 16)
    assert raster.metadata == Metadata(xmp=b"<x/>")
    np.testing.assert_array_equal(raster.read(), DEEP[1])


@pytest.mark.parametrize(
    "shape", [(), (7,), (5, 7, 0), (5, 7, 5), (5, 7, 3, 1), (0, 7, 3), (5, 0), (1, 3, 5, 7)]
)
def test_shapes_that_are_no_image(shape: tuple[int, ...]):
    with pytest.raises(ImageError, match=r"an array of shape .* is no image"):
        from_array(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("kind", ["bool", "int8", "int16", "uint32", "float32", "object"])
def test_types_that_are_no_samples(kind: str):
    with pytest.raises(ImageError, match="must be uint8 or uint16, not"):
        from_array(np.zeros((2, 2, 3), kind))


def test_whatever_is_an_image():
    raster = from_array(RGB)
    assert as_raster(raster) is raster
    for image in (RGB, Image.fromarray(RGB)):
        np.testing.assert_array_equal(as_raster(image).read(), RGB)
    for other in (b"bytes", "path.png", None, RGB.tolist()):
        with pytest.raises(TypeError, match="must be a PIL image"):
            as_raster(other)


# Modes


def told(raster: Raster) -> tuple[Mode, int, tuple[str, ...]]:
    return raster.mode, raster.bit_depth, raster.notices


@pytest.mark.parametrize("mode", MODES)
def test_plain_modes_stay_as_they_are(mode: str):
    raster = from_pillow(pillow(mode))
    assert told(raster) == (MODES[mode], 8, ())
    np.testing.assert_array_equal(raster.read(), SAMPLES[MODES[mode]])


def palette(kind: str = "RGB") -> Image.Image:
    """Return an image of a palette of four colours, some half transparent where it has alpha."""
    image = Image.fromarray(GREY[:, :, 0] % 4)
    image.putpalette(SAMPLES[len(kind)].tobytes()[: 4 * len(kind)], kind)
    return image


def test_a_palette_becomes_rgb():
    raster = from_pillow(palette())
    assert told(raster) == (Mode.RGB, 8, ("its palette is stored as RGB",))
    np.testing.assert_array_equal(raster.read(), RGB.reshape(-1, 3)[GREY[:, :, 0] % 4])


@pytest.mark.parametrize(
    ("transparency", "alpha"),
    [(2, [255, 255, 0, 255]), (b"\x00\x80\xfe", [0, 128, 254, 255]), (b"\x05", [5, 255, 255, 255])],
)
@pytest.mark.parametrize("through_a_file", [False, True])
def test_a_palette_with_transparency(
    transparency: int | bytes, alpha: list[int], through_a_file: bool
):
    image = palette()
    if through_a_file:
        image = read_back(image, "PNG", transparency=transparency)
    else:
        image.info["transparency"] = transparency
    raster = from_pillow(image)
    assert told(raster) == (Mode.RGB_ALPHA, 8, (ALPHA,))
    index = GREY[:, :, 0] % 4
    np.testing.assert_array_equal(raster.read()[:, :, :3], RGB.reshape(-1, 3)[index])
    np.testing.assert_array_equal(raster.read()[:, :, 3], np.array(alpha)[index])


def test_a_palette_of_colours_with_alpha():
    raster = from_pillow(palette("RGBA"))
    assert told(raster) == (Mode.RGB_ALPHA, 8, (ALPHA,))
    np.testing.assert_array_equal(raster.read(), RGBA.reshape(-1, 4)[GREY[:, :, 0] % 4])


def test_a_palette_beside_an_alpha_channel():
    image = palette().convert("PA")
    image.putalpha(Image.fromarray(GREY[:, :, 0]))
    raster = from_pillow(image)
    assert told(raster) == (Mode.RGB_ALPHA, 8, ("its palette is stored as RGB with alpha",))
    expected = np.dstack((RGB.reshape(-1, 3)[GREY[:, :, 0] % 4], GREY))
    np.testing.assert_array_equal(raster.read(), expected)


BITS = np.array([[0, 255, 255], [255, 0, 0]], np.uint8)


@pytest.mark.parametrize(
    ("mode", "samples", "shade"),
    [
        ("1", BITS, 255),
        ("1", BITS, 0),
        ("L", np.array([[7, 8, 7]], np.uint8), 7),
        ("RGB", np.array([[[1, 2, 3], [1, 2, 4], [3, 2, 1]]], np.uint8), (1, 2, 3)),
        ("I;16", np.array([[7, 0x0708, 0x0807]], np.uint16), 0x0708),
    ],
)
@pytest.mark.parametrize("through_a_file", [False, True])
def test_one_colour_that_is_transparent(
    mode: str, samples: np.ndarray, shade: int | tuple[int, ...], through_a_file: bool
):
    image = Image.fromarray(samples)
    image = image.convert(mode) if image.mode != mode else image
    if through_a_file:
        image = read_back(image, "PNG", transparency=shade)
        assert image.mode == mode
    else:
        image.info["transparency"] = shade
    raster = from_pillow(image)
    colours = samples.reshape(*samples.shape[:2], -1)
    mode_read = Mode.RGB_ALPHA if mode == "RGB" else Mode.GREY_ALPHA
    assert told(raster) == (mode_read, 8 * samples.itemsize, (ALPHA,))
    np.testing.assert_array_equal(raster.read()[:, :, :-1], colours)
    opaque = (colours != shade).any(axis=2)
    np.testing.assert_array_equal(raster.read()[:, :, -1], opaque * np.iinfo(samples.dtype).max)


def test_deep_grey_with_a_transparent_shade_is_turned():
    image = turned_image(pillow("I;16"), 6)
    image.info["transparency"] = int(DEEP[1][0, 0, 0])
    samples = from_pillow(image).read()
    assert samples.dtype == np.uint16
    np.testing.assert_array_equal(samples[:, :, :1], np.rot90(DEEP[1], -1))
    assert samples[0, -1, 1] == 0
    assert (samples[:, :, 1] == 65_535).sum() == WIDTH * HEIGHT - 1


def test_black_and_white_becomes_grey():
    raster = from_pillow(Image.fromarray(BITS).convert("1"))
    assert told(raster) == (Mode.GREY, 8, ("black and white is stored as grey",))
    np.testing.assert_array_equal(raster.read()[:, :, 0], BITS)


@pytest.mark.parametrize(
    ("mode", "plain", "expected", "notices"),
    [
        ("La", "LA", Mode.GREY_ALPHA, 0),
        ("RGBa", "RGBA", Mode.RGB_ALPHA, 0),
        ("RGBX", "RGB", Mode.RGB, 0),
        ("YCbCr", "RGB", Mode.RGB, 0),
        ("HSV", "RGB", Mode.RGB, 1),
    ],
)
def test_other_ways_to_say_the_same(mode: str, plain: str, expected: Mode, notices: int):
    image = pillow(plain).convert(mode)
    image.info["icc_profile"] = SRGB
    raster = from_pillow(image)
    assert (raster.mode, raster.bit_depth, len(raster.notices)) == (expected, 8, notices)
    assert raster.metadata.icc == SRGB  # as the colours are still those
    np.testing.assert_array_equal(raster.read(), pixels(image.convert(plain)))


def test_multiplied_alpha_is_divided_out():
    image = Image.new("RGBa", (1, 1), (30, 60, 100, 100))
    assert from_pillow(image).read().tolist() == [[[76, 153, 255, 100]]]


def test_any_other_mode_is_refused():
    image = Image.fromarray(RGB)
    image._mode = "BGR;15"
    with pytest.raises(ImageError, match="mode BGR;15: convert it to RGB first"):
        from_pillow(image)


# Colours of print


CMYK = Image.frombytes("CMYK", (WIDTH, HEIGHT), RGBA.tobytes())


def cmyk_profile(lab: tuple[int, int, int]) -> bytes:
    """Return an ICC profile of a press with one colour, and black ink (lut8, two grid points)."""
    matrix = struct.pack(">9i", *(65_536 * (i % 4 == 0) for i in range(9)))
    identity = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix
    lut += 4 * identity + 8 * (bytes(lab) + bytes((0, 128, 128))) + 3 * identity
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63_190, 65_536, 54_061)
    tags = {b"A2B0": lut, b"wtpt": white}
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">2I", 128 + 4 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = b"none" + bytes((2, 16, 0, 0)) + b"prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63_190, 65_536, 54_061)
    size = 128 + len(table) + len(body)
    return struct.pack(">I", size) + head.ljust(124, b"\x00") + table + body


@pytest.mark.parametrize("name", ["TIFF", "JPEG"])
def test_cmyk_goes_through_its_profile(name: str):
    image = Image.new("CMYK", (4, 3), (200, 30, 10, 0))
    opened = read_back(image, name, icc_profile=cmyk_profile((136, 208, 195)))
    raster = from_pillow(opened)
    assert told(raster) == (Mode.RGB, 8, ("its CMYK colours were converted to sRGB",))
    assert raster.metadata.icc == b""
    # L* 53, a* 80, b* 67 is about the red of sRGB, and without a profile this would be cyan.
    assert np.abs(raster.read().astype(int) - (255, 0, 0)).max() < 12


@pytest.mark.parametrize("profile", [b"", b"no profile", SRGB, SRGB[:200]])
def test_cmyk_without_a_profile_of_its_own(profile: bytes):
    image = CMYK.copy()
    if profile:
        image.info["icc_profile"] = profile
    raster = from_pillow(image)
    assert told(raster) == (Mode.RGB, 8, ("its CMYK colours were converted to sRGB",))
    assert raster.metadata.icc == b""
    np.testing.assert_array_equal(raster.read(), np.asarray(CMYK.convert("RGB")))


def test_lab_goes_through_its_definition():
    lab = np.array([[[255, 0, 0], [0, 0, 0], [138, 81, 70]]], np.uint8)
    image = read_back(Image.frombytes("LAB", (3, 1), lab.tobytes()), "TIFF", icc_profile=SRGB)
    assert image.mode == "LAB"
    raster = from_pillow(image)
    assert told(raster) == (Mode.RGB, 8, ("its LAB colours were converted to sRGB",))
    assert raster.metadata.icc == b""
    white, black, red = raster.read()[0].astype(int)
    assert white.min() >= 254
    assert black.max() <= 1
    assert np.abs(red - (255, 0, 0)).max() < 12


# More than 8 bits


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_of_grey(mode: str):
    raster = from_pillow(read_back(pillow(mode), "TIFF"))
    assert raster.pixels.mode == mode
    assert told(raster) == (Mode.GREY, 16, ())
    np.testing.assert_array_equal(raster.read(), DEEP[1])


def test_sixteen_bits_in_thirty_two():
    values = DEEP[1][:, :, 0].astype(np.int32)
    values[0, :2] = 0, 65_535
    raster = from_pillow(Image.fromarray(values))
    assert told(raster) == (Mode.GREY, 16, ())
    assert raster.read().dtype == np.uint16
    np.testing.assert_array_equal(raster.read()[:, :, 0], values)


@pytest.mark.parametrize("value", [-1, 65_536])
def test_more_than_sixteen_bits_are_refused(value: int):
    with pytest.raises(ImageError, match="below 0 or above 65,535: convert"):
        from_pillow(Image.fromarray(np.array([[0, value]], np.int32)))


def test_floating_point_is_refused():
    with pytest.raises(ImageError, match="floating-point samples: convert it to 16 bits first"):
        from_pillow(Image.new("F", (2, 2)))


def test_an_empty_image_is_refused():
    with pytest.raises(ImageError, match="empty: it has 0x5 pixels"):
        from_pillow(Image.new("RGB", (0, 5)))


def test_damage_among_the_frames(monkeypatch: pytest.MonkeyPatch):
    def frames(_: object) -> Iterator[int]:
        raise EOFError("no more images in TIFF file")

    image = read_back(pillow("L"), "TIFF")
    monkeypatch.setattr(type(image), "n_frames", property(frames))
    with pytest.raises(ImageError, match="cannot be read: no more images"):
        from_pillow(image)


def test_metadata_is_that_of_the_upright_image():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "ACM"
    image = read_back(Image.fromarray(RGB), "PNG", exif=exif, icc_profile=SRGB)
    raster = from_pillow(image)
    assert raster.orientation == 6
    assert raster.metadata == read_metadata(image).upright()
    assert raster.metadata.exif != read_metadata(image).exif
    assert raster.metadata.icc == SRGB


# To 8-bit colours, and to Pillow


def test_rgb_of_any_raster():
    for samples in (SAMPLES, DEEP):
        for channels in (1, 2, 3, 4):
            found = from_array(samples[channels]).rgb()
            assert (found.shape, found.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
            colours = samples[channels][:, :, : 1 if channels < 3 else 3]
            upper = colours // 256 if samples is DEEP else colours
            np.testing.assert_array_equal(found, np.broadcast_to(upper, found.shape))


@pytest.mark.parametrize("mode", MODES)
def test_to_pillow(mode: str):
    image = from_array(SAMPLES[MODES[mode]]).to_pillow()
    assert image.mode == mode
    np.testing.assert_array_equal(pixels(image), SAMPLES[MODES[mode]])


def test_deep_grey_to_pillow_and_nothing_else():
    image = from_array(DEEP[1]).to_pillow()
    assert image.mode == "I;16"
    np.testing.assert_array_equal(pixels(image), DEEP[1])
    for channels in (2, 3, 4):
        with pytest.raises(ImageError, match=rf"{channels} samples per pixel: decode to an array"):
            from_array(DEEP[channels]).to_pillow()


@pytest.mark.parametrize("mode", [*MODES, "I;16"])
def test_what_came_from_pillow_goes_back_upright_and_bare(mode: str):
    image = turned_image(pillow(mode), 6)
    image.info["icc_profile"] = SRGB
    back = from_pillow(image).to_pillow()
    np.testing.assert_array_equal(pixels(back), pixels(ImageOps.exif_transpose(image)))
    assert back.info == {}


# Planes


@pytest.mark.parametrize("samples", [RGB, GREY, DEEP[3], DEEP[1]])
def test_samples_to_planes_and_back(samples: np.ndarray):
    out = np.empty_like(samples)
    from_planes(to_planes(samples)[0, :, :HEIGHT, :WIDTH], out)
    np.testing.assert_array_equal(out, samples)


def test_every_sample_comes_back():
    for kind, side in ((np.uint8, 16), (np.uint16, 256)):
        samples = np.arange(side**2).astype(kind).reshape(side, side, 1)
        out = np.empty_like(samples)
        from_planes(to_planes(samples)[0], out)
        np.testing.assert_array_equal(out, samples)


def test_planes_are_padded_by_their_edge():
    planes = to_planes(RGB)
    assert planes.shape == (1, 3, 16, 16)
    assert planes.dtype == np.float32
    np.testing.assert_array_equal(planes[0, :, :5, :7], RGB.transpose(2, 0, 1) / np.float32(255))
    np.testing.assert_array_equal(planes[:, :, 5:], np.repeat(planes[:, :, 4:5], 11, axis=2))
    np.testing.assert_array_equal(planes[..., 7:], np.repeat(planes[..., 6:7], 9, axis=3))
    assert to_planes(np.zeros((16, 32, 3), np.uint8)).shape == (1, 3, 16, 32)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("samples", [SAMPLES, DEEP])
def test_planes_hold_nothing_of_what_cannot_be_seen(samples: dict[int, np.ndarray], channels: int):
    one = samples[channels].copy()
    one[2:, :, -1] = one[:, 5:, -1] = 0
    one[:2, :5, -1] |= 1
    other = one.copy()
    other[one[:, :, -1] == 0] = 0
    np.testing.assert_array_equal(to_planes(one), to_planes(other))
    np.testing.assert_array_equal(
        to_planes(one)[0, :, :2, :5], to_planes(one[:2, :5, :])[0, :, :2, :5]
    )


def test_grey_fills_three_channels_and_comes_back_as_their_mean():
    planes = to_planes(GREY)
    np.testing.assert_array_equal(planes[0, 0], planes[0, 2])
    uneven = np.array([10, 20, 60], np.float32).reshape(3, 1, 1) / 255
    out = np.empty((1, 1, 1), np.uint8)
    from_planes(uneven, out)
    assert out.item() == 30


@pytest.mark.parametrize(("kind", "top"), [(np.uint8, 255), (np.uint16, 65_535)])
def test_rounding_is_half_up_and_clipped(kind: type, top: int):
    steps = [-1, 0.49, 0.5, 1.5, top - 0.51, top - 0.5, top + 0.4, 3 * top, np.nan, np.inf, -np.inf]
    planes = np.broadcast_to(np.array(steps, np.float64) / top, (3, 1, len(steps)))
    out = np.empty((1, len(steps), 1), kind)
    from_planes(planes, out)
    assert out[0, :, 0].tolist() == [0, 0, 1, 2, top - 1, top, top, top, 0, top, 0]


def test_planes_are_written_into_a_part_of_an_image():
    out = np.zeros((4, 4, 4), np.uint8)
    from_planes(np.ones((3, 2, 2), np.float32), out[1:3, 1:3, :3])
    assert (out[1:3, 1:3] == (255, 255, 255, 0)).all()
    assert out.sum() == 12 * 255
