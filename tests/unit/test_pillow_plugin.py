from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

import vaecodec
import vaecodec.codec
import vaecodec.transforms
from vaecodec import pillow_plugin
from vaecodec.bundle import find_bundle
from vaecodec.codec import Codec
from vaecodec.container import HEADER_BYTES, MAGIC, Chunk, pack, unpack
from vaecodec.errors import (
    ChecksumError,
    FormatError,
    ImageError,
    LimitError,
    ModelNotFoundError,
    TruncatedError,
    UnsupportedVersionError,
    VaecodecError,
)
from vaecodec.limits import Limits
from vaecodec.metrics import psnr_db
from vaecodec.pillow_plugin import OversizedFileError, UnreadableFileError, VaecImageFile
from vaecodec.runtime import Network

SAMPLES = Path(__file__).parents[2] / "samples"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta/>"
SIZE = (52, 40)
MODES = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "I;16": "I;16"}
CONVERTED = {"1": "L", "P": "RGB", "CMYK": "RGB", "La": "LA"}


def unregister() -> None:
    """Take the format from Pillow, which has no way to do it."""
    for registry in (Image.OPEN, Image.SAVE, Image.SAVE_ALL, Image.MIME):
        registry.pop("VAEC", None)
    Image.EXTENSION.pop(".vaec", None)
    Image.ID[:] = [name for name in Image.ID if name != "VAEC"]


# Importing the plugin, above, is meant to change the process, and other modules' tests run in it.
unregister()


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    vaecodec.register_vaec_opener()
    yield
    unregister()


@pytest.fixture(scope="module", autouse=True)
def _one_thread_per_network() -> Iterator[None]:
    """Spare a busy machine: these images are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vaecodec.codec, "Codec", partial(Codec, threads=1))
        vaecodec._opened.cache_clear()
        yield
    vaecodec._opened.cache_clear()


def photograph(mode: str = "RGB", size: tuple[int, int] = SIZE, left: int = 400) -> Image.Image:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        crop = image.crop((left, 200, left + size[0], 200 + size[1]))
    if mode == "I;16":
        grey = np.asarray(crop.convert("L")).astype(np.uint16)
        return Image.fromarray(grey * 257)
    if mode in ("LA", "RGBA", "La"):
        crop.putalpha(Image.linear_gradient("L").resize(size))
        crop = crop.convert("LA") if mode == "La" else crop
    return crop.convert(mode)


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "VAEC", **options)
    return buffer.getvalue()


def opened(data: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(data))


def same_pixels(one: Image.Image, other: Image.Image) -> bool:
    return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())


def with_header(data: bytes, **fields: int | bytes) -> bytes:
    """Return a file, fields of its header replaced and the checksum right."""
    places = {"major": (8, "<B"), "width": (12, "<I"), "height": (16, "<I"), "model": (24, "8s")}
    changed = bytearray(data)
    for name, value in fields.items():
        place, form = places[name]
        struct.pack_into(form, changed, place, value)
    struct.pack_into("<I", changed, HEADER_BYTES - 4, zlib.crc32(changed[: HEADER_BYTES - 4]))
    return bytes(changed)


def another_bundle(folder: Path) -> Path:
    """Return a copy of `base` that encodes the same, and has an id of its own."""
    shutil.copytree(find_bundle("base").path, folder)
    decoder = b"none that encoding needs"
    (folder / "decoder.onnx").write_bytes(decoder)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["files"]["decoder.onnx"] = hashlib.sha256(decoder).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder


@pytest.fixture(scope="module")
def data() -> bytes:
    return saved(photograph())


# Registration


def test_the_format_is_registered_once_however_often_it_is_asked_for():
    vaecodec.register_vaec_opener()
    pillow_plugin.register_vaec_opener()
    assert Image.ID.count("VAEC") == 1
    assert Image.registered_extensions()[".vaec"] == "VAEC"
    assert Image.MIME["VAEC"] == "image/x-vaec"


def test_registering_brings_back_what_was_taken_away(data: bytes):
    unregister()
    with pytest.raises(UnidentifiedImageError):
        opened(data)
    vaecodec.register_vaec_opener()
    assert opened(data).format == "VAEC"


def test_nothing_heavy_is_loaded_before_pixels_are_needed():
    code = """
import sys
import vaecodec
vaecodec.register_vaec_opener
assert "PIL" not in sys.modules
import vaecodec.pillow_plugin
from PIL import Image
heavy = {"numpy", "onnxruntime", "constriction"}
with Image.open(sys.argv[1]) as image:
    size = image.size
