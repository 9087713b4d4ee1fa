"""Damaged files give every whole segment, at its place, and say what is lost."""

from __future__ import annotations

import json
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from cli.test_cli import misused, refused, run
from golden.test_golden import V1
from hostile.make_corpus import read_corpus
from hostile.mutate import Parts
from hostile.oracle import LIMITS
from PIL import Image

from vaecodec.codec import Codec
from vaecodec.container import ALPHA, LATENTS
from vaecodec.errors import (
    FormatError,
    LimitError,
    NotVaecError,
    TruncatedError,
    UnsupportedVersionError,
    VaecodecError,
)
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.salvage import Losses, unpack_damaged
from vaecodec.segments import Box

WIDTH, HEIGHT = 2100, 1060  # three segments across, two down
BOXES = [
    Box(top, left, min(top + 1024, HEIGHT), min(left + 1024, WIDTH))
    for top in (0, 1024)
    for left in (0, 1024, 2048)
]
GREY = (128, 128, 128)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(V1 / "bundle", threads=1)


@pytest.fixture(scope="module")
def data(codec: Codec) -> bytes:
    """A file of six segments with alpha and metadata."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / 50) * 90 + 120, np.cos(y / 40) * 80 + 110, (x + y) / 14, x / 12 + 70]
    image = Image.fromarray(np.stack(waves, 2).clip(0, 255).astype(np.uint8), "RGBA")
    image.info["dpi"] = (300, 300)
    return codec.encode(image, quality=20)


@pytest.fixture(scope="module")
def whole(codec: Codec, data: bytes) -> np.ndarray:
    return codec.decode_raster(data).read()


def chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return name, beginning and end of each chunk."""
    found, at = [], 36
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((data[at : at + 4], at, end))
        at = end
    return found


def of_kind(data: bytes, name: bytes, number: int) -> tuple[int, int]:
    return [(start, end) for kind, start, end in chunks(data) if kind == name][number]


def overwritten(data: bytes, start: int, end: int) -> bytes:
    return data[:start] + b"\xa5" * (end - start) + data[end:]


def check(codec: Codec, data: bytes, whole: np.ndarray, lost: set[int], alpha: set[int]) -> None:
    """Hold what is salvaged to what is lost."""
    with pytest.raises((FormatError, LimitError)):
        codec.decode_raster(data)
    raster = codec.decode_raster(data, salvage=True)
    assert raster.lost == tuple(BOXES[number] for number in sorted(lost | alpha))
    samples = raster.read()
    for number, box in enumerate(BOXES):
        part, expected = samples[*box.slices(raster.box)], whole[*box.slices(raster.box)]
        if number in lost:
            assert np.unique(part[:, :, :3].reshape(-1, 3), axis=0).tolist() == [list(GREY)]
        elif min(part.shape[:2]) > 400:  # away from what neighbours see of lost ones
            inner = np.s_[200:-200, 200:-200, :3]
            np.testing.assert_array_equal(part[inner], expected[inner])
        if number in alpha:
            assert (part[:, :, 3] == 255).all()
        else:
            np.testing.assert_array_equal(part[:, :, 3], expected[:, :, 3])
    assert len(raster.notices) == len(lost) + len(alpha)


