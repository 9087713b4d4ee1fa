"""Encoding to a target: what is reached, what cannot be, and how much work that takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import SAMPLES

from vaecodec import search
from vaecodec.codec import Codec
from vaecodec.container import MAX_LEVEL, read_header
from vaecodec.errors import LimitError, TargetError
from vaecodec.limits import Limits
from vaecodec.metadata import Metadata
from vaecodec.metrics import fidelity_db
from vaecodec.raster import as_raster, from_array
from vaecodec.rate import level_of_quality
from vaecodec.reading import _TILE_BYTES_PER_PIXEL
from vaecodec.search import PSNR_TOLERANCE_DB, SIZE_TOLERANCE, Target, encode_to
from vaecodec.segments import TILE_PIXELS
from vaecodec.trace import Trace

BUNDLE = Path(__file__).parents[1] / "golden" / "v1" / "bundle"
ENCODINGS = search._SECANTS + MAX_LEVEL.bit_length()
"""More would mean that levels are tried which are known to be no answer."""


@dataclass
class Work:
    """How often an image was analysed, and encoded."""

    analyses: int = 0
    encodings: int = 0


@pytest.fixture
def codec() -> Codec:
    return Codec(BUNDLE, threads=1)


@pytest.fixture
def work(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> Work:
    return counted(codec, monkeypatch)


def counted(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> Work:
    done = Work()

    def count(name: str, what: str) -> Callable[..., Any]:
        real = getattr(codec, name)

        def call(*args: Any, **options: Any) -> Any:
            setattr(done, what, getattr(done, what) + 1)
            return real(*args, **options)

        return call

    monkeypatch.setattr(codec, "analyse", count("analyse", "analyses"))
    monkeypatch.setattr(codec, "fill", count("fill", "encodings"))
    return done


def photograph(name: str) -> Image.Image:
    with Image.open(SAMPLES / name) as image:
        return image.crop((200, 150, 328, 246)).convert("RGB")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def slope(*, alpha: bool = False) -> np.ndarray:
    """A gradient; with alpha, behind noise that no level changes."""
    ramp = np.linspace(0, 255, 128).astype(np.uint8)
    plane = np.broadcast_to(ramp, (96, 128))
    return np.dstack([plane] * 3 + ([noise(96, 128)] if alpha else []))


IMAGES = {
    "portrait": lambda: photograph("portrait.jpg"),
    "forest": lambda: photograph("forest-from-above.jpg"),
    "noise": lambda: noise(96, 128, 3),
    "slope": slope,
    "alpha": lambda: slope(alpha=True),
    "deep": lambda: noise(96, 128, 3).astype(np.uint16) * 257,
    "grey": lambda: noise(90, 70),
}
images = pytest.mark.parametrize("image", IMAGES)
qualities = pytest.mark.parametrize("quality", [20, 70])


def sized(codec: Codec, image: Any, quality: float) -> int:
    return len(codec.encode(image, quality=quality))


@images
@qualities
def test_a_file_keeps_to_its_size(codec: Codec, work: Work, image: str, quality: float):
    picture = IMAGES[image]()
    wanted = sized(codec, picture, quality) + 5
    work.analyses = work.encodings = 0
    reached = encode_to(codec, picture, Target("size", wanted))
    assert (1 - SIZE_TOLERANCE) * wanted <= len(reached.data) <= wanted
    assert reached.notice == ""
    assert read_header(reached.data).level == level_of_quality(reached.quality)
    assert codec.decode_raster(reached.data).mode == as_raster(picture).mode
    assert work.encodings <= ENCODINGS
    assert work.analyses <= search._SECANTS + 3


@pytest.mark.parametrize("bits_per_pixel", [0.2, 0.4, 0.8, 1.6])
@pytest.mark.parametrize("name", ["portrait.jpg", "forest-from-above.jpg"])
def test_a_photograph_is_encoded_twice_at_most(
    name: str, bits_per_pixel: float, monkeypatch: pytest.MonkeyPatch
):
    with Image.open(SAMPLES / name) as image:
        picture = image.convert("RGB")
    codec = Codec("base")
    work = counted(codec, monkeypatch)
    reached = encode_to(codec, picture, Target("bpp", bits_per_pixel))
    wanted = bits_per_pixel * picture.width * picture.height / 8
    assert (1 - SIZE_TOLERANCE) * wanted <= len(reached.data) <= wanted
    assert work.analyses == 1
    assert work.encodings <= 2


def test_bits_per_pixel_are_a_size(codec: Codec):
    picture = IMAGES["portrait"]()
    per_pixel = 8 * 700 / (128 * 96)
    (by_bits, by_size) = (
        encode_to(codec, picture, target)
        for target in (Target("bpp", per_pixel), Target("size", 700))
    )
    assert by_bits == by_size


@images
def test_a_fidelity_is_reached_and_hardly_passed(codec: Codec, work: Work, image: str):
    picture = IMAGES[image]()
    least, most = (
        fidelity_db(as_raster(picture), codec.decode_raster(codec.encode(picture, quality=quality)))
        for quality in (0, 60)
    )
    wanted = (least + most) / 2
    work.analyses = work.encodings = 0
    reached = encode_to(codec, picture, Target("psnr", wanted))
    assert reached.psnr_db is not None
    assert wanted <= reached.psnr_db <= wanted + PSNR_TOLERANCE_DB
    again = fidelity_db(as_raster(picture), codec.decode_raster(reached.data))
    assert again == pytest.approx(reached.psnr_db)
    assert work.encodings <= ENCODINGS
    assert work.analyses <= search._SECANTS + 3


@images
def test_both_ends_are_told(codec: Codec, work: Work, image: str):
    picture = IMAGES[image]()
    largest = encode_to(codec, picture, Target("size", 10**6))
    assert (largest.quality, work.encodings) == (100, 1)
    assert largest.notice == "even at quality 100 the file is smaller than the target"
    least = encode_to(codec, picture, Target("psnr", 1))
    assert least.quality == 0
    assert least.notice == "even at quality 0 the image is better than the target"


@images
def test_what_no_quality_reaches_is_refused(codec: Codec, work: Work, image: str):
    picture = IMAGES[image]()
    smallest = sized(codec, picture, 0)
    work.analyses = work.encodings = 0
    with pytest.raises(TargetError, match=f"at quality 0 the file has {smallest:,} bytes"):
        encode_to(codec, picture, Target("size", smallest - 1))
    with pytest.raises(TargetError, match=r"at quality 100 the image has .* dB, less than 90"):
        encode_to(codec, picture, Target("psnr", 90))
    assert work.encodings <= 2 * ENCODINGS


def test_metadata_that_outgrows_a_target_is_named(codec: Codec):
    raster = from_array(noise(32, 32, 3), Metadata(icc=bytes(5000)))
    with pytest.raises(TargetError, match="5,000 of them are metadata, which can be left out"):
        encode_to(codec, raster, Target("size", 4000))
    assert encode_to(codec, raster, Target("size", 4000), strip="icc").data


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 70), (3, 2, 4)])
def test_tiny_images(codec: Codec, work: Work, shape: tuple[int, ...]):
    """Their files grow in steps, which may be larger than the tolerance."""
    picture = noise(*shape)
    smallest, largest = (sized(codec, picture, quality) for quality in (0, 100))
    work.analyses = work.encodings = 0
    wanted = (smallest + largest) // 2
    reached = encode_to(codec, picture, Target("size", wanted))
    assert smallest <= len(reached.data) <= wanted
    assert work.encodings <= ENCODINGS
    with pytest.raises(TargetError):
        encode_to(codec, picture, Target("size", smallest - 1))


def test_an_analysis_that_is_not_kept_is_repeated(
    codec: Codec, work: Work, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(search, "_KEPT_BYTES", 0)
    wanted = sized(codec, IMAGES["portrait"](), 40)
    work.analyses = work.encodings = 0
    reached = encode_to(codec, IMAGES["portrait"](), Target("size", wanted))
    assert (1 - SIZE_TOLERANCE) * wanted <= len(reached.data) <= wanted
    assert work.analyses == work.encodings <= ENCODINGS


def test_a_file_of_no_kept_analysis_is_that_of_its_quality(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(search, "_KEPT_BYTES", 0)
    reached = encode_to(codec, IMAGES["portrait"](), Target("psnr", 20))
    assert reached.data == codec.encode(IMAGES["portrait"](), quality=reached.quality)


def test_an_analysis_that_is_kept_counts_as_memory(monkeypatch: pytest.MonkeyPatch):
    picture = noise(96, 128, 3)
    enough_to_encode = 3 * picture.nbytes + TILE_PIXELS * _TILE_BYTES_PER_PIXEL
    codec = Codec(BUNDLE, threads=1, limits=Limits(max_memory_bytes=enough_to_encode))
    with pytest.raises(LimitError, match="memory"):
        encode_to(codec, picture, Target("size", 600))
    monkeypatch.setattr(search, "_KEPT_BYTES", 0)
    assert len(encode_to(codec, picture, Target("size", 600)).data) <= 600


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_target_that_is_none(value: float):
    with pytest.raises(ValueError, match="above 0"):
        Target("size", value)


@pytest.mark.parametrize("target", [Target("bpp", 1e308), Target("size", 10**400)])
def test_a_target_beyond_all_sizes(codec: Codec, target: Target):
    assert encode_to(codec, noise(16, 16), target).quality == 100


def test_the_limits_are_those_of_the_codec(tiny_bundle: Path):
    limits = Limits(max_side=2**17)
    long = np.zeros((1, 66_000), np.uint8)
    assert encode_to(Codec(tiny_bundle, limits=limits), long, Target("size", 40_000)).data
    with pytest.raises(LimitError, match="66,000"):
        encode_to(Codec(tiny_bundle), long, Target("size", 40_000))


def test_an_image_that_comes_back_as_it_was(codec: Codec):
    clear = np.zeros((16, 16, 4), np.uint8)
    reached = encode_to(codec, clear, Target("psnr", 60))
    assert (reached.psnr_db, reached.quality) == (math.inf, 0)
    assert "better than the target" in reached.notice


def test_all_that_is_tried_is_timed(codec: Codec):
    trace = Trace(estimates=False)
    encode_to(codec, noise(32, 32, 3), Target("psnr", 8), trace=trace)
    assert {"image", "analysis", "entropy", "synthesis"} <= set(trace.seconds)


def test_metadata_is_left_out(codec: Codec):
    picture = photograph("portrait.jpg")
    picture.info["dpi"] = (300, 300)
    kept, stripped = (
        encode_to(codec, picture, Target("size", 700), strip=strip).data for strip in ((), ("dpi",))
    )
    assert codec.decode(kept).info["dpi"] == pytest.approx((300, 300), abs=1)
    assert "dpi" not in codec.decode(stripped).info