with Image.open(sys.argv[1]) as image:
    image.verify()
image = Image.open(sys.argv[1])
image.draft("RGB", (10, 10))
print(size, image.size, sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(SAMPLES / "portrait.vaec")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "(1080, 720) (135, 90) []"


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_other_formats_are_left_to_their_own_plugins(name: str):
    buffer = io.BytesIO()
    photograph().save(buffer, name)
    assert Image.OPEN["VAEC"][1](buffer.getvalue()[:16]) is False
    with Image.open(buffer) as image:
        assert image.format == name
        image.load()


# Pixels


@pytest.mark.parametrize("mode", [*MODES, *CONVERTED])
def test_every_mode_comes_back_as_from_the_codec(mode: str):
    image = photograph(mode)
    data = saved(image, quality=90)
    assert data == vaecodec.encode(image, quality=90)
    read = opened(data)
    expected = (MODES | CONVERTED)[mode]
    assert (read.mode, read.size, read.format) == (expected, SIZE, "VAEC")
    read.load()
    assert same_pixels(read, vaecodec.decode(data))
    if mode in ("L", "RGB"):
        assert psnr_db(np.asarray(image), np.asarray(read)) > 33


@pytest.mark.parametrize("mode", MODES)
def test_pixels_may_be_written_to(mode: str):
    image = opened(saved(photograph(mode)))
    access = image.load()
    value = {"L": 7, "I;16": 777, "LA": (7, 8), "RGB": (7, 8, 9), "RGBA": (7, 8, 9, 10)}[mode]
    assert access is not None
    access[3, 2] = value
    assert image.getpixel((3, 2)) == value
    image.paste(image.crop((0, 0, 8, 8)), (8, 8))
    assert image.getpixel((11, 10)) == value


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bits_in_several_channels_are_refused_with_a_way_out(channels: int):
    samples = np.full((8, 9, channels), 40_000, np.uint16)
    data = vaecodec.encode(samples)
    with pytest.raises(ImageError, match=rf"16 bits .* {channels} samples .* decode_raster"):
        opened(data)


# Files


def test_a_path_is_closed_after_loading_and_by_with(tmp_path: Path, data: bytes):
    path = tmp_path / "a.vaec"
    path.write_bytes(data)
    for name in (path, str(path), str(path).encode()):
        image = Image.open(name)
        file = image.fp
        assert file is not None
        assert not file.closed
        image.load()
        assert file.closed
        assert image.fp is None
        with Image.open(name) as image:
            file = image.fp
        assert file is not None
        assert file.closed


def test_a_stream_is_left_open_and_not_needed_for_loading(tmp_path: Path, data: bytes):
    path = tmp_path / "a.vaec"
    path.write_bytes(data)
    with path.open("rb") as file:
        loaded, later = Image.open(file), Image.open(file)
        loaded.load()
        assert not file.closed
    assert same_pixels(loaded, later)


def test_a_stream_that_cannot_seek(data: bytes):
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.rest = data

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            size = len(self.rest) if size < 0 else size
            block, self.rest = self.rest[:size], self.rest[size:]
            return block

    assert same_pixels(Image.open(Pipe()), vaecodec.decode(data))


def test_a_closed_image_has_no_pixels(data: bytes):
    image = opened(data)
    image.close()
    with pytest.raises(ValueError, match="closed image"):
        image.load()


def test_a_parser_that_is_fed_piece_by_piece(data: bytes):
    parser = ImageFile.Parser()
    for start in range(0, len(data), 100):
        parser.feed(data[start : start + 100])
    assert same_pixels(parser.close(), vaecodec.decode(data))
    parser = ImageFile.Parser()
    parser.feed(data[:-1])
    with pytest.raises(OSError, match="cannot parse"):
        parser.close()


def test_one_frame(data: bytes):
    image = opened(data)
    image.seek(0)
    assert image.tell() == 0
    with pytest.raises(EOFError):
        image.seek(1)


def test_copies_and_pickles(data: bytes):
    expected = vaecodec.decode(data)
    assert same_pixels(opened(data).copy(), expected)
    assert same_pixels(pickle.loads(pickle.dumps(opened(data))), expected)  # noqa: S301
    image = opened(data)
    image.load()
    assert same_pixels(pickle.loads(pickle.dumps(image)), expected)  # noqa: S301
    assert image.get_format_mimetype() == "image/x-vaec"


# Metadata


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def described(orientation: int = 1) -> Image.Image:
    image = photograph()
    image.info = {
        "exif": exif_of(orientation).tobytes(),
        "icc_profile": PROFILE,
        "xmp": XMP,
        "dpi": (300.0, 150.0),
    }
    return image


def test_an_images_own_metadata_is_kept_and_seen_on_opening():
    image = described()
    read = opened(saved(image))
    assert read.info == image.info
    assert read.getexif()[ExifTags.Base.Make] == "Maker"
    again = opened(saved(read))
    assert again.info == image.info


def test_options_replace_an_images_own_metadata():
    image = described()
    before = dict(image.info)
    exif = exif_of(1)
    exif[ExifTags.Base.Make] = "Other"
    changes = {"exif": exif, "icc_profile": PROFILE[:-4] + b"test", "xmp": "<é/>", "dpi": (72, 72)}
    found = {**changes, "exif": exif.tobytes(), "xmp": "<é/>".encode()}
    for name in changes:
        read = opened(saved(image, **{name: changes[name]}))
        assert read.info == {**before, name: found[name]}
    assert opened(saved(photograph(), **changes)).info == found
    assert opened(saved(image, exif=exif.tobytes())).info == {**before, "exif": exif.tobytes()}
    assert image.info == before


@pytest.mark.parametrize("nothing", [None, b""])
def test_what_is_given_as_nothing_is_left_out(nothing: bytes | None):
    image = described()
    image.info["Raw profile type exif"] = "\n\n\n" + exif_of(6).tobytes().hex()
    names = ["exif", "icc_profile", "xmp"]
    read = opened(saved(image, **dict.fromkeys(names, nothing)))
    assert read.info == {"dpi": (300.0, 150.0)}
    assert read.size == SIZE
    assert "dpi" not in opened(saved(image, dpi=None)).info


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exif", b"no TIFF header"),
        ("exif", {1: 2}),
        ("icc_profile", "text"),
        ("xmp", 7),
        ("dpi", 300),
        ("dpi", (0, 0)),
        ("dpi", (1, 2, 3)),
    ],
)
def test_metadata_of_another_kind_is_refused(name: str, value: object):
    with pytest.raises(ValueError, match=f"no {name} that a file can hold"):
        saved(photograph(), **{name: value})


