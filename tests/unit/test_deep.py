import gc
import importlib
import io
import logging
import struct
import sys
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms

from vaecodec.deep import read_deep, write_deep
from vaecodec.errors import ImageError, RuntimeUnavailableError
from vaecodec.metadata import Metadata, read_metadata

RNG = np.random.default_rng(3)
HEIGHT, WIDTH = 21, 34
SIZE = (WIDTH, HEIGHT)
SAMPLES = {c: RNG.integers(0, 65_536, (HEIGHT, WIDTH, c), np.uint16) for c in (1, 2, 3, 4)}
RGB, RGBA = SAMPLES[3], SAMPLES[4]
PHOTOMETRIC = {1: "minisblack", 2: "minisblack", 3: "rgb", 4: "rgb"}
# What Pillow makes of 16 bits per sample: their upper halves.
PILLOW_MODES = {
    "PNG": {1: "I;16", 2: "RGBA", 3: "RGB", 4: "RGBA"},
    "TIFF": {1: "I;16", 3: "RGB", 4: "RGBA"},
}
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/">ü</x:xmpmeta>'.encode()


def exif_block() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Zorki"
    exif[ExifTags.Base.Model] = "4"  # so short that it lies in the entry itself
    exif[ExifTags.Base.Copyright] = "nobody at all"
    exif[ExifTags.Base.Orientation] = 1
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 400
    return exif.tobytes().removeprefix(b"Exif\x00\x00")


METADATA = Metadata(
    icc=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    exif=exif_block(),
    xmp=XMP,
    dpi=(300, 240),
)


def png_chunk(fourcc: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(fourcc + payload)
    return struct.pack(">I", len(payload)) + fourcc + payload + struct.pack(">I", crc)


def png(samples: np.ndarray, *chunks: bytes, interlaced: bool = False, depth: int = 16) -> bytes:
    """Write a PNG by hand, as its specification has it."""
    height, width, channels = samples.shape
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
        passes += [(1, 0, 2, 2), (0, 1, 1, 2)]
        passes = [(y, x, down, across) for x, y, across, down in passes]
    rows = b""
    for top, left, down, across in passes:
        part = samples[top::down, left::across].astype(">u2" if depth == 16 else "u1")
        if part.size:
            rows += b"".join(b"\x00" + row.tobytes() for row in part)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, interlaced)
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", zlib.compress(rows))]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, png_chunk(b"IEND", b"")])


def tiff(samples: np.ndarray, **options) -> bytes:
    """Write a TIFF with tifffile, RGB and interleaved by default."""
    buffer = io.BytesIO()
    defaults = {"photometric": "rgb", "planarconfig": "contig", "metadata": None}
    tifffile.imwrite(buffer, samples, **(defaults | options))
    return buffer.getvalue()


def patched(data: bytes, tag: int, value: int) -> bytes:
    """Give a tag of a little-endian TIFF another value, a SHORT in its entry."""
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            fields = struct.pack("<2HII", tag, 3, 1, value)
            return data[:entry] + fields + data[entry + 12 :]
    raise LookupError(tag)


@pytest.mark.parametrize("channels", SAMPLES)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_round_trip(format: str, channels: int):
    data = write_deep(SAMPLES[channels], format, Metadata())
    read = read_deep(data, format, SIZE)
    assert read.dtype == np.dtype(np.uint16)
    assert read.dtype.isnative
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, SAMPLES[channels])


