from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export import likelihood
from vaecodec.budget import Allowance
from vaecodec.bundle import find_bundle
from vaecodec.entropy import RESIDUAL_MAX
from vaecodec.quantise import DISTORTION_WEIGHT, Quantiser
from vaecodec.tables import FREQUENCY_SUM, SCALE_COUNT, Tables, load_tables


@pytest.fixture(scope="module")
def tables(tiny_bundle: Path) -> Tables:
    bundle = find_bundle(tiny_bundle)
    return load_tables(bundle.read("tables.npz"), bundle.hyper_channels)


def cost(tables: Tables, residual: float, scale: int, symbol: int) -> float:
    table, reach = tables.frequencies[scale], int(tables.reach[scale])
    bits = -np.log2(float(table[symbol + reach]) / FREQUENCY_SUM)
    return float(bits + DISTORTION_WEIGHT * (residual - symbol) ** 2)


def test_no_neighbour_towards_zero_is_cheaper(tables: Tables):
    rng = np.random.default_rng(0)
    scale = rng.integers(1, SCALE_COUNT, 4000).astype(np.uint8)
    residual = (rng.normal(size=4000) * tables.scales[scale]).astype(np.float32)
    symbols = Quantiser(tables)(residual, scale)
    nearest = np.rint(residual)
    changed = 0
    for r, s, symbol, q in zip(residual, scale, symbols, nearest, strict=True):
        if abs(q) > tables.reach[s] or q == 0:
            assert symbol == q
            continue
        nearer = q - np.sign(q)
        costs = {int(c): cost(tables, float(r), int(s), int(c)) for c in (q, nearer)}
        assert costs[int(symbol)] <= min(costs.values()) + 1e-4
        changed += symbol != q
    assert 40 < changed < 2000


def test_escapes_are_rounded_to_the_nearest(tables: Tables):
    residual = np.array([RESIDUAL_MAX, -RESIDUAL_MAX, 5000.4, -5000.6], np.float32)
    symbols = Quantiser(tables)(residual, np.full(4, 7, np.uint8))
    np.testing.assert_array_equal(symbols, [RESIDUAL_MAX, -RESIDUAL_MAX, 5000, -5001])


def test_a_narrow_table_needs_more_to_leave_zero(tables: Tables):
    """0.7 steps are coded as one where ones are common, and as zero where they are rare."""
    narrow, wide = 5, 40
    symbols = Quantiser(tables)(np.full(2, 0.7, np.float32), np.array([narrow, wide], np.uint8))
    np.testing.assert_array_equal(symbols, [0, 1])


def test_training_rounds_the_same_way(tables: Tables):
    """Training knows the Gaussians and the encoder its tables: they part near ties alone."""
    rng = np.random.default_rng(1)
    scale = rng.integers(1, SCALE_COUNT, 20_000).astype(np.uint8)
    residual = (rng.normal(size=20_000) * tables.scales[scale]).astype(np.float32)
    ours = Quantiser(tables)(residual, scale)
    theirs = likelihood.quantise(torch.from_numpy(residual), torch.from_numpy(scale).float())
    inside = np.abs(np.rint(residual)) <= 4 * tables.scales[scale] + 1
    assert np.mean(ours[inside] == theirs.numpy()[inside]) > 0.999
    assert np.mean(ours != np.rint(residual)) > 0.01


def some_residuals(tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    scale = rng.integers(1, SCALE_COUNT // 2, 20_000).astype(np.uint8)
    return (rng.normal(size=20_000) * tables.scales[scale]).astype(np.float32), scale


@pytest.mark.parametrize("change", [-0.02, -0.005, 0.005, 0.01])
def test_an_allowance_is_kept_to_with_as_little_change_as_can_be(tables: Tables, change: float):
    residual, scale = some_residuals(tables)
    quantise = Quantiser(tables)
    usual = quantise(residual, scale)
    usual_bits = float(tables.cost_bits(usual, scale).sum(dtype=np.float64))
    bound = (1 + change) * usual_bits
    room = (bound, usual_bits + 50) if change < 0 else (usual_bits - 50, bound)
    assert np.array_equal(quantise(residual, scale, Allowance(*room)), usual)
    beyond = (0, bound) if change < 0 else (bound, 2 * bound)
    symbols = quantise(residual, scale, Allowance(*beyond))
    bits = float(tables.cost_bits(symbols, scale).sum(dtype=np.float64))
    assert bits == pytest.approx(bound, abs=30)
    assert np.all((symbols == np.rint(residual)) | (np.abs(symbols) < np.abs(residual)))
    # All that changes does so in one direction.
    assert not np.any(np.sign(change) * (np.abs(symbols) - np.abs(usual)) < 0)


@pytest.mark.parametrize("factor", [0.5, 0.89, 1.11, 3])
def test_an_allowance_that_takes_odd_rounding_is_passed_over(tables: Tables, factor: float):
    residual, scale = some_residuals(tables)
    usual = Quantiser(tables)(residual, scale)
    bits = factor * float(tables.cost_bits(usual, scale).sum())
    symbols = Quantiser(tables)(residual, scale, Allowance(bits, 1.001 * bits))
    assert np.array_equal(symbols, usual)


def test_an_allowance_for_nothing(tables: Tables):
    none = np.empty(0, np.float32), np.empty(0, np.uint8)
    assert Quantiser(tables)(*none, Allowance(1, 2)).size == 0