@pytest.mark.parametrize("number", [0, 4])
def test_a_flipped_byte_costs_one_segment(
    number: int, codec: Codec, data: bytes, whole: np.ndarray
):
    start, end = of_kind(data, LATENTS, number)
    damaged = overwritten(data, (start + end) // 2, (start + end) // 2 + 1)
    check(codec, damaged, whole, {number}, set())


def test_alpha_and_colours_are_lost_apart(codec: Codec, data: bytes, whole: np.ndarray):
    _, end = of_kind(data, ALPHA, 1)
    damaged = overwritten(data, end - 6, end - 5)
    _, end = of_kind(damaged, LATENTS, 3)
    check(codec, overwritten(damaged, end - 6, end - 5), whole, {3}, {1})


def test_damaged_heads_cost_no_others(codec: Codec, data: bytes, whole: np.ndarray):
    start, _ = of_kind(data, LATENTS, 2)
    check(codec, overwritten(data, start, start + 8), whole, {2}, set())
    for length in (b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\x03\x00\x00\x00"):
        damaged = data[: start + 4] + length + data[start + 8 :]
        check(codec, damaged, whole, {2}, set())


def test_a_burst_over_several_chunks(codec: Codec, data: bytes, whole: np.ndarray):
    start, end = of_kind(data, LATENTS, 1)[0] + 20, of_kind(data, ALPHA, 2)[0] + 2
    check(codec, overwritten(data, start, end), whole, {1, 2}, {1, 2})


def test_between_two_gaps_nothing_is_guessed(codec: Codec, data: bytes, whole: np.ndarray):
    damaged = data
    for number in (1, 3):
        start, _ = of_kind(data, LATENTS, number)
        damaged = overwritten(damaged, start, start + 8)
    raster = codec.decode_raster(damaged, salvage=True)
    assert raster.lost == tuple(BOXES[1:4])
    last = BOXES[4].slices(raster.box)
    np.testing.assert_array_equal(raster.read()[*last][:, :, 3], whole[*last][:, :, 3])


def test_what_ends_early(codec: Codec, data: bytes, whole: np.ndarray):
    start, end = of_kind(data, LATENTS, 3)
    check(codec, data[: end - 5], whole, {3, 4, 5}, {3, 4, 5})
    check(codec, data[:start], whole, {3, 4, 5}, {3, 4, 5})  # where a chunk begins
    check(codec, data[:40], whole, set(range(6)), set(range(6)))
    for length in (0, 5, 35):
        with pytest.raises(TruncatedError):
            codec.decode(data[:length], salvage=True)
    with pytest.raises(NotVaecError):
        codec.decode(b"something else" * 9, salvage=True)


def test_what_follows_or_surrounds_is_no_loss(codec: Codec, data: bytes, whole: np.ndarray):
    for damaged in (data + b"rest", overwritten(data, 44, 45)):
        raster = codec.decode_raster(damaged, salvage=True)
        np.testing.assert_array_equal(raster.read(), whole)
        assert (raster.lost, len(raster.notices)) == ((), 1)
    assert raster.notices == ("its resolution is damaged: left out",)
    assert raster.metadata.dpi is None
    raster = codec.decode_raster(data, salvage=True)
    assert (raster.lost, raster.notices) == ((), ())


def test_words_that_break_the_rules_under_right_checksums(
    codec: Codec, data: bytes, whole: np.ndarray
):
    parts = Parts.of(data)
    piece = parts.of_kind(LATENTS)[5]
    piece.payload = bytes(byte ^ 1 for byte in piece.payload)
    check(codec, parts.joined(), whole, {5}, set())


def test_an_unknown_critical_chunk_is_still_refused(codec: Codec, data: bytes):
    start, _ = of_kind(data, LATENTS, 0)
    chunk = b"NEWS" + bytes(4)
    chunk += zlib.crc32(chunk).to_bytes(4, "little")
    damaged = overwritten(data, len(data) - 1, len(data))
    with pytest.raises(UnsupportedVersionError, match="NEWS"):
        codec.decode(damaged[:start] + chunk + damaged[start:], salvage=True)


def test_limits_hold(data: bytes):
    damaged = overwritten(data, len(data) - 1, len(data))
    for limits in (Limits(max_pixels=1000), Limits(max_file_bytes=1000), Limits(max_chunks=4)):
        with pytest.raises(LimitError):
            unpack_damaged(damaged, limits, Losses())


def test_a_file_made_to_cost_time(data: bytes):
    """Heads everywhere, each of a chunk that reaches nearly to the end."""
    size = 2**20
    lengths = (max(size - at - 20, 0) for at in range(0, size, 8))
    heads = b"".join(LATENTS + length.to_bytes(4, "little") for length in lengths)
    began = time.perf_counter()
    losses = Losses()
    unpack_damaged(data[:36] + heads, DEFAULT_LIMITS, losses)
    assert time.perf_counter() - began < 10
    assert losses.colours == losses.alpha == set(range(6))


def test_a_region_and_a_pillow_image(codec: Codec, data: bytes):
    _, end = of_kind(data, LATENTS, 1)
    damaged = overwritten(data, end - 9, end - 8)
    region = Box(1000, 1000, 1050, 1060)
    image = codec.decode(damaged, region=region, salvage=True)
    assert image.info["lost"] == (Box(1000, 1024, 1024, 1060),)
    assert image.getpixel((30, 10))[:3] == GREY
    assert codec.decode(damaged, region=Box(0, 0, 9, 9), salvage=True).info["lost"] == ()
    assert "lost" not in codec.decode(data).info


def test_whatever_the_damage_there_is_an_image_or_an_error_of_ours():
    """Of hostile files, and of a small one with a byte changed at any place or cut there."""
    small = (V1 / "rgb.vaec").read_bytes()
    places = np.random.default_rng(0).integers(36, len(small), 60)
    files = [entry.data for entry in read_corpus().values() if len(entry.data) < 10_000]
    files += [small[:place] for place in places[:20]]
    files += [overwritten(small, place, place + 1) for place in places]
    limited = Codec(V1 / "bundle", threads=1, limits=LIMITS)
    for data in files:
        try:
            raster = limited.decode_raster(data, salvage=True)
        except VaecodecError:
            continue
        assert raster.read().size
        if raster.notices == ():
            limited.decode_raster(data)


# The commands


def test_the_command_writes_what_is_left(data: bytes, whole: np.ndarray, tmp_path: Path):
    path, out = tmp_path / "damaged.vaec", tmp_path / "out.png"
    _, end = of_kind(data, LATENTS, 4)
    path.write_bytes(overwritten(data, end - 9, end - 8))
    model = ("--bundle", V1 / "bundle")
    refused(run("decompress", path, out, *model), 3, "checksum of chunk")
    assert not out.exists()
    done = run("decompress", path, out, "--salvage", "--quiet", "--json", *model)
    lost = "the pixels of 1024,1024,1024,36 are lost: they are grey"
    assert (done.returncode, done.stderr.decode()) == (3, f"{path}: {lost}\n")
    facts = json.loads(done.stdout)
    assert (facts["lost"], facts["notices"]) == ([[1024, 1024, 1024, 36]], [lost])
    assert (facts["status"], facts["exit_code"]) == ("done", 3)
    with Image.open(out) as image:
        assert image.size == (WIDTH, HEIGHT)
        np.testing.assert_array_equal(np.asarray(image)[:800], whole[:800])
    misused(run("decompress", path, out, "--salvage", "--scale", "8"), "undamaged")
    done = run("verify", path)
    assert done.returncode == 3
    assert done.stdout.decode().endswith("damaged (left,top,width,height): 1024,1024,1024,36\n")


def test_verify_deep_names_what_only_the_model_finds(data: bytes, tmp_path: Path):
    parts = Parts.of(data)
    for number in (0, 5):
        piece = parts.of_kind(LATENTS)[number]
        piece.payload = bytes(byte ^ 1 for byte in piece.payload)
    (tmp_path / "a.vaec").write_bytes(parts.joined())
    done = run("verify", tmp_path / "a.vaec", "--deep", "--json", "--bundle", V1 / "bundle")
    assert done.returncode == 3
    assert json.loads(done.stdout)["damaged"] == [[0, 0, 1024, 1024], [2048, 1024, 52, 36]]
