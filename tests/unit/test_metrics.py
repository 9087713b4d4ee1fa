import math
import sys

import numpy as np
import pytest

from vaecodec import metrics
from vaecodec.errors import RuntimeUnavailableError
from vaecodec.metrics import bd_rate, bpp, clean_curve, fidelity_db, mse, psnr_db, rate_at
from vaecodec.raster import from_array

ANCHOR = [(0.1, 27.0), (0.2, 29.5), (0.45, 32.5), (0.9, 36.0), (1.9, 40.5)]
TEST = [(0.07, 26.0), (0.2, 30.0), (0.4, 32.0), (1.1, 37.5), (2.2, 41.5)]


def samples(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


def test_mse_and_psnr_by_hand():
    assert mse(samples(0, 255, 10), samples(255, 0, 10)) == pytest.approx(2 * 255**2 / 3)
    assert psnr_db(samples(0), samples(255)) == 0.0
    assert psnr_db(samples(100, 100), samples(101, 99)) == pytest.approx(48.1308, abs=1e-4)
    assert psnr_db(samples(7), samples(7)) == math.inf


def test_mse_of_images_is_over_all_channels():
    one, other = np.random.default_rng(0).integers(0, 256, (2, 11, 13, 3), np.uint8)
    expected = sum(mse(one[:, :, c], other[:, :, c]) for c in range(3)) / 3
    assert mse(one, other) == pytest.approx(expected)


def test_sixteen_bits_by_hand():
    one = np.array([0, 65_535, 300], np.uint16)
    other = np.array([65_535, 0, 300], np.uint16)
    assert mse(one, other) == pytest.approx(2 * 65_535**2 / 3)
    assert psnr_db(one[:1], other[:1]) == pytest.approx(0, abs=1e-6)
    assert psnr_db(one[2:], one[2:] + np.uint16(1)) == pytest.approx(96.3295, abs=1e-4)


def test_both_depths_give_the_same_fidelity():
    one, other = np.random.default_rng(0).integers(0, 256, (2, 11, 13, 3), np.uint8)
    deep = [samples.astype(np.uint16) * 257 for samples in (one, other)]
    assert psnr_db(*deep) == pytest.approx(psnr_db(one, other), rel=1e-6)


def test_a_mean_over_many_pixels_is_exact():
    """More of them than float32 counts, each off by one."""
    one = np.zeros((5000, 4000), np.uint8)
    assert mse(one, one + np.uint8(1)) == 1.0


@pytest.fixture(params=[10**6, 30, 1])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare images at once, by two rows, and by one."""
    monkeypatch.setattr(metrics, "_BLOCK_PIXELS", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("channels", [1, 3])
def test_fidelity_without_alpha_is_psnr(channels: int):
    one, other = np.random.default_rng(0).integers(0, 256, (2, 11, 13, channels), np.uint8)
    expected = pytest.approx(psnr_db(one, other), abs=1e-12)
    assert fidelity_db(from_array(one), from_array(other)) == expected


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("channels", [2, 4])
def test_fidelity_counts_the_colours_of_what_is_seen(channels: int, kind: type):
    rng = np.random.default_rng(0)
    one, other = rng.integers(1, 256, (2, 11, 13, channels), np.uint8).astype(kind)
    one[:4, :, -1] = one[:, 6:, -1] = 0
    other[:, :, -1] = one[:, :, -1]
    colours = one[4:, :6, :-1], other[4:, :6, :-1]
    assert fidelity_db(from_array(one), from_array(other)) == pytest.approx(psnr_db(*colours))


def test_fidelity_of_what_nobody_sees():
    one, other = np.random.default_rng(0).integers(0, 256, (2, 11, 13, 4), np.uint8)
    one[:, :, -1] = 0
    assert fidelity_db(from_array(one), from_array(other)) == math.inf


@pytest.mark.parametrize("shape", [(5, 7, 3), (7, 5, 4), (5, 7, 1), (5, 7)])
def test_fidelity_of_different_kinds(shape: tuple[int, ...]):
    one = from_array(np.ones((5, 7, 4), np.uint8))
    for kind in (np.uint8, np.uint16):
        with pytest.raises(ValueError, match="cannot compare"):
            fidelity_db(one, from_array(np.ones(shape, kind)))
    with pytest.raises(ValueError, match="cannot compare"):
        fidelity_db(one, from_array(np.ones((5, 7, 4), np.uint16)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (samples(1, 2), samples(1)),
        (samples(1, 2), samples(1, 2).reshape(2, 1)),
        (samples(), samples()),
        (samples(1), np.array([1.0])),
        (samples(1), samples(1).astype(np.uint16)),
        (np.array([1.0]), np.array([1.0])),
        (np.array([1]), np.array([1])),
    ],
)
def test_what_cannot_be_compared(one: np.ndarray, other: np.ndarray):
    with pytest.raises(ValueError, match="cannot compare"):
        mse(one, other)


def test_bpp():
    assert bpp(1000, 100, 40) == 2.0


def test_a_known_shift_of_all_rates():
    shifted = [(1.1 * rate, fidelity) for rate, fidelity in ANCHOR]
    result = bd_rate(ANCHOR, shifted)
    assert result.percent == pytest.approx(10)
    assert (result.low_db, result.high_db) == (27.0, 40.5)
    assert bd_rate(shifted, ANCHOR).percent == pytest.approx(100 / 1.1 - 100)
    assert bd_rate(ANCHOR, ANCHOR).percent == pytest.approx(0)


def pchip_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fritsch and Butland's slopes, from their paper: weighted harmonic means."""
    h, d = np.diff(x), np.diff(y) / np.diff(x)
    inner = [
        (3 * (h[i - 1] + h[i])) / ((2 * h[i] + h[i - 1]) / d[i - 1] + (h[i] + 2 * h[i - 1]) / d[i])
        for i in range(1, len(h))
    ]
    first = ((2 * h[0] + h[1]) * d[0] - h[0] * d[1]) / (h[0] + h[1])
    last = ((2 * h[-1] + h[-2]) * d[-1] - h[-1] * d[-2]) / (h[-1] + h[-2])
    return np.array([first, *inner, last])


def log_rates_at(points: list[tuple[float, float]], at: np.ndarray) -> np.ndarray:
    """Cubic Hermite interpolation, written out."""
    x = np.array([fidelity for _, fidelity in points])
    y = np.log([rate for rate, _ in points])
    slopes = pchip_slopes(x, y)
    i = np.clip(np.searchsorted(x, at, "right") - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    t = (at - x[i]) / h
    left = (1 + 2 * t) * (1 - t) ** 2 * y[i] + t * (1 - t) ** 2 * h * slopes[i]
    return left + t**2 * (3 - 2 * t) * y[i + 1] + t**2 * (t - 1) * h * slopes[i + 1]


def test_against_an_independent_numeric_integration():
    low, high, count = 27.0, 40.5, 200_000
    middles = low + (np.arange(count) + 0.5) * (high - low) / count
    mean = float(np.mean(log_rates_at(TEST, middles) - log_rates_at(ANCHOR, middles)))
    result = bd_rate(ANCHOR, TEST)
    assert result.percent == pytest.approx(100 * (math.exp(mean) - 1), rel=1e-6)
    assert (result.low_db, result.high_db) == (low, high)


def test_the_rate_at_a_fidelity():
    at = np.array([26.0, 28.3, 30.0, 36.6, 41.5])
    expected = np.exp(log_rates_at(TEST, at))
    assert [rate_at(reversed(TEST), fidelity) for fidelity in at] == pytest.approx(expected)
    assert rate_at([*TEST, (1.5, 37.0), (3.0, math.inf)], 32.0) == pytest.approx(0.4)


@pytest.mark.parametrize("fidelity", [25.99, 41.51, math.nan])
def test_a_fidelity_that_a_curve_does_not_reach(fidelity: float):
    with pytest.raises(ValueError, match=r"spans 26\.00 to 41\.50, and not"):
        rate_at(TEST, fidelity)


def test_order_of_the_points_does_not_matter():
    assert bd_rate(reversed(ANCHOR), iter(TEST)) == bd_rate(ANCHOR, TEST)


def test_cleaning():
    clumsy = [(0.3, 29.4), (0.2, 29.0), (1.0, math.inf), *ANCHOR, (0.0, 20.0), (2.0, math.nan)]
    assert clean_curve(clumsy) == ANCHOR


def test_fidelities_below_zero_count():
    """SSIMULACRA 2 has them."""
    lower = [(rate, value - 30) for rate, value in ANCHOR]
    assert bd_rate(lower, lower).low_db == -3


@pytest.mark.parametrize("points", [[], ANCHOR[:1], [(0.1, 30.0), (0.2, 30.0), (0.3, 29.0)]])
def test_curves_with_too_few_points(points: list[tuple[float, float]]):
    with pytest.raises(ValueError, match="needs two usable points"):
        bd_rate(ANCHOR, points)
    with pytest.raises(ValueError, match="needs two usable points"):
        rate_at(points, 27.0)


def test_curves_that_do_not_overlap():
    with pytest.raises(ValueError, match=r"27\.00 to 29\.50 dB and 36\.00 to 40\.50 dB"):
        bd_rate(ANCHOR[:2], ANCHOR[3:])


def test_without_scipy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scipy.interpolate", None)
    with pytest.raises(RuntimeUnavailableError) as caught:
        bd_rate(ANCHOR, TEST)
    assert caught.value.pip_line == "pip install 'vaecodec[bench]'"
