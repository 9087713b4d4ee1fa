import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vaecodec.alpha import Plane, average_plane, fill_hidden, pack_plane, unpack_plane
from vaecodec.errors import CorruptError, FormatError, TruncatedError

DTYPES = {8: np.uint8, 16: np.uint16}
TOPS = {8: 255, 16: 65_535}
DEPTHS = pytest.mark.parametrize("depth", DTYPES)
SIDES = st.integers(1, 40)
NOISE = np.random.default_rng(2).integers(0, 65_536, (24, 30))
DOTS = np.where(NOISE % 7, 0, NOISE)
# What each predictor makes dots of, modulo 2 to the bit depth, and every other one more than that.
PLANES = {0: DOTS, 1: DOTS.cumsum(1), 2: DOTS.cumsum(0), 3: DOTS.cumsum(0).cumsum(1)}


def payload_of(rest: bytes, predictor: int = 0) -> bytes:
    return bytes((predictor,)) + zlib.compress(rest)


@settings(deadline=None)
@given(st.sampled_from((8, 16)), SIDES, SIDES, st.data())
def test_any_plane_comes_back(depth: int, height: int, width: int, data: st.DataObject):
    plane = data.draw(arrays(DTYPES[depth], (height, width)))
    read = unpack_plane(pack_plane(plane), plane.shape, depth)
    assert read.dtype == plane.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, plane)


@DEPTHS
@pytest.mark.parametrize("predictor", PLANES)
def test_each_predictor_has_its_plane(predictor: int, depth: int):
    plane = PLANES[predictor].astype(DTYPES[depth])
    payload = pack_plane(plane)
    assert payload[0] == predictor
    assert len(payload) < plane.nbytes / 2
    np.testing.assert_array_equal(unpack_plane(payload, plane.shape, depth), plane)


@DEPTHS
def test_every_predictor_is_undone(depth: int):
    """By the definition in FORMAT.md, a sample at a time."""
    height, width = 5, 7
    rest = NOISE[:height, :width] % (TOPS[depth] + 1)
    raw = b"".join((rest >> shift).astype(np.uint8).tobytes() for shift in range(depth - 8, -1, -8))
    for predictor in range(4):
        plane = np.zeros((height + 1, width + 1), int)  # with zeros around
        for i in range(1, height + 1):
            for j in range(1, width + 1):
                left, above, corner = plane[i, j - 1], plane[i - 1, j], plane[i - 1, j - 1]
                prediction = (0, left, above, left + above - corner)[predictor]
                plane[i, j] = (rest[i - 1, j - 1] + prediction) % (TOPS[depth] + 1)
        read = unpack_plane(payload_of(raw, predictor), (height, width), depth)
        np.testing.assert_array_equal(read, plane[1:, 1:], err_msg=f"predictor {predictor}")


def test_a_slope_costs_little():
    plane = (3 * np.arange(64)[:, np.newaxis] + 2 * np.arange(64)).astype(np.uint8)
    assert len(pack_plane(plane)) < 60


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_a_plane_of_one_value_costs_little(value: int):
    plane = np.full((1024, 1024), value, np.uint8)
    payload = pack_plane(plane)
    assert len(payload) < 1100  # zlib packs a thousandfold at most
    np.testing.assert_array_equal(unpack_plane(payload, plane.shape, 8), plane)


def test_noise_grows_by_little():
    plane = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
    assert len(pack_plane(plane)) < plane.size + 30


def test_a_view_is_packed_as_it_is_seen():
    plane = NOISE.astype(np.uint16).T[::-1, ::2]
    np.testing.assert_array_equal(unpack_plane(pack_plane(plane), plane.shape, 16), plane)


def judge(payload: bytes, shape: tuple[int, int], depth: int) -> Plane | None:
    """Hold reading to what it promises: a plane of the right kind, or an error of the format."""
    try:
        plane = unpack_plane(payload, shape, depth)
    except FormatError:
        return None
    assert plane.shape == shape
    assert plane.dtype == DTYPES[depth]
    return plane


@DEPTHS
def test_every_bit_flipped(depth: int):
    plane = PLANES[3][:6, :9].astype(DTYPES[depth])
    payload = pack_plane(plane)
    for bit in range(8, 8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        found = judge(bytes(damaged), plane.shape, depth)
        # What zlib's checksum does not cover is how the stream was made.
        assert found is None or (found == plane).all()
    others = [judge(bytes((n,)) + payload[1:], plane.shape, depth) for n in range(256)]
    assert [other is not None for other in others] == [n < 4 for n in range(256)]


@DEPTHS
def test_every_truncation(depth: int):
    plane = PLANES[3][:6, :9].astype(DTYPES[depth])
    payload = pack_plane(plane)
    for size in range(len(payload)):
        with pytest.raises(TruncatedError, match=r"is empty|ends too early"):
            unpack_plane(payload[:size], plane.shape, depth)


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from((8, 16)), SIDES, SIDES)
def test_any_bytes(payload: bytes, depth: int, height: int, width: int):
    judge(payload, (height, width), depth)


@pytest.mark.parametrize(
    ("payload", "error", "reason"),
    [
        (b"", TruncatedError, "is empty"),
        (b"\x04" + zlib.compress(bytes(6)), CorruptError, "unknown predictor 4"),
        (b"\x00not zlib", CorruptError, "cannot be inflated"),
        (payload_of(bytes(5)), TruncatedError, "ends too early"),
        (payload_of(bytes(7)), CorruptError, "is longer"),
        (payload_of(bytes(800)), CorruptError, "is longer"),
        (payload_of(bytes(6)) + b"\x00", CorruptError, "is longer"),
        (payload_of(bytes(6))[:-1] + b"\xff", CorruptError, "cannot be inflated"),
    ],
)
def test_what_is_no_plane_of_two_by_three(payload: bytes, error: type[Exception], reason: str):
    with pytest.raises(error, match=reason):
        unpack_plane(payload, (2, 3), 8)


