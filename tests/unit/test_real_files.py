"""Files that public reports of neighbouring tools were about, and others of their kinds.

Each gives the right picture, a notice that says what is lost, or one line that says why not.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image
from pillow_heif import register_heif_opener

from vaecodec.errors import ImageError
from vaecodec.exif_tidy import size_of
from vaecodec.image import read_image
from vaecodec.metadata import exif_orientation
from vaecodec.plugins import load_jxl
from vaecodec.raster import Raster, as_raster, from_pillow

INPUTS = Path(__file__).parents[1] / "inputs"
RNG = np.random.default_rng(11)


def read(name: str) -> Raster:
    return read_image((INPUTS / name).read_bytes())


def tiff(samples: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, metadata=None, **options)
    return buffer.getvalue()


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def photograph(width: int = 200, height: int = 120) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((width, height))
    noise = Image.fromarray(RNG.integers(0, 60, (height, width), np.uint8))
    return Image.merge("RGB", (ramp, noise, ramp.rotate(180)))


# The files, one by one


@pytest.mark.parametrize(
    ("name", "notice"),
    [
        ("bigxmp.webp", ""),
        ("cicp-pq-16bit.png", "not kept: no profile is exact for PQ"),
        ("cicp-pq-8bit-control.png", "not kept: no profile is exact for PQ"),
        ("corrupt-scan.jpg", "compressed data are damaged"),
        ("gamma1-16bit.png", ""),
        ("grey-12bit.tif", ""),
        ("grey-alpha-16bit-control.png", ""),
        ("grey-alpha-16bit-imagemagick.tif", ""),
        ("iptc.jpg", ""),
        ("jpeg-no-eoi.jpg", ""),
        ("palette-8bit-colormap.tif", "its palette is stored as RGB"),
        ("png-text.png", ""),
        ("pq-bt2020-nclx.avif", "not kept: no profile is exact for PQ"),
        ("rgb-with-cmyk-icc.jpg", "profile is one for CMYK colours, not RGB: left out"),
        ("rgb565.bmp", ""),
        ("thumb-orient6.jpg", ""),
        ("two-images.heic", "only the main of its 2 images is stored"),
        ("ultrahdr.jpg", "HDR gain map is not kept"),
        ("xmp-orient-spaces.jpg", ""),
        ("xmp6-upright.avif", ""),
    ],
)
def test_a_picture_and_what_is_said_of_it(name: str, notice: str):
    raster = read(name)
    assert raster.read().shape == (raster.height, raster.width, raster.mode)
    assert len(raster.notices) == bool(notice)
    assert notice in "".join(raster.notices)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("eps-named.jpg", "PostScript .* export it as PNG"),
        ("float32-rgb.tif", "floating-point samples of 32 bits: convert it to unsigned ones of 16"),
        ("rgb-extrasample0.tif", "does not call alpha .* save it as alpha"),
        ("uint16-ramp.fits", "FITS .* scale its values to 16 bits"),
    ],
)
def test_a_reason_why_not(name: str, reason: str):
    with pytest.raises(ImageError, match=reason) as caught:
        read(name)
    assert "\n" not in str(caught.value)


# TIFF: samples of other sizes


def test_twelve_bits_of_grey_are_as_bright_as_they_were():
    found = read("grey-12bit.tif")
    assert found.bit_depth == 16
    expected = np.asarray(Image.open(INPUTS / "grey-12bit.tif")).astype(float) * 65_535 / 4095
    np.testing.assert_allclose(found.read()[:, :, 0], expected, atol=0.5)
    lazy = as_raster(Image.open(INPUTS / "grey-12bit.tif"))
    np.testing.assert_array_equal(lazy.read(), found.read())


@pytest.mark.parametrize("bits", [9, 10, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_nine_to_fifteen_bits(bits: int, channels: int, photometric: str):
    if channels == 3 and photometric == "miniswhite":
        return
    top = 2**bits - 1
    samples = RNG.integers(0, top + 1, (8, 16, channels), np.uint16)
    samples[0, 0], samples[0, 1] = 0, top
    packed = imagecodecs.packints_encode(samples.reshape(-1), bits)
    data = packed_tiff(packed, samples.shape, bits, 0 if photometric == "miniswhite" else 1)
    found = read_image(data).read().astype(float)
    wanted = samples.astype(float) * 65_535 / top
    if photometric == "miniswhite":
        wanted = 65_535 - wanted
    np.testing.assert_allclose(found, wanted, atol=1)


def packed_tiff(packed: bytes, shape: tuple[int, ...], bits: int, photometric: int) -> bytes:
    """Return an uncompressed TIFF of one strip, its samples packed."""
    height, width, channels = shape
    photometric = 2 if channels == 3 else photometric
    tail = struct.pack(f"<{channels}H", *[bits] * channels)
    entries = [
        (256, 3, 1, width), (257, 3, 1, height),
        (258, 3, channels, 8 if channels > 1 else bits),
        (259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, 8 + len(tail)),
        (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(packed)),
    ]  # fmt: skip
    body = tail + packed + bytes(len(packed) % 2)
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


def test_palettes_whose_colour_map_holds_eight_bits():
    found = read("palette-8bit-colormap.tif")
    indices = tifffile.imread(INPUTS / "palette-8bit-colormap.tif")
    np.testing.assert_array_equal(found.read(), np.dstack([indices] * 3))
    image = Image.open(INPUTS / "palette-8bit-colormap.tif")
    np.testing.assert_array_equal(from_pillow(image).read(), found.read())
    sixteen = np.arange(256, dtype=np.uint16)
    for scale in (1, 257):
        colours = np.stack([sixteen, sixteen[::-1], sixteen]) * np.uint16(scale)
        data = tiff(indices, photometric="palette", colormap=colours)
        expected = (colours // scale).astype(np.uint8).T[indices]
        np.testing.assert_array_equal(read_image(data).read(), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_a_channel_that_is_not_called_alpha(dtype: type, planar: str, channels: int):
    samples = RNG.integers(0, 200, (16, 24, channels)).astype(dtype)
    if planar == "separate":
        samples = samples.transpose(2, 0, 1)
    colours = 1 if channels == 2 else 3
    options = {"photometric": "minisblack" if colours == 1 else "rgb", "planarconfig": planar}
    data = tiff(samples, extrasamples=["unspecified"] * (channels - colours), **options)
    with pytest.raises(ImageError, match=r"not call alpha|channels, not"):
        read_image(data)
    if dtype is np.uint8 and planar == "contig" and channels < 5:  # what Pillow opens
        with pytest.raises(ImageError, match="not call alpha"):
            as_raster(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
def test_grey_and_alpha_of_sixteen_bits(byteorder: str, compression: str | None):
    samples = RNG.integers(0, 65_536, (16, 24, 2), np.uint16)
    data = tiff(
        samples,
        byteorder=byteorder,
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
        compression=compression,
        iccprofile=b"a profile",
        resolution=(300, 150),
        resolutionunit="inch",
        description="a caption",
    )
    found = read_image(data)
    np.testing.assert_array_equal(found.read(), samples)
    assert found.metadata.icc == b"a profile"
    assert found.metadata.dpi == (300, 150)
    assert b"a caption" in found.metadata.exif
    np.testing.assert_array_equal(
        read("grey-alpha-16bit-imagemagick.tif").read(),
        read("grey-alpha-16bit-control.png").read(),
    )


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((4, 5, 3), np.float32), "floating-point samples of 32 bits"),
        (np.zeros((4, 5), np.float64), "floating-point samples of 64 bits"),
        (np.zeros((4, 5, 3), np.float16), "floating-point samples of 16 bits"),
        (np.zeros((4, 5, 3), np.uint32), "3 samples of 32 bits"),
        (np.zeros((4, 5, 3), np.int16), "signed samples of 16 bits"),
    ],
)
def test_other_samples_are_refused_by_their_name(samples: np.ndarray, reason: str):
    photometric = "rgb" if samples.ndim == 3 else "minisblack"
    with pytest.raises(ImageError, match=reason):
        read_image(tiff(samples, photometric=photometric))


@pytest.mark.parametrize("name", ["webp", "jpeg2000"])
def test_a_compression_that_is_not_read_is_named(name: str, capfd: pytest.CaptureFixture[str]):
    data = tiff(np.zeros((64, 64, 3), np.uint8), photometric="rgb", compression=name)
    with pytest.raises(ImageError, match=r"TIFF compression (WebP|JPEG 2000) is not read"):
        read_image(data)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_damage_of_deflated_samples(tile: tuple[int, int] | None):
    samples = RNG.integers(0, 256, (64, 48, 3), np.uint8)
    data = bytearray(tiff(samples, photometric="rgb", compression="deflate", tile=tile))
    np.testing.assert_array_equal(read_image(bytes(data)).read(), samples)
    data[len(data) // 2 : len(data) // 2 + 20] = bytes(20)
    with pytest.raises(ImageError, match=r"its deflated data are damaged"):
        read_image(bytes(data))


def test_bits_that_pillow_cuts_are_told():
    """Pillow's images of 16-bit colour hold 8 bits, which an encoder that is given one says."""
    for name in ("gamma1-16bit.png", "cicp-pq-16bit.png"):
        lazy = as_raster(Image.open(INPUTS / name))
        assert lazy.bit_depth == 8
        assert "its 16 bits per sample are stored as 8" in lazy.notices
    assert as_raster(Image.open(INPUTS / "rgb565.bmp")).notices == ()
    assert as_raster(Image.open(INPUTS / "grey-12bit.tif")).notices == ()


