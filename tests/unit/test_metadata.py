from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from vaecodec.codec import Codec
from vaecodec.container import Chunk, Container, pack, unpack
from vaecodec.image import read_image, write_image
from vaecodec.metadata import (
    KINDS,
    Metadata,
    attach,
    from_chunks,
    image_orientation,
    read_metadata,
    to_chunks,
    upright_exif,
)
from vaecodec.raster import from_array, from_pillow
from vaecodec.texts import Text

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta><a tiff:Orientation="%d" dc:title="\xc3\xa9"/></x:xmpmeta>'
NOTE = b"maker's note at a fixed place"
FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}


def exif_block(order: str, orientation: int) -> bytes:
    """Return a block with two entries, and bytes behind it that must not move."""
    head = {"<": b"II*\x00", ">": b"MM\x00*"}[order] + struct.pack(f"{order}I", 8)
    make = struct.pack(f"{order}HHI4s", ExifTags.Base.Make, 2, 4, b"ACM\0")
    turn = struct.pack(f"{order}HHIHH", ExifTags.Base.Orientation, 3, 1, orientation, 0)
    return head + struct.pack(f"{order}H", 2) + make + turn + struct.pack(f"{order}I", 0) + NOTE


def gradient() -> Image.Image:
    return Image.linear_gradient("L").resize((40, 20)).convert("RGB")


def written(image: Image.Image, suffix: str) -> bytes:
    """Return a file of an image, stored as it is, with the metadata that it carries."""
    raster = from_array(np.asarray(image), read_metadata(image))
    return bytes(write_image(raster, suffix))


def photograph(name: str, orientation: int = 1) -> Image.Image:
    """Return an image that Pillow has written and read again, with all kinds of metadata."""
    image = gradient()
    filled = Metadata(PROFILE, exif_block(">", orientation), XMP % orientation, (300.0, 150.0))
    attach(image, filled)
    if name == "TIFF":
        image.info["exif"] = b""
        exif = Image.Exif()
        exif[ExifTags.Base.Make] = "ACM"
        exif[ExifTags.Base.XMLPacket] = XMP % orientation
        buffer = io.BytesIO()
        image.save(buffer, name, exif=exif, icc_profile=PROFILE, dpi=(300, 150))
        return Image.open(buffer)
    return Image.open(io.BytesIO(written(image, FORMATS[name])))


@pytest.fixture(scope="module")
def tiny(tiny_bundle: Path) -> Codec:
    return Codec(tiny_bundle)


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_file_says_comes_back(tiny: Codec, name: str):
    image = photograph(name)
    decoded = tiny.decode(tiny.encode(image))
    reopened = Image.open(io.BytesIO(written(decoded, FORMATS[name])))
    for found in (decoded, reopened):
        metadata = read_metadata(found)
        assert metadata.icc == PROFILE
        assert metadata.xmp == XMP % 1
        assert found.getexif()[ExifTags.Base.Make] == "ACM"
        if name != "TIFF":
            assert metadata.exif == exif_block(">", 1)
        if name != "WEBP":  # which has no place for it
            assert metadata.dpi == pytest.approx((300, 150), abs=0.1)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_turned_once(tiny: Codec, name: str):
    """Pixels come upright, and neither EXIF nor XMP turns them again."""
    image = photograph(name, orientation=6)
    decoded = tiny.decode(tiny.encode(image))
    assert decoded.size == (20, 40)
    assert read_image(written(decoded, FORMATS[name])).read().shape == (40, 20, 3)
    assert read_metadata(decoded).exif == exif_block(">", 1)
    assert read_metadata(decoded).xmp == XMP % 1


