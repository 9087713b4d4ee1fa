from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from PIL import Image
from support import SAMPLES

from vaecodec.bench import ms_ssim_db
from vaecodec.bench.perceptual import MS_SSIM_SIDE, _halve, ms_ssim, ssimulacra2
from vaecodec.errors import RuntimeUnavailableError


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """512x512, stored without loss."""
    with Image.open(SAMPLES / "cameraman-grey.png") as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def colour(grey: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.stack([grey, grey[::-1], grey.T], axis=2))


@pytest.fixture(scope="module")
def noisy(colour: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).integers(-25, 26, colour.shape)
    return np.clip(colour + noise, 0, 255).astype(np.uint8)


# The values are those of pytorch-msssim 1.0.0 in float64, with its window computed in float64 too
# (its own is float32, which moves the sixth decimal), on the same samples.


def test_ms_ssim_of_grey(grey: np.ndarray):
    one = grey[:, :, np.newaxis]
    assert ms_ssim(one, one // 16 * 16) == pytest.approx(0.973351584, abs=2e-9)


def test_ms_ssim_of_colour(colour: np.ndarray, noisy: np.ndarray):
    assert ms_ssim(colour, noisy) == pytest.approx(0.855667863, abs=2e-9)
    assert ms_ssim(colour, np.roll(colour, 3, 1)) == pytest.approx(0.805572503, abs=2e-9)


def test_ms_ssim_of_the_smallest_image(colour: np.ndarray, noisy: np.ndarray):
    corner = np.s_[:MS_SSIM_SIDE, :MS_SSIM_SIDE]
    assert ms_ssim(colour[corner], noisy[corner]) == pytest.approx(0.788557508, abs=2e-9)


def test_ms_ssim_of_sixteen_bits(colour: np.ndarray, noisy: np.ndarray):
    deep = [samples[:200, :200].astype(np.uint16) * 257 for samples in (colour, noisy)]
    assert ms_ssim(*deep) == pytest.approx(ms_ssim(colour[:200, :200], noisy[:200, :200]))


def test_odd_sides_are_halved_without_a_dark_edge():
    plane = np.array([[1.0, 3.0, 5.0], [5.0, 7.0, 9.0], [9.0, 11.0, 14.0]])
    np.testing.assert_array_equal(_halve(plane), [[4.0, 7.0], [10.0, 14.0]])


def test_ms_ssim_at_its_ends(colour: np.ndarray):
    small = colour[:180, :180]
    assert ms_ssim(small, small) == pytest.approx(1)
    assert ms_ssim(small, 255 - small) == 0


def test_ms_ssim_of_what_cannot_be_compared(colour: np.ndarray):
    with pytest.raises(ValueError, match="needs 176 pixels a side"):
        ms_ssim(colour[:175], colour[:175])
    for other in (colour[:-1], colour.astype(np.uint16), colour[:, :, 0]):
        with pytest.raises(ValueError, match="cannot compare"):
            ms_ssim(colour, other)


def test_decibels():
    assert ms_ssim_db(0.99) == pytest.approx(20)
    assert ms_ssim_db(0.0) == 0
    assert ms_ssim_db(1.0) == math.inf


def test_ssimulacra2_scores(colour: np.ndarray, noisy: np.ndarray):
    pytest.importorskip("ssimulacra2")
    one, other = colour[:64, :96], noisy[:64, :96]
    assert ssimulacra2(one, one) == pytest.approx(100)
    mild = ssimulacra2(one, one // 4 * 4)
    strong = ssimulacra2(one, other)
    assert 100 > mild > strong
    grey = np.ascontiguousarray(one[:, :, :1])
    threefold = np.repeat(grey, 3, axis=2)
    assert ssimulacra2(grey, grey // 8 * 8) == ssimulacra2(threefold, threefold // 8 * 8)


def test_ssimulacra2_of_what_cannot_be_compared(colour: np.ndarray):
    for other in (colour[:-1], colour.astype(np.uint16)):
        with pytest.raises(ValueError, match="cannot compare"):
            ssimulacra2(colour, other)


def test_without_the_package(colour: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    with pytest.raises(RuntimeUnavailableError) as caught:
        ssimulacra2(colour, colour)
    assert caught.value.pip_line == "pip install 'vaecodec[bench]'"
