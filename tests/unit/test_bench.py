from __future__ import annotations

import math
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaecodec import bench
from vaecodec.codec import Codec
from vaecodec.errors import ImageError, InputError
from vaecodec.image import read_image, write_image
from vaecodec.metadata import KINDS
from vaecodec.metrics import fidelity_db
from vaecodec.raster import Raster, from_array
from vaecodec.trace import Trace


class PngCodec:
    """Stands in for a codec: PNG with samples rounded, more coarsely at lower qualities."""

    def __init__(self) -> None:
        self.encoded: list[float] = []

    def encode(
        self,
        image: Raster,
        *,
        quality: float = 50.0,
        strip: Collection[str] = (),
        trace: Trace | None = None,
    ) -> bytes:
        self.encoded.append(quality)
        step = 1 + int(100 - quality) // 5
        samples = image.read().copy()
        colours = samples[:, :, : image.mode.colours]
        colours[...] = colours // step * step
        data = bytes(write_image(from_array(samples), ".png"))
        if trace:
            trace.seconds = {"image": 0.25, "entropy": 0.75}
            trace.estimated_bits = 8 * len(data) / 1.25
        return data

    def decode_raster(self, data: bytes, *, trace: Trace | None = None) -> Raster:
        time.sleep(0.001)
        if trace:
            trace.seconds = {"entropy": 0.0005}
        return read_image(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One RGB image of 30x20 and a grey one of 20x30, and what is to be left aside."""
    rng = np.random.default_rng(5)
    Image.fromarray(rng.integers(0, 256, (30, 20), np.uint8)).save(tmp_path / "b.PNG")
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "a.bmp")
    (tmp_path / "README.md").write_text("not an image")
    (tmp_path / "c.png").mkdir()
    return tmp_path


def test_find_images(folder: Path):
    assert [path.name for path in bench.find_images(folder)] == ["a.bmp", "b.PNG"]
    with pytest.raises(InputError, match="there are no images"):
        bench.find_images(folder / "c.png")
    with pytest.raises(InputError, match="cannot read the folder"):
        bench.find_images(folder / "absent")


def test_an_unusable_image_is_named(tmp_path: Path):
    path = tmp_path / "precise.tif"
    Image.new("F", (2, 2)).save(path)
    with pytest.raises(ImageError, match=r"precise\.tif: .*floating-point"):
        bench.load_image(path)


def test_measure(folder: Path):
    codec, calls = PngCodec(), []
    paths = bench.find_images(folder)
    rows = bench.measure(codec, paths, [90, 10, 90], lambda *args: calls.append(args))
    assert calls == [(1, 2, "a.bmp"), (2, 2, "b.PNG")]
    assert codec.encoded == [50, 10, 90, 10, 90]  # the first one loads the networks
    assert [(row.image, row.quality) for row in rows] == [
        ("a.bmp", 10),
        ("a.bmp", 90),
        ("b.PNG", 10),
        ("b.PNG", 90),
    ]
    for row, path in zip(rows, [paths[0], paths[0], paths[1], paths[1]], strict=True):
        image = read_image(path.read_bytes())
        data = codec.encode(image, quality=row.quality)
        assert (row.width, row.height, row.file_bytes) == (image.width, image.height, len(data))
        assert row.bpp == 8 * len(data) / 600
        assert row.psnr_db == fidelity_db(image, read_image(data))
        assert row.encode_s == 1.0
        assert row.decode_s >= 0.001
        assert row.estimate_error_percent == pytest.approx(25)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_measure_what_has_alpha(tmp_path: Path, kind: type):
    """Only the colours of what is seen count."""
    samples = np.random.default_rng(5).integers(0, 256, (20, 30, 4)).astype(kind)
    samples[:, :15, 3] = 0
    (tmp_path / "clear.png").write_bytes(write_image(from_array(samples), ".png"))
    (row,) = bench.measure(PngCodec(), bench.find_images(tmp_path), [10])
    seen = from_array(samples[:, 15:][samples[:, 15:, 3] > 0][np.newaxis, :, :3])
    coded = from_array(seen.read() // 19 * 19)
    assert row.psnr_db == pytest.approx(fidelity_db(seen, coded))


def test_the_image_for_speed_is_of_8_bits_and_opaque(tmp_path: Path):
    samples = np.random.default_rng(5).integers(0, 65_536, (20, 30, 4), np.uint16)
    (tmp_path / "deep.png").write_bytes(write_image(from_array(samples), ".png"))
    mosaic = bench._mosaic(bench.find_images(tmp_path), 0.0006)
    assert mosaic.bit_depth == 8
    width = min(30, mosaic.width)
    np.testing.assert_array_equal(
        mosaic.read()[:20, :width], (samples[: mosaic.height, :width, :3] >> 8)
    )


def test_means_are_per_image():
    def row(name: str, quality: float, value: float) -> bench.ImageRow:
        return bench.ImageRow(name, quality, 1, 1, 1, value, *[10 * value] * 4)

    rows = [row("a", 50, 1), row("a", 20, 5), row("b", 50, 2), row("b", 20, 8)]
    assert bench.summarise(rows) == (
        bench.QualityRow(20, 6.5, 65, 65, 65, 65),
        bench.QualityRow(50, 1.5, 15, 15, 15, 15),
    )
    assert bench.curve_of(bench.summarise(rows)) == [(6.5, 65), (1.5, 15)]


def test_speed(folder: Path):
    codec = PngCodec()
    speed = bench.speed(codec, bench.find_images(folder), megapixels=0.003, repeats=3, quality=70)
    assert (speed.width, speed.height, speed.repeats, speed.quality) == (63, 48, 3, 70)
    assert codec.encoded == [70] * 4
    assert (speed.encode_s, speed.encode_entropy_share) == (1.0, 0.75)
    assert speed.decode_s >= 0.001
    assert speed.decode_entropy_share == pytest.approx(0.0005 / speed.decode_s, rel=0.5)


def test_the_image_for_speed_is_tiled_without_gaps(folder: Path):
    paths = bench.find_images(folder)
    mosaic = bench._mosaic(paths, 0.003).read()
    corners = [bench.load_image(path).rgb()[:20, :20] for path in paths]
    np.testing.assert_array_equal(mosaic[:20, :20], corners[0])
    np.testing.assert_array_equal(mosaic[:20, 20:40], corners[1])
    np.testing.assert_array_equal(mosaic[40:48, 60:63], corners[1][:8, :3])
    enough = bench._mosaic(paths, 0.0006).read()  # one image does
    first = bench.load_image(paths[0]).rgb()
    np.testing.assert_array_equal(enough[:20], first[:20, : enough.shape[1]])


@pytest.mark.parametrize(
    ("megapixels", "repeats"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (1, 0)]
)
def test_speed_of_nothing(folder: Path, megapixels: float, repeats: int):
    with pytest.raises(ValueError, match="at least one repeat"):
        bench.speed(PngCodec(), bench.find_images(folder), megapixels, repeats)


def test_with_a_real_codec(folder: Path, tiny_bundle: Path):
    codec = Codec(tiny_bundle)
    paths = bench.find_images(folder)
    rows = bench.measure(codec, paths, [80])
    assert [row.file_bytes for row in rows] == [
        len(codec.encode(read_image(path.read_bytes()), quality=80, strip=KINDS)) for path in paths
    ]
    assert all(row.encode_s > 0 and row.decode_s > 0 for row in rows)
    # On images this small the header and the words' ends weigh, and a file is never smaller.
    assert all(row.estimate_error_percent > 0 for row in rows)
    speed = bench.speed(codec, paths, megapixels=0.01, repeats=2)
    assert 0 < speed.encode_entropy_share < 1
    assert 0 < speed.decode_entropy_share < 1