@pytest.mark.parametrize("suffix", FORMATS.values())
def test_directories_of_a_camera_come_back(tiny: Codec, suffix: str):
    """What nearly every photograph has: settings and a place, in directories of their own."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "ACM"
    exif[ExifTags.Base.ExifOffset] = {ExifTags.Base.DateTimeOriginal: "2026:11:29 12:00:00"}
    exif[ExifTags.Base.GPSInfo] = {ExifTags.GPS.GPSLatitude: (52.0, 31.0, 12.5)}
    image = gradient()
    image.info["exif"] = exif.tobytes()
    decoded = tiny.decode(tiny.encode(image))
    found = Image.open(io.BytesIO(written(decoded, suffix))).getexif()
    assert found[ExifTags.Base.Make] == "ACM"
    settings = found.get_ifd(ExifTags.IFD.Exif)
    assert settings[ExifTags.Base.DateTimeOriginal] == "2026:11:29 12:00:00"
    assert found.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == (52.0, 31.0, 12.5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_is_stripped(tiny: Codec, kind: str):
    image = photograph("PNG")
    attach(image, Metadata(iptc=b"\x1c\x02x\0\1a", comment=b"a", texts=(Text("Title", "a"),)))
    whole = read_metadata(tiny.decode(tiny.encode(image)))
    for stripped in (
        tiny.decode(tiny.encode(image, strip=[kind])),
        tiny.decode(tiny.encode(image), strip=[kind]),
    ):
        assert read_metadata(stripped) == whole.without([kind])
        assert whole.without([kind]) != whole


def test_what_to_strip_may_be_one_name_or_all_of_them(tiny: Codec):
    image = photograph("PNG")
    whole = read_metadata(image)
    assert whole.without("exif") == whole.without(["exif"])
    assert whole.without("all") == whole.without(["dpi", "all"]) == Metadata()
    for wrong in ("EXIF", ["gps"], ["all", "gps"], "exif,icc"):
        with pytest.raises(
            ValueError, match="none of exif, icc, xmp, dpi, iptc, text, comment, all"
        ):
            tiny.encode(image, strip=wrong)


def test_nothing_is_stored_for_an_image_without_metadata(tiny: Codec):
    assert unpack(tiny.encode(Image.new("RGB", (16, 16)))).ancillary == ()
    assert unpack(tiny.encode(photograph("PNG"), strip=KINDS)).ancillary == ()


@pytest.mark.parametrize("order", ["<", ">"])
def test_only_the_orientation_changes(order: str):
    turned = exif_block(order, 8)
    upright = upright_exif(turned)
    assert upright == exif_block(order, 1)
    assert upright_exif(upright) == upright
    assert upright.endswith(NOTE)


@pytest.mark.parametrize(
    "exif",
    [b"", b"II", b"XX*\x00\x08\0\0\0", b"II*\x00\xff\xff\xff\xff", exif_block("<", 3)[:30]],
)
def test_a_block_that_cannot_be_read_is_dropped(exif: bytes):
    assert upright_exif(exif) == b""


@given(st.binary(max_size=80))
def test_any_block_is_kept_whole_or_dropped(tail: bytes):
    for head in (b"II*\x00", b"MM\x00*"):
        assert len(upright_exif(head + tail)) in (0, 4 + len(tail))


def test_what_a_file_does_not_say_is_not_made_up():
    """Pillow gives TIFF and JPEG files a resolution that they do not have."""
    for suffix in (".tif", ".jpg"):
        image = Image.new("RGB", (8, 8))
        attach(image, Metadata(exif=exif_block("<", 1)))
        assert read_image(written(image, suffix)).metadata.dpi is None


def test_no_exif_can_change_the_layout_of_a_tiff():
    exif = Image.Exif()
    for tag, value in ((256, 4000), (257, 3000), (262, 6), (277, 1), (278, 0), (317, 2)):
        exif[tag] = value
    exif[ExifTags.Base.Make] = "ACM"
    image = gradient()
    attach(image, Metadata(exif=exif.tobytes().removeprefix(b"Exif\x00\x00")))
    data = written(image, ".tif")
    assert Image.open(io.BytesIO(data)).getexif()[ExifTags.Base.Make] == "ACM"
    np.testing.assert_array_equal(read_image(data).read(), np.asarray(image))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "I;16", "deep"])
def test_other_kinds_of_image_keep_it(tiny: Codec, kind: str):
    metadata = Metadata(PROFILE, exif_block(">", 6), XMP % 6, (300.0, 150.0))
    if kind == "deep":
        samples = np.asarray(gradient()).astype(np.uint16) * 257
        image = read_image(bytes(write_image(from_array(samples, metadata), ".png")))
    else:
        image = Image.fromarray(np.full((20, 40), 700, np.uint16))
        image = image if kind == "I;16" else gradient().convert(kind)
        attach(image, metadata)
    decoded = tiny.decode_raster(tiny.encode(image))
    assert decoded.box.shape == (40, 20)
    for found in (decoded, read_image(bytes(write_image(decoded, ".png")))):
        assert found.box.shape == (40, 20)
        assert found.metadata.dpi == pytest.approx((300, 150), abs=0.1)
        assert replace(found.metadata, dpi=metadata.dpi) == metadata.upright()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_an_image(order: str, orientation: int):
    image = gradient()
    assert image_orientation(image) == 1
    attach(image, Metadata(exif=exif_block(order, orientation)))
    assert image_orientation(image) == orientation
    assert from_pillow(image).orientation == orientation


@pytest.mark.parametrize("orientation", [0, 9, 255, "left", None])
def test_orientations_that_are_none(orientation: object, monkeypatch: pytest.MonkeyPatch):
    image = gradient()
    monkeypatch.setattr(image, "getexif", lambda: {ExifTags.Base.Orientation: orientation})
    assert image_orientation(image) == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_damage_before_the_orientation_hides_it_from_nobody(tiny: Codec, order: str):
    """The maker's name points outside of the block: Pillow stops there, and we do not."""
    block = bytearray(exif_block(order, 6))
    struct.pack_into(f"{order}II", block, 14, 400, 60_000)
    image = Image.new("RGB", (40, 20))
    attach(image, Metadata(exif=bytes(block)))
    decoded = tiny.decode(tiny.encode(image))
    assert decoded.size == (20, 40)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".bmp"])