@pytest.mark.parametrize(
    "shape", [(1, 1, 4), (1, 3, 3), (3, 1, 3), (3, 3, 3), (4, 4, 2), (2, 2, 1)]
)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_small_shapes(format: str, shape: tuple[int, int, int]):
    samples = RNG.integers(0, 65_536, shape, np.uint16)
    read = read_deep(write_deep(samples, format, Metadata()), format, (shape[1], shape[0]))
    np.testing.assert_array_equal(read, samples)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_view_in_another_order_is_written_as_it_is_seen(format: str):
    turned = RGB.transpose(1, 0, 2)[::-1]
    turned.flags.writeable = False
    read = read_deep(write_deep(turned, format, Metadata()), format, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(read, turned)


@pytest.mark.parametrize(
    ("format", "channels"), [(name, c) for name, modes in PILLOW_MODES.items() for c in modes]
)
def test_pillow_opens_what_is_written(format: str, channels: int):
    with Image.open(io.BytesIO(write_deep(SAMPLES[channels], format, METADATA))) as image:
        assert image.format == format
        assert image.mode == PILLOW_MODES[format][channels]
        samples = np.asarray(image).reshape(HEIGHT, WIDTH, -1)
        if channels == 2:  # which Pillow spreads over RGB
            samples = samples[:, :, 2:]
        np.testing.assert_array_equal(samples, SAMPLES[channels] >> (0 if channels == 1 else 8))
        read = read_metadata(image)
    assert read.icc == METADATA.icc
    assert read.xmp == METADATA.xmp
    assert read.dpi == pytest.approx(METADATA.dpi, rel=1e-4)
    exif = Image.Exif()
    exif.load(b"Exif\x00\x00" + read.exif)
    assert exif[ExifTags.Base.Make] == "Zorki"
    assert exif[ExifTags.Base.Model] == "4"
    assert exif[ExifTags.Base.Copyright] == "nobody at all"
    if format == "PNG":
        assert read.exif == METADATA.exif
        assert image.info["xmp"] == METADATA.xmp


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_nothing_is_made_up(format: str):
    with Image.open(io.BytesIO(write_deep(RGB, format, Metadata()))) as image:
        assert read_metadata(image) == Metadata()
        if format == "TIFF":
            assert not {270, 305, 306} & set(image.tag_v2)


@pytest.mark.parametrize("exif", [b"junk", b"MM\x00*", exif_block()[:30], b"II*\x00" + b"\xff" * 9])
def test_damaged_exif_goes_as_far_as_it_can_be_read(exif: bytes):
    data = write_deep(RGB, "TIFF", Metadata(exif=exif))
    np.testing.assert_array_equal(read_deep(data, "TIFF", SIZE), RGB)


def test_big_endian_exif():
    entry = struct.pack(">2H2I", 271, 2, 6, 26)
    exif = b"MM\x00*" + struct.pack(">IH", 8, 1) + entry + bytes(4) + b"Leica\x00"
    with Image.open(io.BytesIO(write_deep(RGB, "TIFF", Metadata(exif=exif)))) as image:
        assert image.tag_v2[271] == "Leica"


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_other_formats_are_refused(format: str):
    with pytest.raises(ImageError, match=rf"{format} files hold 8 bits .* \.png or \.tif"):
        write_deep(RGB, format, Metadata())
    with pytest.raises(ImageError, match=f"{format} files hold 8 bits"):
        read_deep(b"", format, SIZE)


@pytest.mark.parametrize("samples", [RGB[:, :, 0], RGB.astype(np.uint8), np.repeat(RGB, 2, axis=2)])
def test_other_arrays_are_refused(samples: np.ndarray):
    with pytest.raises(ValueError, match="samples are"):
        write_deep(samples, "PNG", Metadata())


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_what_a_library_refuses_to_write(format: str):
    with pytest.raises(ImageError, match=f"cannot be written as {format}: "):
        write_deep(RGB[:0], format, Metadata())


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", SAMPLES)
def test_png_by_the_specification(channels: int, interlaced: bool):
    data = png(SAMPLES[channels], interlaced=interlaced)
    np.testing.assert_array_equal(read_deep(data, "PNG", SIZE), SAMPLES[channels])


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (3, 5), (5, 3), (9, 1), (1, 9)])
def test_small_interlaced_png(shape: tuple[int, int]):
    samples = RNG.integers(0, 65_536, (*shape, 3), np.uint16)
    read = read_deep(png(samples, interlaced=True), "PNG", shape[::-1])
    np.testing.assert_array_equal(read, samples)


