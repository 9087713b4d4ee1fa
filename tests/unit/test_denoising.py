"""Noisy images in, clean ones of the same kind out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from golden.test_golden import V1
from PIL import Image
from support import SAMPLES

import vaecodec
from vaecodec.codec import Codec
from vaecodec.errors import ImageError, InsufficientMemoryError, LimitError, ModelError
from vaecodec.limits import Limits
from vaecodec.metrics import psnr_db
from vaecodec.raster import from_array
from vaecodec.search import Target, encode_to
from vaecodec.segments import tiles
from vaecodec.trace import Trace


@pytest.fixture(scope="module")
def codec(tiny_bundle: Path) -> Codec:
    return Codec(tiny_bundle)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        return image.crop((300, 200, 451, 301))


@pytest.fixture(scope="module")
def colours(photograph: Image.Image) -> np.ndarray:
    return np.asarray(photograph).astype(np.float32) / 255


def noisy(clean: np.ndarray, sigma: float) -> np.ndarray:
    """Return 8-bit samples with noise, clipped and rounded."""
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    return np.rint(clean + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_a_pillow_image_comes_back_as_one(codec: Codec, photograph: Image.Image, mode: str):
    image = photograph.convert("L").convert("I") if mode == "I;16" else photograph.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode in ("LA", "RGBA"):
        image.putalpha(photograph.convert("L").point(lambda v: 0 if v < 60 else v))
    image.info["dpi"] = (300, 300)
    clean = codec.denoise(image)
    assert (clean.mode, clean.size) == (image.mode, image.size)
    assert clean.info["dpi"] == (300, 300)
    assert "dpi" not in codec.denoise(image, strip=["dpi"]).info
    if mode in ("LA", "RGBA"):
        assert np.array_equal(np.asarray(clean)[:, :, -1], np.asarray(image)[:, :, -1])
    assert not np.array_equal(np.asarray(clean), np.asarray(image))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_an_array_comes_back_as_one(codec: Codec, dtype: type, channels: int | None):
    rng = np.random.default_rng(1)
    shape = (33, 40) if channels is None else (33, 40, channels)
    image = rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    clean = codec.denoise(image)
    assert (clean.shape, clean.dtype) == (image.shape, image.dtype)
    raster = codec.denoise(from_array(image))
    assert np.array_equal(raster.read().reshape(image.shape), clean)


def test_floats_may_leave_the_range_and_come_back_within(codec: Codec, colours: np.ndarray):
    wild = (3 * colours - 1).astype(np.float32)
    clean = codec.denoise(wild)
    assert (clean.shape, clean.dtype) == (wild.shape, np.float32)
    assert clean.min() >= 0
    assert clean.max() <= 1
    assert not np.array_equal(clean, codec.denoise(wild.clip(0, 1)))


def test_floats_and_samples_are_the_same_image(codec: Codec, photograph: Image.Image, colours):
    of_floats = 255 * codec.denoise(colours)
    assert np.abs(of_floats - np.asarray(codec.denoise(photograph))).max() <= 0.501


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_floats_of_any_kind(codec: Codec, colours: np.ndarray, dtype: type, channels: int | None):
    inside = 0.25 + colours[:64, :64] / 2
    image = (inside[:, :, 0] if channels is None else inside[:, :, :channels]).astype(dtype)
    clean = codec.denoise(image)
    assert (clean.shape, clean.dtype) == (image.shape, dtype)
    wide = np.broadcast_to(np.atleast_3d(image), inside.shape).astype(np.float32)
    of_wide = codec.denoise(wide)
    if channels != 3:
        of_wide = of_wide.mean(2)
    assert np.allclose(clean.reshape(of_wide.shape), of_wide, atol=1e-3)


@pytest.mark.parametrize("size", [(64, 65), (49, 70), (15, 33), (1, 1)])
def test_noise_stays_noise_beyond_the_edge(codec: Codec, size: tuple[int, int]):
    """As if the image went on, mirrored: repeated, its last column would be stripes."""
    rng = np.random.default_rng(5)
    image = rng.random((*size, 3), np.float32)
    larger = np.pad(image, ((0, -size[0] % 16), (0, -size[1] % 16), (0, 0)), mode="symmetric")
    expected = codec.denoise(larger)[: size[0], : size[1]]
    np.testing.assert_allclose(codec.denoise(image), expected, atol=1e-5)
    samples = (255 * image).round().astype(np.uint8)
    larger = np.pad(samples, ((0, -size[0] % 16), (0, -size[1] % 16), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(
        codec.denoise(samples), codec.denoise(larger)[: size[0], : size[1]]
    )


def test_strength_is_a_share(codec: Codec, colours: np.ndarray):
    whole, none, half = (codec.denoise(colours, strength=share) for share in (1.0, 0.0, 0.5))
    assert np.allclose(none, colours, atol=1e-6)
    inside = (whole > 0) & (whole < 1)
    assert np.allclose(half[inside], ((colours + whole) / 2)[inside], atol=1e-5)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="strength must be 0 to 1"):
            codec.denoise(colours, strength=wrong)


def test_without_refinement_the_decoder_has_the_last_word(codec: Codec, colours: np.ndarray):
    trace = Trace()
    unrefined = codec.denoise(colours, refine=False, trace=trace)
    assert "refinement" not in trace.seconds
    assert not np.array_equal(unrefined, codec.denoise(colours, trace=trace))
    assert trace.seconds.keys() == {"image", "analysis", "synthesis", "refinement"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((5, 5, 4), np.float32), "no image"),
        (np.zeros((5, 5, 2), np.float64), "alpha goes with"),
        (np.zeros((0, 5, 3), np.float32), "no image"),
        (np.zeros(5, np.float32), "no image"),
        (np.full((5, 5, 3), np.nan, np.float32), "no number"),
        (np.full((5, 5, 3), np.inf, np.float32), "no number"),
        (np.full((5, 5, 3), 200, np.float32), "divided by 255"),
        (np.zeros((5, 5, 3), np.int64), "int64"),
    ],
)
def test_what_is_no_image_is_refused(codec: Codec, wrong: np.ndarray, message: str):
    with pytest.raises(ImageError, match=message):
        codec.denoise(wrong)


def test_limits_hold(tiny_bundle: Path, colours: np.ndarray):
    small = Codec(tiny_bundle, limits=Limits(max_pixels=1000))
    little = Codec(tiny_bundle, limits=Limits(max_memory_bytes=10_000_000))
    for image in (colours, (255 * colours).astype(np.uint8)):
        with pytest.raises(LimitError):
            small.denoise(image)
        with pytest.raises((LimitError, InsufficientMemoryError)):
            little.denoise(image)


def test_tiles_make_no_difference(codec: Codec, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (300, 420, 3)).astype(np.uint8)
    whole = codec.denoise(image)
    file = codec.encode(image, quality=60, denoise=True)

    def small(area, _side):
        return tiles(area, 8)

    monkeypatch.setattr("vaecodec.denoising.tiles", small)
    assert np.abs(codec.denoise(image).astype(int) - whole).max() <= 1
    monkeypatch.setattr("vaecodec.denoising.tiles", partial(lambda area, _: [area]))
    assert codec.encode(image, quality=60, denoise=True) == file


def test_a_bundle_without_a_denoiser_says_so(photograph: Image.Image):
    golden = Codec(V1 / "bundle")
    for attempt in (golden.denoise, partial(golden.encode, denoise=True)):
        with pytest.raises(ModelError, match="has no denoiser"):
            attempt(photograph)


def test_a_file_may_hold_the_clean_image(codec: Codec, photograph: Image.Image):
    plain, clean = (codec.encode(photograph, denoise=denoise) for denoise in (False, True))
    assert plain != clean
    assert codec.decode(clean).size == photograph.size
    reached = encode_to(codec, photograph, Target("size", len(clean)), denoise=True)
    assert len(reached.data) <= len(clean)
    with pytest.raises(ValueError, match="noise is to go"):
        encode_to(codec, photograph, Target("psnr", 30), denoise=True)


@pytest.mark.parametrize("name", ["portrait", "flower-close-up"])
def test_base_removes_noise_and_leaves_clean_photographs(name: str):
    with Image.open(SAMPLES / f"{name}.jpg") as image:
        clean = np.asarray(image.crop((200, 150, 712, 534)))
    damaged = noisy(clean, 25)
    restored = vaecodec.denoise(damaged)
    assert psnr_db(restored, clean) > psnr_db(damaged, clean) + 9
    assert psnr_db(vaecodec.denoise(clean), clean) > 38


def test_base_makes_smaller_files_of_noisy_photographs():
    with Image.open(SAMPLES / "portrait.jpg") as image:
        clean = np.asarray(image.crop((200, 150, 712, 534)))
    codec = Codec("base")
    damaged = noisy(clean, 25)
    plain, denoised = (codec.encode(damaged, quality=60, denoise=d) for d in (False, True))
    assert len(denoised) < len(plain) / 3
    opened = np.asarray(codec.decode(denoised))
    assert psnr_db(opened, clean) > psnr_db(np.asarray(codec.decode(plain)), clean) + 6
