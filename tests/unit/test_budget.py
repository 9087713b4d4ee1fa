"""Files that rounding leads to a size, segment by segment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import SAMPLES

from vaecodec.budget import Allowance, Budget
from vaecodec.codec import Codec
from vaecodec.container import Container, unpack
from vaecodec.raster import as_raster
from vaecodec.trace import Trace

BUNDLE = Path(__file__).parents[1] / "golden" / "v1" / "bundle"
LEVEL = 10 * 256


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(BUNDLE, threads=1)


def photograph(width: int, height: int) -> np.ndarray:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        return np.asarray(image.convert("RGB").crop((0, 0, width, height)))


def filled(codec: Codec, picture: np.ndarray, budget: Budget | None = None) -> Container:
    raster, trace = as_raster(picture), Trace(estimates=False)
    frame = codec.frame(raster, (), trace)
    return unpack(codec.fill(frame, LEVEL, codec.analyse(raster, LEVEL, trace), trace, budget))


def sizes(container: Container) -> dict[int, int]:
    return {number: len(payload) for number, payload in enumerate(container.latents)}


def test_shares_divide_what_is_left():
    budget = Budget(80, 100, {0: 1, 1: 3, 2: 4})
    assert budget.allow(0) == Allowance(80, 100)
    budget.spend(0, bytes(24))
    assert budget.allow(1) == Allowance(8 * 56 * 3 / 7, 8 * 76 * 3 / 7)
    budget.spend(1, bytes(16))
    assert budget.allow(2) == Allowance(8 * 40, 8 * 60)
    budget.spend(2, bytes(50))
    assert budget.spent_bytes == {0: 24, 1: 16, 2: 50}


def test_a_segment_without_a_share_may_take_anything():
    budget = Budget(80, 100, {})
    assert budget.allow(0) is None
    budget.spend(0, bytes(3))
    assert budget.spent_bytes == {0: 3}


@pytest.mark.parametrize("change", [-0.006, -0.003, 0.003, 0.006])
def test_a_segment_keeps_to_its_budget(codec: Codec, change: float):
    picture = photograph(512, 384)
    usual = len(filled(codec, picture).latents[0])
    least, most = sorted((usual * (1 + change), usual * (1 + 0.9 * change)))
    container = filled(codec, picture, Budget(least, most, {0: 1}))
    # The coder's last words may be half full.
    assert least - 8 <= len(container.latents[0]) <= most + 8


def test_what_no_rounding_reaches_changes_nothing(codec: Codec):
    picture = photograph(200, 150)
    usual = filled(codec, picture)
    size = len(usual.latents[0])
    for factor in (0.8, 1.2):
        wanted = factor * size
        assert filled(codec, picture, Budget(wanted, wanted + 8, {0: 1})) == usual
    assert filled(codec, picture, Budget(0.9 * size, 1.1 * size, {0: 1})) == usual


def test_segments_keep_to_a_budget_together(codec: Codec):
    picture = np.pad(photograph(900, 700), ((0, 500), (0, 500), (0, 0)), mode="reflect")
    usual = sizes(filled(codec, picture))
    assert len(usual) == 4
    wanted = 1.01 * sum(usual.values())
    budget = Budget(wanted, 1.001 * wanted, usual)
    container = filled(codec, picture, budget)
    assert budget.spent_bytes == sizes(container)
    assert wanted - 16 <= sum(budget.spent_bytes.values()) <= 1.001 * wanted + 16
