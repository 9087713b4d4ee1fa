"""Where the bits went, crops at equal size, and the search for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import SAMPLES

from vaecodec.bench.bits import BitCounter, _spread
from vaecodec.bench.pictures import data_uri, heat, ramp_css
from vaecodec.bench.pillow_peers import PEERS
from vaecodec.bench.results import QualityRow
from vaecodec.bench.views import (
    _busiest,
    choose_quality,
    nearest_file,
    nearest_quality,
    spread_out,
    view,
)
from vaecodec.codec import Codec
from vaecodec.container import unpack
from vaecodec.entropy import SymbolModels, SymbolWriter
from vaecodec.raster import from_array
from vaecodec.segments import Box
from vaecodec.tables import FREQUENCY_SUM, load_tables


@pytest.fixture(scope="module")
def codec(tiny_bundle: Path) -> Codec:
    return Codec(tiny_bundle)


@pytest.fixture(scope="module")
def counter(codec: Codec) -> BitCounter:
    return BitCounter(codec.bundle)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        return np.asarray(image.convert("RGB").crop((300, 200, 471, 297)))


def test_symbols_cost_what_their_frequencies_say(codec: Codec):
    bundle = codec.bundle
    tables = load_tables(bundle.read("tables.npz"), bundle.hyper_channels)
    models = SymbolModels(tables)
    index = np.array([0, 9, 40, 9], np.uint8)
    reach = int(tables.reach[9])
    residuals = np.array([0, -1, 2, reach + 70], np.int32)
    bits = models.tables.cost_bits(residuals, index)
    frequencies = (
        tables.frequencies[9][reach - 1],
        tables.frequencies[40][int(tables.reach[40]) + 2],
        tables.frequencies[9][-1],
    )
    expected = [0.0, *(math.log2(FREQUENCY_SUM / int(f)) for f in frequencies)]
    expected[3] += 16  # two bytes of escape: 2 * 69 takes eight bits
    np.testing.assert_allclose(bits, expected)


def test_costs_add_up_to_what_the_coder_writes(codec: Codec):
    bundle = codec.bundle
    models = SymbolModels(load_tables(bundle.read("tables.npz"), bundle.hyper_channels))
    rng = np.random.default_rng(3)
    index = rng.integers(0, 64, 20_000).astype(np.uint8)
    scales = models.tables.scales[index] * (index > 0)
    residuals = np.rint(rng.normal(0, 1.5, index.shape) * scales).astype(np.int32)
    writer = SymbolWriter(models)
    writer.add(residuals, index)
    bits = models.tables.cost_bits(residuals, index)
    assert bits[index == 0].max() == 0
    assert 8 * len(writer.finish()) == pytest.approx(bits.sum() + 64 + 32, abs=64)


def test_the_map_adds_up_to_the_file(codec: Codec, counter: BitCounter, photo: np.ndarray):
    data = codec.encode(photo, quality=90)
    bits = counter.of_file(data)
    assert bits.shape == (7, 11)
    assert bits.min() > 0
    payload = sum(map(len, unpack(data).latents))
    assert 8 * payload == pytest.approx(bits.sum() + 64 + 32, abs=64)


def test_bits_lie_where_the_image_is_busy(codec: Codec, counter: BitCounter):
    samples = np.full((64, 128, 3), 128, np.uint8)
    samples[:, 96:] = np.random.default_rng(0).integers(0, 256, (64, 32, 3))
    bits = counter.of_file(codec.encode(samples, quality=90))
    assert bits[:, 6:].min() > bits[:, :4].max()


def test_segments_keep_their_places(codec: Codec, counter: BitCounter):
    samples = np.full((32, 1056, 3), 128, np.uint8)
    samples[:, 1040:] = np.random.default_rng(0).integers(0, 256, (32, 16, 3))
    bits = counter.of_file(codec.encode(samples, quality=90))
    assert bits.shape == (2, 66)
    assert bits.sum(axis=0).argmax() == 65


def test_what_is_spread_is_neither_lost_nor_more():
    spread = _spread(np.array([[16.0, 4.0]]), (3, 5))
    np.testing.assert_allclose(spread[:, :4], 16 / 12)
    np.testing.assert_allclose(spread[:, 4], 4 / 3)


def test_the_busiest_crop():
    bits = np.zeros((40, 60))
    bits[30, 50] = bits[31, 40] = 1
    crop = _busiest(bits, Box(0, 0, 640, 960))
    assert crop.shape == (256, 384)
    assert crop.top <= 480 < crop.bottom
    assert crop.left <= 640 < 800 < crop.right
    assert _busiest(np.ones((7, 11)), Box(0, 0, 97, 171)) == Box(0, 0, 97, 171)
    assert _busiest(np.ones((7, 30)), Box(0, 0, 97, 471)) == Box(0, 0, 97, 384)
    assert _busiest(np.ones((1, 1)), Box(0, 0, 9, 5)) == Box(0, 0, 9, 5)


@pytest.mark.parametrize("target", [0, 7, 149, 151, 1000, 9999, 10**6])
@pytest.mark.parametrize("known", [(), (1, 40, 100), (12, 13)])
def test_the_nearest_size_is_found(target: int, known: tuple[int, ...]):
    qualities = list(range(1, 101))
    asked: list[float] = []

    def size(quality: float) -> int:
        asked.append(quality)
        return int(quality) ** 2

    sizes = {quality: quality**2 for quality in known}
    found = nearest_quality(qualities, size, target, sizes)
    assert abs(found**2 - target) == min(abs(q**2 - target) for q in qualities)
    assert len(asked) <= 10


def test_a_file_of_the_nearest_size(photo: np.ndarray):
    peer, image = PEERS["jpeg"], from_array(photo)
    sizes = {quality: len(peer.encode(photo, quality)) for quality in (5, 40, 95)}
    quality, file = nearest_file(peer, image, 3000, sizes)
    assert file == peer.encode(photo, quality)
    for other in (quality - 1, quality + 1):
        assert abs(len(file) - 3000) <= abs(len(peer.encode(photo, other)) - 3000)
    assert nearest_file(peer, image, sizes[40], sizes) == (40, peer.encode(photo, 40))


def test_a_view(codec: Codec, counter: BitCounter, photo: np.ndarray, tmp_path: Path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    shown = view(codec, counter, tmp_path / "photo.png", 60, [PEERS["jpeg"]])
    original, ours, jpeg = shown.versions
    assert (original.codec, ours.codec, jpeg.codec) == ("original", "vaecodec", "jpeg")
    assert ours.file_bytes == len(codec.encode(photo, quality=60))
    assert jpeg.file_bytes == len(PEERS["jpeg"].encode(photo, jpeg.quality or 0))
    rows, columns = shown.crop.slices(Box(0, 0, 97, 171))
    np.testing.assert_array_equal(original.crop, photo[rows, columns])
    decoded = codec.decode_raster(codec.encode(photo, quality=60)).read()
    np.testing.assert_array_equal(ours.crop, decoded[rows, columns])
    assert shown.bits.shape == (7, 11)
    assert 0.5 < shown.bits_share < 1
    assert shown.whole.shape == (97, 171)


def test_a_view_of_a_grey_image(codec: Codec, counter: BitCounter, tmp_path: Path):
    with Image.open(SAMPLES / "cameraman-grey.png") as image:
        image.crop((100, 100, 180, 164)).save(tmp_path / "grey.png")
    shown = view(codec, counter, tmp_path / "grey.png", 60, [PEERS["webp"]])
    assert {version.crop.shape for version in shown.versions} == {(64, 80, 3)}


def test_images_are_chosen_from_first_to_last():
    paths = [Path(str(index)) for index in range(24)]
    assert [path.name for path in spread_out(paths, 4)] == ["0", "8", "15", "23"]
    assert [path.name for path in spread_out(paths, 1)] == ["0"]
    assert spread_out(paths, 0) == []
    assert spread_out(paths, 30) == paths


def test_the_quality_to_look_at():
    rows = [QualityRow(q, r, 30, 1, 1, 0) for q, r in ((10, 0.05), (30, 0.4), (50, 0.9))]
    assert choose_quality(rows) == 30
    assert choose_quality(rows, 0.1) == 10


def test_heat_grows_lighter():
    colours = heat(np.linspace(0, 2, 50)[np.newaxis], 2.0).astype(float)
    lightness = colours @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness[0]) > 0).all()
    np.testing.assert_array_equal(heat(np.array([[5.0]]), 2.0)[0, 0], colours[0, -1])
    assert heat(np.zeros((2, 2)), 0.0).shape == (2, 2, 3)
    assert ramp_css().count("rgb(") == 6


def test_pictures_without_webp(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    assert data_uri(photo).startswith("data:image/webp;base64,")
    monkeypatch.setattr("vaecodec.bench.pictures.features.check", lambda feature: False)
    assert data_uri(photo).startswith("data:image/png;base64,iVBOR")
