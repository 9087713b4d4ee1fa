"""What an image is expected to come to, before any network has seen it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from support import SAMPLES
from typer.testing import CliRunner

from export.__main__ import app
from export.data import read_images
from export.forecast import fit
from vaecodec.bundle import PATCH
from vaecodec.codec import Codec
from vaecodec.container import unpack
from vaecodec.forecast import (
    LOG_BYTES_PER_PIXEL,
    PSNR_DB,
    QUALITIES,
    busyness,
    expected_bits,
    forecast,
)
from vaecodec.metrics import fidelity_db
from vaecodec.raster import Raster, as_raster
from vaecodec.rate import level_of_quality
from vaecodec.segments import latent_box, segments
from vaecodec.trace import Trace

PORTRAIT = SAMPLES / "portrait.jpg"


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    (pixels,) = read_images([PORTRAIT], 1)
    return [
        pixels[top : top + 160, left : left + 192] for top in (0, 200, 420) for left in (50, 300)
    ]


def test_a_photograph_comes_to_what_was_expected():
    (pixels,) = read_images([PORTRAIT], 1)
    raster, codec = as_raster(pixels), Codec("base")
    area = raster.width * raster.height
    sizes, fidelities = (forecast(table, raster) for table in (LOG_BYTES_PER_PIXEL, PSNR_DB))
    for quality, log_size, psnr_db in zip(QUALITIES, sizes, fidelities, strict=True):
        data = codec.encode(raster, quality=quality)
        assert math.log(len(data) / area) == pytest.approx(log_size, abs=0.4)
        assert fidelity_db(raster, codec.decode_raster(data)) == pytest.approx(psnr_db, abs=2.5)


@pytest.mark.parametrize("quality", [45, 60, 80, 100])
def test_the_first_pass_tells_what_all_will_take(quality: float):
    (pixels,) = read_images([PORTRAIT], 1)
    raster, codec = as_raster(pixels), Codec("base")
    level, trace = level_of_quality(quality), Trace(estimates=False)
    frame = codec.frame(raster, (), trace)
    analysed = list(codec.analyse(raster, level, trace))
    begun = codec.begin_bits(frame, level, analysed, trace)
    payloads = unpack(codec.fill(frame, level, analysed, trace)).latents
    grid = latent_box(raster.width, raster.height)
    expected = (
        expected_bits(*begun[number], PATCH**2 * segment.area)
        for number, segment in segments(grid, grid)
    )
    assert len(payloads) > 1
    assert 8 * sum(map(len, payloads)) == pytest.approx(sum(expected), rel=0.03)


def test_all_kinds_of_images_have_a_forecast_that_rises(crops: list[np.ndarray]):
    rng = np.random.default_rng(3)
    images = [
        crops[0],
        crops[0][:, :, 1],
        crops[0].astype(np.uint16) * 257,
        np.zeros((1, 1), np.uint8),
        np.full((3, 70, 4), 255, np.uint8),
        rng.integers(0, 256, (100, 80, 3), np.uint8),
    ]
    for image in images:
        for table in (LOG_BYTES_PER_PIXEL, PSNR_DB):
            assert np.all(np.diff(forecast(table, as_raster(image))) > 0)


def test_depth_and_scale_do_not_matter(crops: list[np.ndarray]):
    shallow, deep = (
        busyness(as_raster(crops[0].astype(t) * f)) for t, f in ((np.uint8, 1), (np.uint16, 257))
    )
    np.testing.assert_allclose(shallow, deep, rtol=1e-5)


def test_of_a_large_image_a_part_tells(crops: list[np.ndarray]):
    small = as_raster(np.tile(crops[0], (2, 2, 1)))
    large = as_raster(np.tile(crops[0], (8, 8, 1)))
    np.testing.assert_allclose(busyness(small), busyness(large), rtol=0.05)


def test_a_fit_tells_what_its_images_came_to(tiny_bundle: Path, crops: list[np.ndarray]):
    codec = Codec(tiny_bundle)
    tables = fit(codec, crops)
    assert {name: table.shape for name, table in tables.items()} == {
        "LOG_BYTES_PER_PIXEL": (len(QUALITIES), 5),
        "PSNR_DB": (len(QUALITIES), 5),
        "LATER_PASSES": (4,),
    }

    def psnr_db(raster: Raster) -> float:
        return fidelity_db(raster, codec.decode_raster(codec.encode(raster, quality=100)))

    for crop in crops:
        raster = as_raster(crop)
        assert tables["PSNR_DB"][-1] @ busyness(raster) == pytest.approx(psnr_db(raster), abs=1)


def test_the_command_prints_the_tables(tiny_bundle: Path, tmp_path: Path):
    (tmp_path / "one.jpg").write_bytes(PORTRAIT.read_bytes())
    run = CliRunner().invoke(app, ["forecast", str(tiny_bundle), "--images", str(tmp_path)])
    assert run.exit_code == 0, run.output
    printed: dict[str, tuple[tuple[float, ...], ...]] = {}
    exec(run.output, printed)  # noqa: S102 - what is to be pasted into a module
    for name in ("LOG_BYTES_PER_PIXEL", "PSNR_DB"):
        assert np.array(printed[name]).shape == (len(QUALITIES), 5)
    assert np.array(printed["LATER_PASSES"]).shape == (4,)