# BMP, HEIC, AVIF


def test_sixteen_bits_of_a_whole_pixel():
    with Image.open(INPUTS / "rgb565.bmp") as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read("rgb565.bmp").read(), expected)
    assert read("rgb565.bmp").bit_depth == 8


@pytest.mark.parametrize("primary", [0, 1, 2])
def test_the_main_picture_of_a_heic_is_taken(primary: int):
    register_heif_opener()
    shades = (30, 120, 220)
    images = [Image.new("L", (64, 64), shade).convert("RGB") for shade in shades]
    buffer = io.BytesIO()
    images[0].save(buffer, "HEIF", save_all=True, append_images=images[1:], primary_index=primary)
    for raster in (read_image(buffer.getvalue()), as_raster(Image.open(buffer))):
        assert abs(int(raster.read()[5, 5, 0]) - shades[primary]) < 6
        assert raster.notices == ("only the main of its 3 images is stored",)


# JPEG: precision and damage


def test_twelve_bits_of_a_jpeg_are_refused_by_that_name():
    data = bytearray(jpeg(photograph()))
    frame = data.index(b"\xff\xc0")
    data[frame + 4] = 12
    with pytest.raises(ImageError, match="JPEG of 12 bits per sample, which is not read"):
        read_image(bytes(data))
    data[frame + 1] = 0xC3
    with pytest.raises(ImageError, match="lossless JPEG"):
        read_image(bytes(data))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("tail", [b"", b"\xff", b"\0\0\0"])