def test_an_orientation_turns_what_is_written_upright():
    turned = opened(saved(described(6), quality=95))
    upright = ImageOps.exif_transpose(described(6))
    assert turned.size == upright.size == SIZE[::-1]
    assert turned.getexif()[ExifTags.Base.Orientation] == 1
    assert psnr_db(np.asarray(upright), np.asarray(turned)) > 33
    # What is given counts, not what it replaces.
    assert opened(saved(described(6), exif=exif_of(1))).size == SIZE
    assert opened(saved(described(1), exif=exif_of(6))).size == SIZE[::-1]


def test_the_transparent_colour_of_an_image_survives_other_metadata():
    image = photograph("L")
    image.info["transparency"] = shade = image.getpixel((0, 0))
    read = opened(saved(image, dpi=(72, 72)))
    hidden = np.asarray(image) == shade
    assert read.mode == "LA"
    np.testing.assert_array_equal(np.asarray(read)[:, :, 1] == 0, hidden)


def test_an_orientation_that_a_file_must_not_have_is_not_shown(data: bytes):
    container = unpack(data)
    exif = Chunk(b"exif", exif_of(6).tobytes().removeprefix(b"Exif\0\0"))
    read = opened(pack(replace(container, ancillary=(exif,))))
    assert read.getexif()[ExifTags.Base.Orientation] == 1
    assert read.getexif()[ExifTags.Base.Make] == "Maker"


# Saving


def test_saving_by_extension_with_options(tmp_path: Path):
    image = photograph()
    path = tmp_path / "a.VAEC"
    image.save(path)
    assert path.read_bytes() == vaecodec.encode(image)
    sizes = []
    for quality in (0, 50, np.float64(100)):
        image.save(path, quality=quality)
        assert path.read_bytes() == vaecodec.encode(image, quality=float(quality))
        sizes.append(path.stat().st_size)
    assert sizes == sorted(set(sizes))
    image.save(path, quality=None)
    assert path.read_bytes() == vaecodec.encode(image)


def test_saving_over_the_file_itself(tmp_path: Path, data: bytes):
    path = tmp_path / "a.vaec"
    path.write_bytes(data)
    with Image.open(path) as image:
        image.save(path, quality=90)
    with Image.open(path) as image:
        assert psnr_db(np.asarray(vaecodec.decode(data)), np.asarray(image)) > 33