def test_a_stream_that_asks_for_a_dictionary():
    stream = zlib.compressobj(zdict=b"what only its writer has")
    packed = stream.compress(bytes(6)) + stream.flush()
    with pytest.raises(CorruptError, match="cannot be inflated"):
        unpack_plane(b"\x00" + packed, (2, 3), 8)


def test_a_bomb_is_not_inflated():
    """These 100 KB inflate to 100 MB, and the plane has 100 bytes."""
    stream = zlib.compressobj(9)
    packed = b"".join(stream.compress(bytes(2**20)) for _ in range(100)) + stream.flush()
    payload = b"\x00" + packed
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match="is longer"):
            unpack_plane(payload, (10, 10), 8)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(payload) + 100_000  # zlib's window, and what it has not read


@DEPTHS
def test_averages_over_squares(depth: int):
    plane = (NOISE % (TOPS[depth] + 1)).astype(DTYPES[depth])
    means = average_plane(plane, 3)
    assert means.dtype == plane.dtype
    exact = [[plane[i : i + 3, j : j + 3].mean() for j in range(0, 30, 3)] for i in range(0, 24, 3)]
    np.testing.assert_allclose(means, exact, atol=0.51)
    np.testing.assert_array_equal(average_plane(plane, 1), plane)


@DEPTHS
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (8, 16), (17, 1), (20, 31)])
def test_averages_of_what_is_no_multiple(shape: tuple[int, int], depth: int):
    """Opaque stays opaque up to the edges, and hidden stays hidden."""
    for value in (0, 1, TOPS[depth]):
        means = average_plane(np.full(shape, value, DTYPES[depth]), 8)
        assert means.shape == (-(-shape[0] // 8), -(-shape[1] // 8))
        assert (means == value).all()


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Return colours in [0, 1], as the encoder takes them, and alpha with holes of any size."""
    height, width = draw(SIDES), draw(SIDES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    colours = rng.random((3, height, width), np.float32)
    coarse = rng.random((-(-height // 5), -(-width // 5))) < draw(st.floats(0, 1))
    fine = rng.random((height, width)) < draw(st.floats(0, 1))
    hidden = coarse.repeat(5, 0).repeat(5, 1)[:height, :width] | fine
    return colours, np.where(hidden, 0, rng.integers(1, 256, (height, width))).astype(np.uint8)


@settings(deadline=None)
@given(scenes())
def test_what_is_hidden_takes_the_colours_of_what_is_seen(scene: tuple[np.ndarray, np.ndarray]):
    colours, alpha = scene
    filled = colours.copy()
    fill_hidden(filled, alpha)
    seen = alpha > 0
    np.testing.assert_array_equal(filled[:, seen], colours[:, seen])
    if seen.all() or not seen.any():
        np.testing.assert_array_equal(filled, colours)
        return
    hidden = filled[:, ~seen]
    assert (hidden >= colours[:, seen].min(1)[:, None] - 1e-6).all()
    assert (hidden <= colours[:, seen].max(1)[:, None] + 1e-6).all()


def test_what_is_hidden_does_not_matter():
    rng = np.random.default_rng(4)
    alpha = (rng.random((33, 47)) < 0.3).astype(np.uint16)
    one = rng.random((1, 33, 47), np.float32)
    other = np.where(alpha, one, np.float32(0.5))
    for colours in (one, other):
        fill_hidden(colours, alpha)
    np.testing.assert_array_equal(one, other)


def test_near_colours_come_before_far_ones():
    """By hand: averages over squares of 2, then of 4."""
    colours = np.array([[[0.25, 0.75, 9, 9], [9, 9, 9, 9], [1, 9, 9, 9], [9, 9, 9, 9]]], np.float32)
    alpha = np.array([[1, 255, 0, 0], [0, 0, 0, 0], [7, 0, 0, 0], [0, 0, 0, 0]], np.uint8)
    fill_hidden(colours, alpha)
    mean = 2 / 3
    expected = [
        [0.25, 0.75, mean, mean],
        [0.5, 0.5, mean, mean],
        [1, 1, mean, mean],
        [1, 1, mean, mean],
    ]
    np.testing.assert_allclose(colours[0], expected, rtol=1e-6)


def test_a_part_of_a_larger_array_is_filled_in_place():
    planes = np.ones((3, 20, 20), np.float32)
    planes[:, 3, 4] = 0.5
    alpha = np.zeros((10, 12), np.uint8)
    alpha[3, 4] = 1
    fill_hidden(planes[:, :10, :12], alpha)
    assert (planes[:, :10, :12] == 0.5).all()
    assert (planes[:, 10:] == 1).all()
    assert (planes[:, :, 12:] == 1).all()


def test_one_seen_pixel_colours_a_large_image():
    colours = np.zeros((1, 1023, 2049), np.float32)
    colours[0, 700, 1999] = 0.3
    alpha = np.zeros((1023, 2049), np.uint8)
    alpha[700, 1999] = 1
    fill_hidden(colours, alpha)
    np.testing.assert_allclose(colours, 0.3, rtol=1e-6)