def test_a_jpeg_without_its_end_marker(progressive: bool, tail: bytes):
    data = jpeg(photograph(), progressive=progressive)
    raster = read_image(data[:-2] + tail)
    np.testing.assert_array_equal(raster.read(), read_image(data).read())
    assert raster.notices == ()


@pytest.mark.parametrize("libraries", [True, False])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_ends_too_early(
    progressive: bool, libraries: bool, monkeypatch: pytest.MonkeyPatch
):
    if not libraries:
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
    data = jpeg(photograph(), progressive=progressive)
    for kept in (len(data) - 20, len(data) // 2):
        with pytest.raises(ImageError, match="truncated"):
            read_image(data[:kept])


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_in_the_data_of_a_jpeg(progressive: bool):
    image = photograph()
    data = jpeg(image, progressive=progressive)
    assert read_image(data).notices == ()
    noticed = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        damaged = bytearray(data)
        start = data.rindex(b"\xff\xda") if progressive else data.index(b"\xff\xda")
        places = rng.integers(start + 20, len(data) - 2, 30)
        for place in places:
            if damaged[place] != 0xFF and damaged[place - 1] != 0xFF:
                damaged[place] = int(rng.integers(0, 255))
        raster = read_image(bytes(damaged))
        noticed += any("data are damaged" in notice for notice in raster.notices)
    assert noticed >= 8


def test_a_damaged_scan_is_told_without_the_libraries(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert "data are damaged" in read("corrupt-scan.jpg").notices[0]
    assert read("thumb-orient6.jpg").notices == ()
    assert read("jpeg-no-eoi.jpg").notices == ()


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 3}, {"subsampling": 2}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_whole_jpegs_of_any_kind_pass(options: dict, mode: str, progressive: bool):
    for size in ((200, 120), (7, 5), (17, 33)):
        data = jpeg(photograph(*size).convert(mode), progressive=progressive, **options)
        said = "".join(read_image(data).notices)
        assert "damaged" not in said
        assert "damaged" not in "".join(read_image(data + b"a camera's data").notices)


@pytest.mark.skipif(not shutil.which("cjpeg"), reason="needs cjpeg")
@pytest.mark.parametrize(
    "options",
    [
        *("-sample 1x2", "-sample 4x1", "-sample 3x1", "-sample 1x4 -progressive", "-arithmetic"),
        *("-sample 1x1,2x2,2x2", "-rgb -progressive", "-restart 1", "-restart 5B -progressive"),
    ],
)
def test_whole_jpegs_of_rare_kinds_pass(options: str, tmp_path: Path):
    photograph(101, 67).save(tmp_path / "a.ppm")
    command = ["cjpeg", *options.split(), str(tmp_path / "a.ppm")]
    made = subprocess.run(command, check=True, capture_output=True).stdout
    assert read_image(made).notices == ()


# EXIF and orientation


def test_thumbnail_and_sizes_of_a_turned_picture():
    raster = read("thumb-orient6.jpg")
    assert raster.box.shape == (96, 64)
    exif = Image.Exif()
    exif.load(raster.metadata.exif)
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    sizes = (inner[ExifTags.Base.ExifImageWidth], inner[ExifTags.Base.ExifImageHeight])
    assert sizes == (64, 96)
    assert exif[ExifTags.Base.Orientation] == 1
    assert exif.get_ifd(ExifTags.IFD.IFD1) == {}
    assert b"\xff\xd8\xff" not in raster.metadata.exif


@pytest.mark.parametrize("blank", [b"", b" ", b"\n\t"])
@pytest.mark.parametrize("quote", [b'"', b"'"])
@pytest.mark.parametrize("form", ["attribute", "element", "prefix"])
def test_orientation_of_xmp_however_it_is_written(blank: bytes, quote: bytes, form: str):
    key = b"t:Orientation" if form == "prefix" else b"tiff:Orientation"
    named = key.partition(b":")[0]
    told = key + blank + b"=" + blank + quote + b"6" + quote
    inside = b">"
    if form == "element":
        told, inside = b"", b"><" + key + b">" + blank + b"6" + blank + b"</" + key + b">"
    xmp = b'<rdf:Description xmlns:%s="http://ns.adobe.com/tiff/1.0/" %s%s</rdf:Description>'
    image = photograph(96, 64)
    data = jpeg(image, xmp=xmp % (named, told, inside))
    raster = read_image(data)
    assert raster.box.shape == (96, 64)
    assert raster.metadata.xmp == (xmp % (named, told, inside)).replace(b"6", b"1")
    assert b'tiff:Orientation = "1"' in read("xmp-orient-spaces.jpg").metadata.xmp


def test_the_container_decides_where_it_turns_pictures():
    raster = read("xmp6-upright.avif")
    assert raster.box.shape == (64, 96)
    assert b'tiff:Orientation="1"' in raster.metadata.xmp
    register_heif_opener()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    buffer = io.BytesIO()
    photograph(96, 64).save(buffer, "HEIF", exif=exif)  # which tells the container nothing
    for found in (read_image(buffer.getvalue()), as_raster(Image.open(buffer))):
        assert found.box.shape == (64, 96)
        assert exif_orientation(found.metadata.exif) == 1


@pytest.mark.parametrize("name", ["AVIF", "HEIF"])
def test_a_container_that_turns_its_picture(name: str):
    register_heif_opener()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ExifOffset] = {
        ExifTags.Base.ExifImageWidth: 96,
        ExifTags.Base.ExifImageHeight: 64,
    }
    image, buffer = photograph(96, 64), io.BytesIO()
    image.info["exif"] = exif.tobytes()
    image.save(buffer, name, exif=exif.tobytes())
    raster = read_image(buffer.getvalue())
    assert raster.box.shape == (96, 64)
    assert exif_orientation(raster.metadata.exif) == 1
    assert size_of(raster.metadata.exif) == (64, 96)