def test_hostile_metadata_costs_no_picture(tiny: Codec, suffix: str):
    container = unpack(tiny.encode(gradient()))
    chunks = (
        Chunk(b"exif", exif_block("<", 6)),
        Chunk(b"exif", b"garbage"),
        Chunk(b"xmpp", b"\xff\xfe not XML at all"),
        Chunk(b"iccp", b"no profile"),
        Chunk(b"dpis", struct.pack("<2d", 1e300, -1)),
    )
    for ancillary in (chunks, chunks[1:]):
        data = pack(Container(container.header, container.latents, ancillary=ancillary))
        reopened = read_image(bytes(write_image(tiny.decode_raster(data), suffix)))
        assert reopened.read().shape == (20, 40, 3)


def test_chunks_come_back():
    texts = (Text("Title", "Ünï"), Text("parameters", "", "en", "Werte"))
    metadata = Metadata(b"icc", b"exif", b"xmp", (72.0, 1e-3), b"iptc", b"comment", texts)
    chunks = to_chunks(metadata)
    names = ["iccp", "exif", "xmpp", "iptc", "comm", "text", "dpis"]
    assert [chunk.name for chunk in chunks] == names
    assert from_chunks(chunks) == metadata
    assert from_chunks((*chunks, Chunk(b"iccp", b"second"))) == metadata
    assert from_chunks((Chunk(b"note", b"of another tool"),)) == Metadata()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"short",
        struct.pack("<2d", 72, 0),
        struct.pack("<2d", float("nan"), 72),
        struct.pack("<2d", 72, 1e300),
    ],
)
def test_a_resolution_that_is_none(payload: bytes):
    assert from_chunks([Chunk(b"dpis", payload)]) == Metadata()


@pytest.mark.parametrize(
    "dpi", [(0, 0), ("a", "b"), 72, "72", b"ab", (72,), (float("inf"), 1.0), None]
)
def test_a_file_without_a_usable_resolution(dpi: object):
    image = Image.new("RGB", (4, 4))
    image.info["dpi"] = dpi
    assert read_metadata(image).dpi is None


def test_exif_that_pillow_cannot_parse(monkeypatch: pytest.MonkeyPatch):
    image = Image.open(io.BytesIO(written(gradient(), ".jpg")))

    def fail() -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(image, "getexif", fail)
    assert image_orientation(image) == 1
    assert read_metadata(image) == Metadata()
