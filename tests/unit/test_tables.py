from __future__ import annotations

import io
import math

import numpy as np
import pytest

from export.architecture import scale_table
from export.tables import build_tables, gaussian_frequencies
from vaecodec.errors import ModelError
from vaecodec.tables import FREQUENCY_SUM, load_tables

Z_INDEX = np.full((64, 4), 20, np.uint8)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(build_tables(Z_INDEX))) as stored:
        return dict(stored)


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("scale", [0.12, 1.0, 17.3, 256.0])
def test_frequencies_are_the_gaussian_mass(scale: float):
    frequencies = gaussian_frequencies(scale)
    assert frequencies.min() >= 1
    assert frequencies.sum(dtype=np.int64) == FREQUENCY_SUM
    reach = len(frequencies) // 2 - 1
    below, above = frequencies[:reach].astype(int), frequencies[reach + 1 : -1][::-1].astype(int)
    np.testing.assert_allclose(below, above, atol=1)
    mass = frequencies / FREQUENCY_SUM
    residuals = np.arange(-reach, reach + 1)
    variance = float((mass[:-1] * residuals**2).sum())
    expected = math.erf(0.5 / scale / math.sqrt(2))
    assert mass[reach] == pytest.approx(expected, rel=0.005)
    if scale >= 1:
        assert variance == pytest.approx(scale**2 + 1 / 12, rel=0.01)


def test_what_is_built_loads(arrays: dict[str, np.ndarray]):
    tables = load_tables(packed(arrays), 4)
    np.testing.assert_allclose(tables.scales, scale_table())
    np.testing.assert_array_equal(tables.z_scale_index, Z_INDEX)
    assert len(tables.frequencies[0]) == 0


def test_building_twice_gives_the_same_bytes():
    assert build_tables(Z_INDEX) == build_tables(Z_INDEX)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("reach", lambda a: a[:-1], "wrong shape"),
        ("reach", lambda a: a + 1, "out of range"),
        ("scales", lambda a: a[:-1], "wrong shape"),
        ("frequencies", lambda a: a.astype(np.int64), "wrong shape or type"),
        ("frequencies", lambda a: a[:-1], "wrong length"),
        ("frequencies", lambda a: a - (np.arange(len(a)) == 3).astype(np.uint32), "do not sum"),
        ("z_scale_index", lambda a: a[:, :-1], "hyper-latents"),
        ("z_scale_index", lambda a: a * 0, "out of range"),
    ],
)
def test_broken_tables_are_refused(arrays: dict[str, np.ndarray], name, change, message):
    arrays[name] = change(arrays[name])
    with pytest.raises(ModelError, match=message):
        load_tables(packed(arrays), 4)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04 nor this"])
def test_no_archive_is_refused(data: bytes):
    with pytest.raises(ModelError, match="cannot be read"):
        load_tables(data, 4)
