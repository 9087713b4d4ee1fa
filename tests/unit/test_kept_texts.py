"""Texts, IPTC, comments and long XMP: from files to `.vaec` and back into files."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, IptcImagePlugin, PngImagePlugin

from vaecodec.codec import Codec
from vaecodec.container import unpack
from vaecodec.image import read_image, write_image, writing_notices
from vaecodec.jpeg_parts import iptc_of, read_parts
from vaecodec.metadata import Metadata, read_metadata
from vaecodec.raster import Raster, as_raster, from_array
from vaecodec.texts import TEXTS_MAX, Text, bounded, pack_texts, unpack_texts

INPUTS = Path(__file__).parents[1] / "inputs"
RGB = np.random.default_rng(6).integers(0, 256, (16, 24, 3), np.uint8)
IPTC = b"\x1c\x02x\x00\x07caption\x1c\x02t\x00\x06(c) me"
TEXTS = (
    Text("parameters", "a cat, Steps: 20, Seed: 42"),
    Text("Title", "Ünï"),
    Text("Description", "日本", "ja", "説明"),
    Text("Comment", ""),
)
ALL = Metadata(iptc=IPTC, comment=b"caf\xc3\xa9", texts=TEXTS)


@pytest.fixture(scope="module")
def tiny(tiny_bundle: Path) -> Codec:
    return Codec(tiny_bundle)


def reread(raster: Raster, suffix: str) -> Metadata:
    return read_image(bytes(write_image(raster, suffix))).metadata


def chunk(name: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(name + payload)
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", crc)


def png(*chunks: bytes, behind: bool = False) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    data = buffer.getvalue()
    place = len(data) - 12 if behind else 33
    return b"".join((data[:place], *chunks, data[place:]))


def with_segment(marker: int, *payloads: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG")
    data = buffer.getvalue()
    segments = [struct.pack(">BBH", 0xFF, marker, len(part) + 2) + part for part in payloads]
    return b"".join((data[:2], *segments, data[2:]))


# Through a file of ours


def test_texts_of_the_files_go_all_the_way(tiny: Codec):
    data = tiny.encode(read_image((INPUTS / "png-text.png").read_bytes()))
    assert {c.name for c in unpack(data).ancillary} == {"text"}
    decoded = tiny.decode_raster(data)
    with Image.open(io.BytesIO(bytes(write_image(decoded, ".png")))) as image:
        assert image.text == {"parameters": "a cat, Steps: 20, Seed: 42", "Title": "Ünï"}
    data = tiny.encode(read_image((INPUTS / "iptc.jpg").read_bytes()))
    assert {c.name for c in unpack(data).ancillary} == {"iptc"}
    with Image.open(io.BytesIO(bytes(write_image(tiny.decode_raster(data), ".jpg")))) as image:
        assert IptcImagePlugin.getiptcinfo(image)[(2, 120)] == b"caption"


def test_pillows_images_carry_them_in_and_out(tiny: Codec):
    for name in ("png-text.png", "iptc.jpg"):
        lazy = Image.open(INPUTS / name)
        whole = read_image((INPUTS / name).read_bytes()).metadata
        assert as_raster(lazy).metadata == whole
        decoded = tiny.decode(tiny.encode(lazy))
        assert read_metadata(decoded) == whole
        assert read_metadata(tiny.decode(tiny.encode(decoded))) == whole
    assert tiny.decode(tiny.encode(from_array(RGB, ALL))).info["Title"] == "Ünï"


def test_a_keyword_hides_nothing_of_pillows(tiny: Codec):
    texts = (Text("exif", "x"), Text("dpi", "y"), Text("transparency", "z"), Text("gamma", "1"))
    decoded = tiny.decode(tiny.encode(from_array(RGB, Metadata(texts=texts))))
    assert not {"exif", "dpi", "transparency", "gamma"} & set(decoded.info)
    assert read_metadata(decoded).texts == texts
    assert decoded.getexif() == {}


# Into other formats


@pytest.mark.parametrize("samples", [RGB, RGB.astype(np.uint16) * 257, RGB[:, :, 0]])
def test_a_png_holds_texts_and_comments(samples: np.ndarray):
    raster = from_array(samples, ALL)
    kept = reread(raster, ".png")
    assert kept.texts == (*TEXTS, Text("Comment", "café"))
    assert kept.iptc == kept.comment == b""
    assert writing_notices(raster, ".png") == ("PNG files hold no IPTC: left out",)


def test_a_jpeg_holds_iptc_and_comments():
    kept = reread(from_array(RGB, ALL), ".jpg")
    assert (kept.iptc, kept.comment, kept.texts) == (IPTC, b"caf\xc3\xa9", ())
    assert writing_notices(from_array(RGB, ALL), ".jpg") == ("JPEG files hold no texts: left out",)


@pytest.mark.parametrize("samples", [RGB, RGB.astype(np.uint16) * 257])
def test_a_tiff_holds_iptc(samples: np.ndarray):
    raster = from_array(samples, ALL)
    assert reread(raster, ".tif").iptc == IPTC
    assert writing_notices(raster, ".tif") == ("TIFF files hold no comment, texts: left out",)


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".bmp", ".ppm", ".jp2", ".tga"])
def test_other_formats_hold_none_and_it_is_said(suffix: str):
    (notice,) = writing_notices(from_array(RGB, ALL), suffix)
    assert notice.endswith("files hold no IPTC, comment, texts: left out")
    assert replace(reread(from_array(RGB, ALL), suffix), dpi=None) == Metadata()


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (Metadata(exif=b"II*\0\x08\0\0\0" + bytes(70_000)), "EXIF of 70,008 bytes"),
        (Metadata(iptc=bytes(70_000)), "IPTC of 70,000 bytes"),
        (Metadata(comment=bytes(70_000)), "comment of 70,000 bytes"),
        (Metadata(icc=bytes(17_000_000)), "colour profile of 17,000,000 bytes"),
    ],
)
def test_a_part_that_is_too_long_is_left_out_alone(lost: Metadata, said: str):
    raster = from_array(RGB, Metadata(**{**_parts(lost), "xmp": b"<x/>"}))
    (notice,) = writing_notices(raster, ".jpg")
    assert said in notice
    assert reread(raster, ".jpg") == Metadata(xmp=b"<x/>")


def _parts(metadata: Metadata) -> dict:
    return {name: getattr(metadata, name) for name in ("icc", "exif", "iptc", "comment")}


def test_xmp_that_is_longer_than_a_segment():
    raster = read_image((INPUTS / "bigxmp.webp").read_bytes())
    assert len(raster.metadata.xmp) > 65_504
    data = bytes(write_image(raster, ".jpg"))
    assert writing_notices(raster, ".jpg") == ()
    assert len(read_parts(data).extensions) == 1
    found = read_image(data)
    assert found.notices == ()
    assert found.metadata == raster.metadata


def test_an_extension_of_another_program_is_joined():
    name = b"0123456789ABCDEF" * 2
    main = b'<rdf:RDF><a dc:title="t" xmpNote:HasExtendedXMP="%s"/></rdf:RDF>' % name
    more = b"<rdf:RDF xmlns:rdf='x'><b>%s</b></rdf:RDF>" % (b"more" * 100)
    segments = [with_head(name, more, at) for at in (0, 200)]
    data = with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main, *segments)
    raster = read_image(data)
    assert raster.notices == ()
    joined = b'<rdf:RDF><a dc:title="t"/><b>%s</b></rdf:RDF>' % (b"more" * 100)
    assert raster.metadata.xmp == joined
    data = with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main, segments[1])
    assert read_image(data).notices == ("the extended part of its XMP is not kept",)


def with_head(name: bytes, packet: bytes, at: int) -> bytes:
    head = b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">2I", len(packet), at)
    return head + packet[at : 200 if at == 0 else None]


def test_an_extension_that_is_not_whole_is_told():
    main = b'<rdf:RDF><a xmpNote:HasExtendedXMP="%s"/></rdf:RDF>' % (b"A" * 32)
    data = with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main)
    raster = read_image(data)
    assert raster.notices == ("the extended part of its XMP is not kept",)
    assert raster.metadata.xmp == main


# PNG


@pytest.mark.parametrize("behind", [False, True])
def test_texts_of_a_png_in_any_chunk(behind: bool):
    packed = zlib.compress("übersetzt".encode())
    data = png(
        chunk(b"tEXt", b"Author\0Jos\xe9"),
        chunk(b"zTXt", b"Copyright\0\0" + zlib.compress(b"me")),
        chunk(b"iTXt", b"Title\0\0\0de\0Titel\0" + "Ü".encode()),
        chunk(b"iTXt", b"Title\0\1\0de\0Titel\0" + packed),
        behind=behind,
    )
    assert read_image(data).metadata.texts == (
        Text("Author", "José"),
        Text("Copyright", "me"),
        Text("Title", "Ü", "de", "Titel"),
        Text("Title", "übersetzt", "de", "Titel"),
    )


def test_what_cannot_be_kept_of_a_text_is_told():
    bomb = zlib.compress(bytes(2**26), 9)
    data = png(
        chunk(b"zTXt", b"Bomb\0\0" + bomb),
        chunk(b"zTXt", b"Bad\0\0" + b"no stream"),
        chunk(b"zTXt", b"Odd\0\7" + b"x"),
        chunk(b"iTXt", b"Short\0\0"),
        chunk(b"iCCP", b"ICC\0\0" + bomb),
        chunk(b"tEXt", b"Title\0kept"),
    )
    raster = read_image(data)
    assert raster.metadata == Metadata(texts=(Text("Title", "kept"),))
    assert raster.notices == (
        "its text 'Bomb' is too long to be kept",
        "its text 'Bad' is damaged, and not kept",
        "its text 'Odd' is damaged, and not kept",
        "its text 'Short' is damaged, and not kept",
        "its colour profile is too long to be kept",
    )
    np.testing.assert_array_equal(raster.read(), RGB)


def test_profiles_in_the_texts_of_older_tools():
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0"

    def text(kind: str, raw: bytes) -> bytes:
        value = f"\n{kind}\n{len(raw):8}\n{raw.hex()[:30]}\n{raw.hex()[30:]}\n"
        keyword = f"Raw profile type {kind}".encode()
        return chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(value.encode()))

    data = png(text("exif", exif), text("iptc", resource), text("xmp", b"<x/>"))
    raster = read_image(data)
    assert raster.box.shape == (24, 16)
    assert raster.metadata.iptc == IPTC
    assert raster.metadata.xmp == b"<x/>"
    assert raster.metadata.texts == ()


def test_settings_of_pillow_neither_count_nor_change(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 10)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 10)
    data = png(chunk(b"zTXt", b"Long\0\0" + zlib.compress(b"x" * 5000)))
    assert read_image(data).metadata.texts == (Text("Long", "x" * 5000),)
    assert (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY) == (10, 10)


# JPEG, GIF and TIFF


def test_comments():
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG", comment=b"first")
    data = buffer.getvalue()
    second = struct.pack(">BBH", 0xFF, 0xFE, 8) + b"second"
    assert read_image(data).metadata.comment == b"first"
    assert read_image(data[:2] + second + data[2:]).metadata.comment == b"second\nfirst"
    buffer = io.BytesIO()
    Image.fromarray(RGB[:, :, 0]).save(buffer, "GIF", comment=b"of a GIF")
    assert read_image(buffer.getvalue()).metadata.comment == b"of a GIF"


@pytest.mark.parametrize("number", [4, 7])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_iptc_of_a_tiff(number: int, byteorder: str):
    import tifffile

    padded = IPTC + bytes(-len(IPTC) % 4)
    value: object = padded
    if number == 4:
        value = struct.unpack(f"{byteorder}{len(padded) // 4}I", padded)
    count = len(value)  # type: ignore[arg-type]
    for samples in (RGB, RGB.astype(np.uint16) * 257):
        buffer = io.BytesIO()
        tag = (33723, number, count, value, True)
        options = {"photometric": "rgb", "byteorder": byteorder, "metadata": None}
        tifffile.imwrite(buffer, samples, extratags=[tag], **options)
        assert read_image(buffer.getvalue()).metadata.iptc == padded


def test_iptc_among_photoshops_resources():
    other = b"8BIM\x03\xed\0\0" + struct.pack(">I", 3) + b"abc\0"
    named = b"8BIM\x04\x04\x04name\0" + struct.pack(">I", len(IPTC)) + IPTC
    assert iptc_of(other + named) == IPTC
    assert iptc_of(other) == b""
    assert iptc_of(IPTC) == IPTC


# The payload of a chunk


def test_a_payload_of_texts():
    assert unpack_texts(pack_texts(TEXTS)) == TEXTS
    assert pack_texts((Text("Title", "é"),)) == (
        b"\x05\0\0\0Title" + bytes(8) + b"\x02\0\0\0\xc3\xa9"
    )
    assert unpack_texts(b"") == ()


@pytest.mark.parametrize(
    "broken",
    [
        b"\xff\xff\xff\xff",
        b"\x05\0\0\0Titl",
        pack_texts(TEXTS[:1])[:-1],
        bytes(16),
        b"\x01\0\0\0\0" + bytes(12),
        b"\x01\0\0\0\xff" + bytes(12),
        struct.pack("<I", 80) + b"a" * 80 + bytes(12),
    ],
)
def test_entries_up_to_one_that_breaks_a_rule(broken: bytes):
    assert unpack_texts(pack_texts(TEXTS) + broken) == TEXTS


@given(st.binary(max_size=200))
def test_any_payload_gives_texts(payload: bytes):
    texts = unpack_texts(payload)
    assert len(pack_texts(texts)) <= len(payload)


def test_there_is_a_most():
    many = [Text("a", str(index)) for index in range(TEXTS_MAX + 2)]
    kept, notices = bounded(many)
    assert (kept, len(notices)) == (tuple(many[:TEXTS_MAX]), 2)
    assert unpack_texts(pack_texts(many)) == kept
    assert unpack_texts(bytes(2**24 + 1)) == ()
    huge = Text("a", "x" * 2**24)
    assert bounded((huge, many[0])) == (
        (many[0],),
        ("its text 'a' is not kept: there is too much of it",),
    )


def test_keywords():
    for wrong in ("", "x" * 80, "a\0b", "日本"):
        with pytest.raises(ValueError):  # noqa: PT011
            Text(wrong, "")


def test_deep_png_is_read_by_another_library():
    data = bytes(write_image(from_array(RGB.astype(np.uint16) * 257, ALL), ".png"))
    np.testing.assert_array_equal(imagecodecs.png_decode(data), RGB.astype(np.uint16) * 257)