def test_png_in_many_chunks():
    head, body, end = png(RGB)[:33], png(RGB)[33:-12], png(RGB)[-12:]
    pixels = body[8:-4]
    parts = [png_chunk(b"IDAT", pixels[start : start + 7]) for start in range(0, len(pixels), 7)]
    data = b"".join([head, *parts, png_chunk(b"IDAT", b""), end])
    np.testing.assert_array_equal(read_deep(data, "PNG", SIZE), RGB)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_colour_key_becomes_alpha(channels: int):
    samples = SAMPLES[channels]
    key = png_chunk(b"tRNS", samples[2, 5].astype(">u2").tobytes())
    read = read_deep(png(samples, key), "PNG", SIZE)
    np.testing.assert_array_equal(read[:, :, :channels], samples)
    hidden = (samples == samples[2, 5]).all(axis=2)
    np.testing.assert_array_equal(read[:, :, channels], np.where(hidden, 0, 65_535))


def test_png_of_8_bits_is_refused():
    with pytest.raises(ImageError, match="8 bits per sample, not 16"):
        read_deep(png(RGB >> 8, depth=8), "PNG", SIZE)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True},
        {"compression": "adobe_deflate", "predictor": True, "rowsperstrip": 4},
        {"compression": "deflate"},
        {"compression": "packbits"},
        {"compression": "zstd", "predictor": True},
        {"tile": (16, 16)},
        {"tile": (64, 48), "compression": "lzw", "predictor": True},
        {"rowsperstrip": 5},
        {"bigtiff": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_tiff_variants(byteorder: str, options: dict, planarconfig: str):
    for samples in (RGB, RGBA):
        stored = samples if planarconfig == "contig" else np.moveaxis(samples, 2, 0)
        layout = {"planarconfig": planarconfig, "byteorder": byteorder, "photometric": "rgb"}
        extra = {"extrasamples": ["unassalpha"]} if samples is RGBA else {}
        read = read_deep(tiff(stored, **layout, **extra, **options), "TIFF", SIZE)
        assert read.dtype.isnative
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, samples)


def test_tiff_grey_with_alpha_where_white_is_zero():
    options = {"photometric": "miniswhite", "extrasamples": ["unassalpha"]}
    read = read_deep(tiff(SAMPLES[2], **options), "TIFF", SIZE)
    np.testing.assert_array_equal(read[:, :, 0], 65_535 - SAMPLES[2][:, :, 0])
    np.testing.assert_array_equal(read[:, :, 1], SAMPLES[2][:, :, 1])


def test_tiff_premultiplied_alpha_is_divided_out():
    alpha = RGBA[:, :, 3:].copy()
    alpha[0, :3, 0] = (0, 1, 65_535)
    stored = np.concatenate([RGB.astype(np.uint64) * alpha // 65_535, alpha], axis=2)
    stored[0, 0, :3] = 9  # more than alpha, and nothing to divide by
    stored[0, 1, :3] = 7
    read = read_deep(tiff(stored.astype(np.uint16), extrasamples=["assocalpha"]), "TIFF", SIZE)
    colour = stored[:, :, :3] / np.maximum(alpha, 1) * 65_535
    expected = np.where(alpha == 0, 0, np.minimum(np.floor(colour + 0.5), 65_535))
    np.testing.assert_array_equal(read[:, :, :3], expected)
    np.testing.assert_array_equal(read[:, :, 3:], alpha)


def test_tiff_of_several_pages_gives_the_first():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for samples in (RGB, RGB[::-1]):
            writer.write(samples, photometric="rgb", metadata=None)
    np.testing.assert_array_equal(read_deep(buffer.getvalue(), "TIFF", SIZE), RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_orientation_is_left_to_the_caller(orientation: int):
    data = tiff(RGB, extratags=[(274, 3, 1, orientation, True)])
    with Image.open(io.BytesIO(data)) as image:
        size = image.size
    assert (size == SIZE) == (orientation < 5)
    np.testing.assert_array_equal(read_deep(data, "TIFF", size), RGB)
    np.testing.assert_array_equal(read_deep(data, "TIFF", SIZE), RGB)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(RGBA, extrasamples=["unspecified"]), r"not call alpha \(TIFF ExtraSamples 0\)"),
        (tiff(np.repeat(RGB, 2, axis=2), extrasamples=[0] * 3), "6 channels"),
        (tiff(RGBA, photometric="separated"), "is CMYK: convert it to RGB first"),
        (patched(tiff(RGB), 262, 6), "is YCbCr"),
        (patched(tiff(RGB), 262, 777), "of TIFF photometric 777"),
        (tiff(RGB.astype(np.float32)), "floating-point samples of 32 bits: convert it"),
        (tiff(RGB.astype(np.float16)), "floating-point samples of 16 bits"),
        (tiff(RGB.astype(np.uint32)), "unsigned samples of 32 bits"),
        (tiff(RGB.astype(np.int16)), "has signed samples of 16 bits"),
        (tiff(RGB.astype(np.uint8)), "samples of 8 bits"),
        (tiff(RGB, compression="jpeg2000"), "compression JPEG_?2000.*LZW or deflate first"),
        (patched(tiff(RGB, compression="lzw"), 259, 999), "compression 999"),
    ],
)
def test_other_tiffs_are_refused(data: bytes, message: str):
    with pytest.raises(ImageError, match=message):
        read_deep(data, "TIFF", SIZE)


