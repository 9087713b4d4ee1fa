import math

import pytest

from vaecodec.container import MAX_LEVEL
from vaecodec.rate import DEFAULT_QUALITY, level_of_quality, quality_of_level


def test_ends_and_middle():
    assert level_of_quality(0) == 0
    assert level_of_quality(100) == MAX_LEVEL == 16128
    assert level_of_quality(DEFAULT_QUALITY) == 8064
    assert quality_of_level(8064) == 50.0


def test_the_nearest_level_is_taken():
    step = 100 / MAX_LEVEL
    assert level_of_quality(0.49 * step) == 0
    assert level_of_quality(0.51 * step) == 1
    assert level_of_quality(100 - 0.49 * step) == MAX_LEVEL


def test_every_level_survives_the_way_through_quality():
    levels = range(MAX_LEVEL + 1)
    assert [level_of_quality(quality_of_level(level)) for level in levels] == list(levels)


@pytest.mark.parametrize("quality", [-0.001, 100.001, math.nan, math.inf, -math.inf])
def test_quality_out_of_range(quality: float):
    with pytest.raises(ValueError, match=r"quality .* is not in 0 to 100"):
        level_of_quality(quality)


@pytest.mark.parametrize("level", [-1, MAX_LEVEL + 1])
def test_level_out_of_range(level: int):
    with pytest.raises(ValueError, match="is not in 0 to 16128"):
        quality_of_level(level)