@pytest.mark.parametrize("quality", [-1, 100.5, float("nan"), "keep"])
def test_a_wrong_quality_leaves_no_file(tmp_path: Path, quality: object):
    path = tmp_path / "a.vaec"
    with pytest.raises(ValueError, match=r"quality|keep"):
        photograph().save(path, quality=quality)
    assert not path.exists()


@pytest.mark.parametrize("name", ["a.vaec", b"a.vaec"])
def test_what_cannot_be_written_costs_no_old_file(
    name: str | bytes, tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.vaec"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="quality 500"):
        photograph().save(name, quality=500)
    with pytest.raises(ModelNotFoundError):
        photograph().save(path, "vaec", bundle="no-such")
    with pytest.raises(ImageError, match="floating-point"):
        Image.new("F", (4, 4)).save(path)
    assert path.read_bytes() == data
    with pytest.raises(OSError, match="there is no folder"):
        photograph().save(tmp_path / "no" / "a.vaec")
    assert [one.name for one in tmp_path.iterdir()] == ["a.vaec"]


def test_saving_other_formats_is_left_to_pillow(tmp_path: Path):
    save = Image.Image.save
    vaecodec.register_vaec_opener()
    assert Image.Image.save is save
    photograph().save(tmp_path / "a.vaec", "PNG")
    with Image.open(tmp_path / "a.vaec") as image:
        assert image.format == "PNG"
    with pytest.raises(ValueError, match="unknown file extension"):
        photograph().save(tmp_path / "a.unheard")


def test_a_bundle_is_chosen_by_folder_or_name(tmp_path: Path, data: bytes):
    image = photograph()
    assert saved(image, bundle="base") == data
    folder = another_bundle(tmp_path / "other")
    other = saved(image, bundle=folder)
    assert unpack(other).header.model_id == find_bundle(folder).model_id
    assert unpack(other).latents == unpack(data).latents
    assert opened(other).size == SIZE
    with pytest.raises(ModelNotFoundError):
        opened(other).load()
    with pytest.raises(ModelNotFoundError):
        saved(image, bundle="no-such")


def test_several_frames_are_refused_and_one_of_them_is_not(tmp_path: Path):
    frames = [photograph(left=left) for left in (300, 400)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    path = tmp_path / "a.vaec"
    with Image.open(buffer) as animation:
        for more in ({}, {"append_images": frames}):
            with pytest.raises(ImageError, match=r"one image, not [24]"):
                animation.save(path, save_all=True, **more)
            assert not path.exists()
        animation.seek(1)
        animation.save(path, quality=90)
        with Image.open(path) as read:
            expected = np.asarray(animation.convert("RGB"))
            assert psnr_db(expected, np.asarray(read.convert("RGB"))) > 30
    assert saved(frames[0], save_all=True, append_images=[]) == saved(frames[0])


def test_an_image_that_cannot_be_encoded_says_so():
    with pytest.raises(ImageError, match="floating-point"):
        saved(Image.new("F", (4, 4)))


# Damage


@pytest.mark.parametrize("start", [b"", MAGIC[:5], b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(100)])
def test_what_is_no_vaec_file_is_not_identified(start: bytes):
    with pytest.raises(UnidentifiedImageError):
        opened(start)
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(start), formats=["VAEC"])
    with pytest.raises(SyntaxError):
        VaecImageFile(io.BytesIO(start))


def test_a_file_that_was_cut_anywhere_is_refused_on_opening(data: bytes):
    for length in range(len(MAGIC), len(data)):
        with pytest.raises(UnreadableFileError, match="ends") as caught:
            opened(data[:length])
        assert isinstance(caught.value.__cause__, TruncatedError)


def test_a_damaged_file_is_caught_by_handlers_of_pillow_and_ours(tmp_path: Path, data: bytes):
    path = tmp_path / "a.vaec"
    path.write_bytes(data[:-1])
    for kind in (OSError, ValueError, FormatError, VaecodecError):
        with pytest.raises(kind, match="ends inside chunk 0") as caught:
            Image.open(path)
        assert not isinstance(caught.value, UnidentifiedImageError)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (type(error), str(error)) == (UnreadableFileError, str(caught.value))


def test_every_flipped_bit_is_found_on_opening_by_verify_or_on_loading(data: bytes):
    for place in range(len(MAGIC), len(data), 3):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        try:
            image = opened(bytes(damaged))
        except UnreadableFileError:
            continue
        except OversizedFileError:  # a length
            assert place >= HEADER_BYTES
            continue
        with pytest.raises(UnreadableFileError) as caught:
            image.load()
        assert isinstance(caught.value.__cause__, ChecksumError)
        with pytest.raises(UnreadableFileError, match="checksum"):
            image.verify()


def test_damaged_pixels_leave_the_rest_to_be_seen():
    data = bytearray(saved(described()))
    data[-1] ^= 1
    image = opened(bytes(data))
    assert image.info == described().info
    with pytest.raises(UnreadableFileError, match="checksum of chunk 4"):
        image.load()


def test_damage_under_a_right_checksum_is_found_on_loading(data: bytes):
    container = unpack(data)
    forged = pack(replace(container, latents=(container.latents[0][:-4],)))
    image = opened(forged)
    image.verify()
    image = opened(forged)
    for _ in range(2):
        with pytest.raises(UnreadableFileError, match="latents"):
            image.load()


def test_a_later_version_is_named_as_such(data: bytes):
    with pytest.raises(UnreadableFileError, match="version 2") as caught:
        opened(with_header(data, major=2))
    assert isinstance(caught.value.__cause__, UnsupportedVersionError)


def test_a_missing_model_is_told_on_loading_and_is_no_damage(data: bytes):
    image = opened(with_header(data, model=b"\0" * 8))
    assert image.size == SIZE
    image.verify()
    image = opened(with_header(data, model=b"\0" * 8))
    with pytest.raises(ModelNotFoundError) as caught:
        image.load()
    assert not isinstance(caught.value, OSError)


def test_verify_accepts_a_good_file_and_closes_it(tmp_path: Path, data: bytes):
    path = tmp_path / "a.vaec"
    path.write_bytes(data)
    image = Image.open(path)
    file = image.fp
    image.verify()
    assert file is not None
    assert file.closed


# Size


def test_pillows_limit_holds_on_opening(data: bytes, monkeypatch: pytest.MonkeyPatch):
    pixels = SIZE[0] * SIZE[1]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels // 2 - 1)
    with pytest.raises(Image.DecompressionBombError, match=f"{pixels} pixels"):
        opened(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        opened(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    opened(data).load()


@pytest.mark.parametrize("lifted", [False, True])
def test_our_limits_hold_on_opening_and_are_pillows_error_too(
    data: bytes, monkeypatch: pytest.MonkeyPatch, lifted: bool
):
    if lifted:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for fields in ({"width": 2**32 - 1}, {"width": 2**15, "height": 2**14}):
        for kind in (LimitError, Image.DecompressionBombError):
            file = io.BytesIO(with_header(data, **fields))
            with pytest.raises(kind, match="over the limit"):
                Image.open(file)
            assert file.tell() == HEADER_BYTES  # nothing is held for a file of that claim


def test_a_file_without_end_is_not_read_to_it(data: bytes, monkeypatch: pytest.MonkeyPatch):
    class Endless(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= 2**20
            self.reads += 1
            assert self.reads < 20
            return super().read(size) or bytes(size)

    monkeypatch.setattr(pillow_plugin, "DEFAULT_LIMITS", Limits(max_file_bytes=2**22))
    with pytest.raises(OversizedFileError, match="file size"):
        Image.open(Endless(data))


def test_a_limit_that_only_loading_meets(data: bytes, monkeypatch: pytest.MonkeyPatch):
    codec = vaecodec._codec(find_bundle("base").path)
    monkeypatch.setattr(codec, "limits", Limits(max_memory_bytes=1000))
    with pytest.raises(OversizedFileError, match="memory") as caught:
        opened(data).load()
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (error.what, error.limit) == (caught.value.what, 1000)


# Thumbnails


@pytest.fixture(scope="module")
def large() -> bytes:
    return saved(photograph(size=(161, 122), left=200), quality=80)


def test_a_draft_is_the_codecs_preview(large: bytes):
    image = opened(large)
    assert image.draft("RGB", (20, 15)) == ("RGB", (0, 0, 161 / 8, 122 / 8))
    assert image.size == (21, 16)
    assert image.draft("RGB", (1, 1)) is None
    codec = vaecodec._codec(find_bundle("base").path)
    assert same_pixels(image, codec.preview(large).to_pillow())
    assert image.draft("RGB", (1, 1)) is None


def test_a_draft_of_an_image_that_is_loaded_changes_nothing(large: bytes):
    image = opened(large)
    image.load()
    assert image.draft("RGB", (1, 1)) is None
    assert same_pixels(image, vaecodec.decode(large))


def test_a_draft_of_16_bits(large: bytes):
    image = opened(saved(photograph("I;16", (161, 122), 200), quality=80))
    assert image.draft(None, (20, 15)) == ("I;16", (0, 0, 161 / 8, 122 / 8))
    grey = opened(large).convert("L").reduce(8)
    drafted = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    assert psnr_db(np.asarray(grey)[:15, :20], np.asarray(drafted)[:15, :20]) > 30


@pytest.mark.parametrize("size", [None, (21, 15), (20, 16), (161, 122), (0, 5), (5, 0)])
def test_a_draft_that_would_be_too_small_changes_nothing(
    large: bytes, size: tuple[int, int] | None
):
    image = opened(large)
    assert image.draft("RGB", size) is None
    assert image.size == (161, 122)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_thumbnail_is_made_without_synthesis(mode: str, monkeypatch: pytest.MonkeyPatch):
    data = saved(photograph(mode, (161, 122), 200), quality=80)
    expected = vaecodec.decode(data)
    expected.thumbnail((7, 7))
    monkeypatch.setattr(Codec, "decode_raster", None)
    image = opened(data)
    image.thumbnail((7, 7))
    assert (image.size, image.mode) == (expected.size, expected.mode) == ((7, 5), mode)
    assert psnr_db(np.asarray(expected), np.asarray(image)) > 30


def test_a_larger_thumbnail_is_made_of_the_image_itself(large: bytes):
    image, expected = opened(large), vaecodec.decode(large)
    image.thumbnail((8, 8))
    expected.thumbnail((8, 8))
    assert same_pixels(image, expected)


# Threads


def test_many_threads_share_one_codec_and_get_the_right_pixels(monkeypatch: pytest.MonkeyPatch):
    images = [photograph(mode, left=left) for mode, left in (("RGB", 300), ("LA", 400), ("L", 450))]
    files = [saved(image) for image in images]
    expected = [vaecodec.decode(data) for data in files]
    previews = []
    for data in files:
        image = opened(data)
        image.draft(None, (5, 5))
        previews.append(image.copy())

    made: Counter[int] = Counter()

    def counted(model: bytes, *arguments: object) -> Network:
        made[zlib.crc32(model)] += 1
        return Network(model, *arguments)

    count, barrier = 8, threading.Barrier(8)
    monkeypatch.setattr(vaecodec.transforms, "Network", counted)
    vaecodec._opened.cache_clear()

    def work(number: int) -> bool:
        barrier.wait()
        right = True
        for index in (number % 3, (number + 1) % 3):
            right &= same_pixels(opened(files[index]), expected[index])
            preview = opened(files[index])
            preview.draft(None, (5, 5))
            right &= same_pixels(preview, previews[index])
            right &= saved(images[index]) == files[index]
        return right

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(work, range(count))) == [True] * count
    assert sorted(made.values()) == [1, 1, 1, 1]  # encoder, hyper, decoder, preview


# imageio


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "RGBA"])
def test_imageio_reads_and_writes(tmp_path: Path, mode: str):
    iio = pytest.importorskip("imageio.v3")
    samples = np.asarray(photograph(mode))
    data = iio.imwrite("<bytes>", samples, plugin="pillow", extension=".vaec", quality=80)
    assert data == vaecodec.encode(samples, quality=80)
    expected = np.asarray(vaecodec.decode(data))
    np.testing.assert_array_equal(iio.imread(data, plugin="pillow", extension=".vaec"), expected)
    path = tmp_path / "a.vaec"
    iio.imwrite(path, samples, plugin="pillow", quality=80)
    assert path.read_bytes() == data
    np.testing.assert_array_equal(iio.imread(path, plugin="pillow"), expected)
    assert iio.immeta(path, plugin="pillow")["mode"] == mode
    assert iio.improps(path, plugin="pillow").shape == expected.shape


def test_imageio_tells_what_is_wrong(tmp_path: Path, data: bytes):
    iio = pytest.importorskip("imageio.v3")
    path = tmp_path / "a.vaec"
    path.write_bytes(data[:-1])
    with pytest.raises(OSError, match="pillow") as caught:
        iio.imread(path, plugin="pillow")
    assert isinstance(caught.value.__cause__, UnreadableFileError)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ImageError, match="one image, not 2"):
        iio.imwrite("<bytes>", frames, plugin="pillow", extension=".vaec")
