"""Which decoders open files, and that no setting of the whole process changes for it."""

from __future__ import annotations

import io
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, FitsImagePlugin, Image, ImageFile, PngImagePlugin

from vaecodec.codec import Codec
from vaecodec.decoders import DECODERS, check_decoder, limit_error, open_image
from vaecodec.errors import ImageError, LimitError
from vaecodec.image import read_image
from vaecodec.limits import Limits
from vaecodec.raster import as_raster

INPUTS = Path(__file__).parents[1] / "inputs"
EPS = (INPUTS / "eps-named.jpg").read_bytes()
RGB = np.random.default_rng(3).integers(0, 256, (40, 60, 3), np.uint8)


def saved(name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, name, **options)
    return buffer.getvalue()


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Record every program that is started, and start none."""
    started: list[object] = []

    def start(*arguments: object, **_: object) -> None:
        started.append(arguments)
        raise OSError("no program")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(subprocess, "check_call", start)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    return started


def test_an_eps_starts_no_program(no_program: list[object], tiny_bundle: Path):
    with pytest.raises(ImageError, match=r"PostScript .* export it as PNG"):
        read_image(EPS)
    lazy = Image.open(io.BytesIO(EPS))
    assert lazy.format == "EPS"
    codec = Codec(tiny_bundle)
    for use in (codec.encode, codec.denoise, as_raster):
        with pytest.raises(ImageError, match="EPS images are not decoded here"):
            use(lazy)
    assert no_program == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xc5\xd0\xd3\xc6" + bytes(40), "PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        ((INPUTS / "uint16-ramp.fits").read_bytes(), "FITS"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), "WMF"),
        (b"GRIB" + bytes(40), "scientific"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    ],
)
def test_what_is_not_decoded_is_named(data: bytes, said: str):
    with pytest.raises(ImageError, match=f"this is .*{said}.* first"):
        read_image(data)


def test_formats_that_start_programs_are_not_listed():
    assert {"EPS", FitsImagePlugin.FitsImageFile.format}.isdisjoint(DECODERS)
    Image.init()
    for name, (factory, _) in Image.OPEN.items():
        if isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile):
            assert name not in DECODERS
    check_decoder(Image.new("RGB", (1, 1)))


@pytest.mark.parametrize(
    "name", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "PPM", "TGA"]
)
@pytest.mark.parametrize("own_limit", [1, 1500, None])
def test_pillows_limit_neither_counts_nor_changes(
    name: str, own_limit: int | None, monkeypatch: pytest.MonkeyPatch
):
    data = saved(name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", own_limit)
    raster = read_image(data)
    assert raster.read().shape == (40, 60, 3)
    assert own_limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(LimitError):
        read_image(data, Limits(max_pixels=2399))


def test_limits_hold_for_a_webp_before_its_decoder_starts():
    header = bytearray(saved("WEBP", lossless=True))
    header[21:25] = (0x3FFF | 0x3FFF << 14).to_bytes(4, "little")
    with pytest.raises(LimitError, match="pixels"):
        open_image(bytes(header), Limits(max_pixels=2**20))


def test_no_state_of_the_process_is_touched_and_nobody_waits(monkeypatch: pytest.MonkeyPatch):
    """While one thread is held inside of a decoder, another reads, and Pillow's guard stands."""
    inside, go_on = threading.Event(), threading.Event()
    load = PngImagePlugin.PngImageFile.load_prepare
    seen: list[object] = []

    def held(self: PngImagePlugin.PngImageFile) -> None:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            go_on.wait(20)
        load(self)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_prepare", held)
    state = (Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, ImageFile.LOAD_TRUNCATED_IMAGES)
    thread = threading.Thread(target=lambda: seen.append(read_image(saved("PNG")).read().shape))
    thread.start()
    try:
        assert inside.wait(20)
        assert state == (
            Image.MAX_IMAGE_PIXELS,
            PngImagePlugin.MAX_TEXT_CHUNK,
            ImageFile.LOAD_TRUNCATED_IMAGES,
        )
        assert read_image(saved("BMP")).read().shape == (40, 60, 3)
    finally:
        go_on.set()
        thread.join()
    assert seen == [(40, 60, 3)]


def test_pillows_error_of_a_picture_within_one():
    error = limit_error(Image.DecompressionBombError("Image size (500 pixels) exceeds"), Limits())
    assert (error.value, error.limit) == (500, 499)
    assert error.exit_code == 5
    assert limit_error(Image.DecompressionBombError("none"), Limits(max_pixels=7)).value == 8