@pytest.mark.parametrize(
    "data",
    [
        patched(tiff(RGB, tile=(16, 16), compression="lzw"), 322, 65_520),  # fewer tiles
        patched(tiff(RGB, tile=(64, 64), compression="lzw"), 323, 65_520),  # as many, of 100 MB
        patched(tiff(RGB, compression="lzw"), 278, 1),  # more strips
        patched(tiff(RGB, compression="lzw"), 279, 60_000),  # longer than the file
        patched(tiff(RGB, compression="lzw"), 278, 0),
    ],
)
def test_tiff_layouts_that_do_not_fit_are_refused(data: bytes):
    with pytest.raises(ImageError, match="cannot be read"):
        read_deep(data, "TIFF", SIZE)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("size", [(WIDTH + 1, HEIGHT), (WIDTH, HEIGHT - 1), (HEIGHT, WIDTH)])
def test_another_size_is_refused(format: str, size: tuple[int, int]):
    data = write_deep(RGB, format, Metadata())
    with pytest.raises(ImageError, match=f"has 34x21 pixels where {size[0]}x{size[1]} were"):
        read_deep(data, format, size)


@pytest.mark.parametrize("data", [png(RGB), tiff(RGB)])
def test_another_size_is_refused_before_decoding(data: bytes, monkeypatch: pytest.MonkeyPatch):
    def decode(*_: object, **__: object) -> None:
        pytest.fail("the pixels were decoded")

    monkeypatch.setattr(imagecodecs, "png_decode", decode)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", decode)
    with pytest.raises(ImageError, match="were expected"):
        read_deep(data, "PNG" if data.startswith(b"\x89PNG") else "TIFF", (1, 1))


FILES = [
    ("PNG", write_deep(RGBA, "PNG", METADATA)),
    ("PNG", png(RGB, interlaced=True)),
    ("TIFF", write_deep(RGBA, "TIFF", METADATA)),
    ("TIFF", tiff(np.moveaxis(RGB, 2, 0), planarconfig="separate", byteorder=">")),
    ("TIFF", tiff(RGB, tile=(16, 16), compression="lzw", predictor=True)),
]


def read_damaged(data: bytes, format: str) -> None:
    """Hold a damaged file to what is promised."""
    try:
        read = read_deep(data, format, SIZE)
    except ImageError:
        return
    assert read.shape[:2] == (HEIGHT, WIDTH)
    assert read.shape[2] in (1, 2, 3, 4)
    assert read.dtype == np.uint16


@pytest.mark.parametrize(("format", "data"), FILES)
def test_truncated_files(format: str, data: bytes):
    for end in (*range(16), *np.linspace(16, len(data) - 1, 30, dtype=int)):
        read_damaged(data[:end], format)