def test_a_jpeg_xl_is_as_its_container_shows_it(tmp_path: Path):
    load_jxl()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image, buffer = photograph(96, 64), io.BytesIO()
    image.save(buffer, "JXL", exif=exif.tobytes())  # which tells the container nothing
    found = read_image(buffer.getvalue())
    assert found.box.shape == (64, 96)
    assert exif_orientation(found.metadata.exif) == 1


# HDR gain maps


def test_an_hdr_gain_map_is_told_and_no_longer_claimed():
    raster = read("ultrahdr.jpg")
    assert b"hdr" not in raster.metadata.xmp.lower()
    assert raster.metadata.xmp.endswith(b"</x:xmpmeta>")
    lazy = as_raster(Image.open(INPUTS / "ultrahdr.jpg"))
    assert lazy.notices == raster.notices
    assert lazy.metadata == raster.metadata


def test_a_gain_map_of_the_iso_standard():
    data = jpeg(photograph())
    name = b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)
    segment = struct.pack(">BBH", 0xFF, 0xE2, len(name) + 2) + name
    assert "gain map" in read_image(data[:2] + segment + data[2:]).notices[0]


def test_the_rest_of_the_packet_stays():
    xmp = (
        b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        b'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        b'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" dc:title="kept" '
        b'hdrgm:Version="1.0"><Container:Directory><rdf:Seq><rdf:li><Container:Item '
        b'Item:Semantic="GainMap" Item:Length="99"/></rdf:li></rdf:Seq></Container:Directory>'
        b"<dc:creator>kept too</dc:creator></rdf:Description>"
    )
    kept = read_image(jpeg(photograph(), xmp=xmp)).metadata.xmp
    assert b"GainMap" not in kept
    assert b"hdrgm" not in kept
    assert b'dc:title="kept"' in kept
    assert b"<dc:creator>kept too</dc:creator>" in kept


@pytest.mark.skipif(not shutil.which("cjxl"), reason="needs cjxl")
@pytest.mark.parametrize("transcoded", ["0", "1"])
def test_a_turned_jpeg_in_a_jpeg_xl(transcoded: str, tmp_path: Path):
    """As a JPEG that comes out again it is not turned, as pixels it is."""
    load_jxl()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    source, target = tmp_path / "turned.jpg", tmp_path / "turned.jxl"
    source.write_bytes(jpeg(photograph(96, 64), exif=exif, xmp=b"<x/>"))
    subprocess.run(["cjxl", "-j", transcoded, source, target], check=True, capture_output=True)
    assert read_image(target.read_bytes()).box.shape == (96, 64)
