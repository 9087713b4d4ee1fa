import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaecodec.bundle import PATCH
from vaecodec.container import SEGMENT_PIXELS
from vaecodec.segments import (
    _NARROW,
    SEGMENT,
    TILE_PIXELS,
    TILE_SIDE,
    Box,
    latent_box,
    segments,
    tiles,
)

SIDES = st.integers(1, 3 * TILE_SIDE)
PLACES = st.integers(0, 2 * TILE_SIDE)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    top, left = draw(PLACES), draw(PLACES)
    return Box(top, left, top + draw(SIDES), left + draw(SIDES))


def counted(parts: list[Box], around: Box) -> np.ndarray:
    """Return how many of the parts each place of a rectangle lies in."""
    count = np.zeros(around.shape, int)
    for part in parts:
        assert part.within(around) == part
        count[part.slices(around)] += 1
    return count


def test_constants():
    assert SEGMENT * PATCH == SEGMENT_PIXELS
    assert TILE_PIXELS == 4 * SEGMENT_PIXELS**2


def test_measures_of_a_box():
    box = Box(2, 3, 7, 11)
    assert box.shape == (5, 8)
    assert box.area == 40
    assert box.scaled(16) == Box(32, 48, 112, 176)
    assert box.grown(3) == Box(-1, 0, 10, 14)
    assert box.slices(Box(1, 1, 9, 20)) == (slice(1, 6), slice(2, 10))


def test_outward_is_the_least_box_around():
    assert Box(16, 32, 48, 64).outward(16) == Box(1, 2, 3, 4)
    assert Box(15, 31, 49, 65).outward(16) == Box(0, 1, 4, 5)
    assert Box(-1, -17, 1, 17).outward(16) == Box(-1, -2, 1, 2)


@settings(deadline=None)
@given(boxes(), st.integers(1, 70))
def test_outward_undoes_scaling(box: Box, factor: int):
    assert box.scaled(factor).outward(factor) == box
    around = box.outward(factor).scaled(factor)
    assert box.within(around) == box
    assert around.within(box.grown(factor - 1)) == around


@settings(deadline=None)
@given(boxes(), boxes())
def test_what_two_boxes_share(one: Box, other: Box):
    shared = one.within(other)
    origin = Box(0, 0, 5 * TILE_SIDE, 5 * TILE_SIDE)
    both = counted([one], origin) + counted([other], origin) == 2
    assert shared.area == both.sum()
    if shared.area:
        assert both[shared.slices(origin)].all()
        assert shared == other.within(one)
    else:
        assert min(shared.shape) == 0


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (1, 1, Box(0, 0, 1, 1)),
        (16, 32, Box(0, 0, 2, 1)),
        (17, 33, Box(0, 0, 3, 2)),
        (2**16, 1, Box(0, 0, 1, 4096)),
    ],
)
def test_latents_cover_the_image(width: int, height: int, box: Box):
    assert latent_box(width, height) == box


def test_segments_are_numbered_in_raster_order():
    """2,500 x 1,100 pixels: three across and two down, those of the edges smaller."""
    latents = latent_box(2500, 1100)
    assert dict(segments(latents, latents)) == {
        0: Box(0, 0, 64, 64),
        1: Box(0, 64, 64, 128),
        2: Box(0, 128, 64, 157),
        3: Box(64, 0, 69, 64),
        4: Box(64, 64, 69, 128),
        5: Box(64, 128, 69, 157),
    }


@pytest.mark.parametrize(
    ("area", "numbers"),
    [
        (Box(0, 0, 1, 1), [0]),
        (Box(63, 63, 64, 64), [0]),
        (Box(63, 63, 65, 65), [0, 1, 3, 4]),
        (Box(66, 100, 67, 130), [4, 5]),
        (Box(-3, 125, 3, 160), [1, 2]),  # a halo beyond the image
        (Box(68, 156, 90, 190), [5]),
    ],
)
def test_segments_that_a_part_touches(area: Box, numbers: list[int]):
    """Each is yielded whole, whatever the part has of it."""
    latents = latent_box(2500, 1100)
    every = dict(segments(latents, latents))
    assert list(segments(area, latents)) == [(number, every[number]) for number in numbers]


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400))
def test_segments_partition_an_image(height: int, width: int):
    latents = Box(0, 0, height, width)
    found = list(segments(latents, latents))
    assert [number for number, _ in found] == list(range(-(-height // 64) * -(-width // 64)))
    assert (counted([segment for _, segment in found], latents) == 1).all()


@settings(deadline=None)
@given(boxes())
def test_tiles_partition_an_area(area: Box):
    parts = tiles(area)
    assert (counted(parts, area) == 1).all()
    assert parts == sorted(parts, key=lambda part: (part.top, part.left))
    most = (TILE_SIDE + _NARROW) * (TILE_SIDE + _NARROW)
    assert all(0 < part.area <= most for part in parts)


@settings(deadline=None)
@given(boxes())
def test_tiles_of_a_large_area_begin_where_segments_do(area: Box):
    parts = tiles(area)
    if parts == [area]:  # which may lie anywhere: see the next test for what must be one
        return
    for part in parts:
        assert part.top in (area.top, part.top // TILE_SIDE * TILE_SIDE)
        assert part.left in (area.left, part.left // TILE_SIDE * TILE_SIDE)


@pytest.mark.parametrize(
    "area",
    [
        Box(0, 0, 1, 1),
        Box(0, 0, TILE_SIDE, TILE_SIDE),
        Box(0, 0, TILE_SIDE, 2),
        Box(40, 100, 100, 200),  # across segments
    ],
)
def test_what_fits_into_a_tile_is_one(area: Box):
    assert tiles(area) == [area]


def test_a_large_image_is_cut_into_tiles():
    assert tiles(Box(0, 0, 145, 200)) == [
        Box(0, 0, 128, 128),
        Box(0, 128, 128, 200),
        Box(128, 0, 145, 128),
        Box(128, 128, 145, 200),
    ]
    assert tiles(Box(10, 100, 150, 290)) == [
        Box(10, 100, 128, 128),
        Box(10, 128, 128, 256),
        Box(10, 256, 128, 290),
        Box(128, 100, 150, 128),
        Box(128, 128, 150, 256),
        Box(128, 256, 150, 290),
    ]


def test_a_narrow_strip_joins_its_neighbour():
    assert tiles(Box(0, 0, 144, 257)) == [Box(0, 0, 144, 128), Box(0, 128, 144, 257)]


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400))
def test_each_segment_lies_in_one_tile_of_a_whole_image(height: int, width: int):
    """Else encoding would write it twice, or not whole."""
    latents = Box(0, 0, height, width)
    written = [
        (number, segment, segment.within(tile) == segment)
        for tile in tiles(latents)
        for number, segment in segments(tile, latents)
    ]
    every = [(number, segment, True) for number, segment in segments(latents, latents)]
    assert sorted(written, key=lambda found: found[0]) == every