@pytest.mark.parametrize(("format", "data"), FILES)
def test_changed_bytes(format: str, data: bytes):
    rng = np.random.default_rng(5)
    # Half of the changes where they do most: in the headers, at one end or the other.
    ends = [*range(200), *range(len(data) - 400, len(data))]
    for number in range(200):
        damaged = bytearray(data)
        place = rng.choice(ends) if number % 2 else rng.integers(len(data))
        damaged[place] = rng.integers(256)
        read_damaged(bytes(damaged), format)


def test_png_changed_under_right_checksums():
    rng = np.random.default_rng(6)
    header = struct.pack(">2I5B", WIDTH, HEIGHT, 16, 6, 0, 0, 0)
    pixels = zlib.compress(bytes(HEIGHT * (1 + 8 * WIDTH)))
    for _ in range(200):
        parts = [bytearray(header), bytearray(pixels)]
        part = parts[rng.integers(2)]
        part[rng.integers(len(part))] = rng.integers(256)
        head, body = (bytes(p) for p in parts)
        chunks = png_chunk(b"IHDR", head) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
        read_damaged(b"\x89PNG\r\n\x1a\n" + chunks, "PNG")


ROW = 1 + 6 * WIDTH


@pytest.mark.parametrize(
    "pixels",
    [
        bytes(HEIGHT * ROW - 1),  # a byte is missing
        bytes(HEIGHT * ROW + 1),
        bytes(ROW) + b"\x05" + bytes((HEIGHT - 1) * ROW - 1),  # there is no such filter
        b"",
        bytes(10**7),
    ],
    ids=len,
)
@pytest.mark.parametrize("cut", [0, 1, 5])
def test_damaged_png_rows_do_not_reach_imagecodecs(
    pixels: bytes, cut: int, monkeypatch: pytest.MonkeyPatch
):
    """It would lose an image's memory and a reference to None with each."""
    monkeypatch.setattr(imagecodecs, "png_decode", lambda _: pytest.fail("decoded"))
    stream = zlib.compress(pixels)
    chunk = png_chunk(b"IDAT", stream[: len(stream) - cut])
    with pytest.raises(ImageError, match="cannot be read"):
        read_deep(png(RGB)[:33] + chunk + png_chunk(b"IEND", b""), "PNG", SIZE)


@pytest.mark.parametrize(("format", "data"), FILES)
def test_damage_loses_no_reference_to_none(format: str, data: bytes):
    rng = np.random.default_rng(8)
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        read_damaged(bytes(damaged[: rng.integers(len(data) // 2, len(data))]), format)
    gc.collect()
    assert sys.getrefcount(None) > before - 50


@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("PNG", png(RGB, png_chunk(b"gAMA", b"1"))),
        ("TIFF", patched(tiff(RGB, extratags=[(42113, 3, 1, 5, True)]), 296, 9)),
    ],
)
def test_what_the_libraries_log_stays_in(
    format: str, data: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    tifffile.TiffFile(io.BytesIO(data)) if format == "TIFF" else imagecodecs.png_decode(data)
    assert caplog.records, "there is nothing to keep in"
    caplog.clear()
    np.testing.assert_array_equal(read_deep(data, format, SIZE), RGB)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    for name in ("imagecodecs", "tifffile"):
        assert not logging.getLogger(name).filters


@pytest.mark.parametrize("missing", ["imagecodecs", "tifffile"])
def test_missing_libraries(missing: str, monkeypatch: pytest.MonkeyPatch):
    found = importlib.import_module

    def import_module(name: str) -> object:
        if name == missing:
            raise ModuleNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(RuntimeUnavailableError, match="need imagecodecs and tifffile") as caught:
        read_deep(b"", "PNG", SIZE)
    assert caught.value.pip_line == "pip install 'vaecodec[deep]'"
    with pytest.raises(RuntimeUnavailableError):
        write_deep(RGB, "TIFF", Metadata())


def test_lack_of_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch):
    def decode(data: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(imagecodecs, "png_decode", decode)
    monkeypatch.setattr(imagecodecs, "png_encode", lambda *_, **__: decode(b""))
    with pytest.raises(MemoryError):
        read_deep(png(RGB), "PNG", SIZE)
    with pytest.raises(MemoryError):
        write_deep(RGB, "PNG", Metadata())
