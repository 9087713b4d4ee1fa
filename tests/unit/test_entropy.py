from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaecodec.bundle import find_bundle
from vaecodec.entropy import RESIDUAL_MAX, SymbolModels, SymbolReader, SymbolWriter
from vaecodec.errors import ChecksumError, CorruptError, FormatError, TruncatedError
from vaecodec.tables import FREQUENCY_SUM, SCALE_COUNT, Tables, load_tables


@pytest.fixture(scope="module")
def models(tiny_bundle: Path) -> SymbolModels:
    bundle = find_bundle(tiny_bundle)
    return SymbolModels(load_tables(bundle.read("tables.npz"), bundle.hyper_channels))


def draw(tables: Tables, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    index = rng.integers(0, SCALE_COUNT, count).astype(np.uint8)
    residuals = np.rint(rng.normal(size=count) * tables.scales[index]).astype(np.int32)
    residuals[index == 0] = 0
    return residuals, index


def write(models: SymbolModels, *groups: tuple[np.ndarray, np.ndarray]) -> bytes:
    writer = SymbolWriter(models)
    for group in groups:
        writer.add(*group)
    return writer.finish()


def test_groups_come_back_in_order(models: SymbolModels):
    groups = [draw(models.tables, count, seed) for seed, count in enumerate((5000, 1, 0, 777))]
    reader = SymbolReader(models, write(models, *groups))
    for residuals, index in groups:
        np.testing.assert_array_equal(reader.take(index), residuals)
    reader.close()


def test_size_is_that_of_the_entropy(models: SymbolModels):
    residuals, index = draw(models.tables, 200_000, 3)
    writer = SymbolWriter(models)
    writer.add(residuals, index)
    ideal_bytes = models.tables.ideal_bits(residuals, index) / 8
    assert writer.ideal_bits() / 8 == pytest.approx(ideal_bytes)
    assert len(writer.finish()) == pytest.approx(ideal_bytes, rel=0.002)


@given(
    st.lists(st.tuples(st.integers(-RESIDUAL_MAX, RESIDUAL_MAX), st.integers(1, 63)), max_size=40)
)
@settings(max_examples=60, deadline=None)
def test_any_residual_up_to_the_cap_survives(models: SymbolModels, pairs: list[tuple[int, int]]):
    residuals = np.array([value for value, _ in pairs], np.int32)
    index = np.array([i for _, i in pairs], np.uint8)
    reader = SymbolReader(models, write(models, (residuals, index)))
    np.testing.assert_array_equal(reader.take(index), residuals)
    reader.close()


def integer_tables() -> Tables:
    """Triangular tables, made of integers alone: the same on every machine."""
    reach = np.arange(SCALE_COUNT, dtype=np.int32)
    frequencies = [np.zeros(0, np.uint32)]
    for r in range(1, SCALE_COUNT):
        table = np.append(1 + 1000 * (r + 1 - np.abs(np.arange(-r, r + 1))), 1)
        table[r] += FREQUENCY_SUM - table.sum()
        frequencies.append(table.astype(np.uint32))
    z_scale_index = np.ones((1, 1), np.uint8)
    return Tables(reach, tuple(frequencies), np.ones(SCALE_COUNT), z_scale_index)


def test_golden_words():
    """The words of fixed symbols never change: files of today open for ever."""
    models = SymbolModels(integer_tables())
    index = (np.arange(600) % 64).astype(np.uint8)
    reach = models.tables.reach[index]
    residuals = np.arange(600) * 7919 % (2 * reach + 1) - reach
    residuals[77] = 500
    payload = write(models, (residuals.astype(np.int32), index))
    assert (len(payload), zlib.crc32(payload)) == GOLDEN_WORDS
    np.testing.assert_array_equal(read_all(models, payload, index), residuals)


GOLDEN_WORDS = (774, 388436149)


def test_a_decoder_written_from_the_specification(models: SymbolModels):
    """FORMAT.md's description of the coder, in plain integers, reads what constriction wrote."""
    residuals, index = draw(models.tables, 3000, 9)
    residuals[100] = 5000
    index[100] = 1
    payload = write(models, (residuals, index))
    _, count = struct.unpack_from("<II", payload)
    words = list(struct.unpack_from(f"<{count}I", payload, 8))
    state = (words.pop() << 32) | words.pop()
    decoded = np.zeros_like(residuals)
    escaped = 0
    for i in range(1, SCALE_COUNT):
        table = models.tables.frequencies[i].astype(np.int64)
        ends = np.cumsum(table)
        reach = int(models.tables.reach[i])
        for place in np.flatnonzero(index == i):
            quantile = state % 2**24
            symbol = int(np.searchsorted(ends, quantile, side="right"))
            start = int(ends[symbol] - table[symbol])
            state = int(table[symbol]) * (state >> 24) + quantile - start
            if state < 2**32 and words:
                state = (state << 32) | words.pop()
            if symbol == 2 * reach + 1:
                escaped += 1
                decoded[place] = residuals[place]
            else:
                decoded[place] = symbol - reach
    np.testing.assert_array_equal(decoded, residuals)
    assert (state, words, escaped) == (0, [], 1)


def test_every_truncation_is_noticed(models: SymbolModels):
    residuals, index = draw(models.tables, 300, 1)
    residuals[:3], index[:3] = 4000, 2
    payload = write(models, (residuals, index))
    for length in range(len(payload)):
        with pytest.raises(FormatError):
            read_all(models, payload[:length], index)


def test_every_bit_flip_is_noticed(models: SymbolModels):
    residuals, index = draw(models.tables, 60, 2)
    residuals[:3], index[:3] = 4000, 2
    payload = write(models, (residuals, index))
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            read_all(models, bytes(damaged), index)


def read_all(models: SymbolModels, payload: bytes, index: np.ndarray) -> np.ndarray:
    reader = SymbolReader(models, payload)
    residuals = reader.take(index)
    reader.close()
    return residuals


EMPTY = np.zeros(0, np.uint8)


@pytest.mark.parametrize(
    ("payload", "index", "error", "message"),
    [
        (b"\0" * 7, EMPTY, TruncatedError, "before their first symbol"),
        (struct.pack("<II", 0, 1), EMPTY, TruncatedError, "inside their words"),
        (struct.pack("<IIII", 0, 2, 1, 0), EMPTY, CorruptError, "last word is zero"),
        (struct.pack("<III", 0, 1, 1), EMPTY, CorruptError, "more than the image needs"),
        (struct.pack("<IIB", 0, 0, 1), EMPTY, CorruptError, "more than the image needs"),
        (struct.pack("<II", 1, 0), EMPTY, ChecksumError, "do not match their checksum"),
        (struct.pack("<IIB", 0, 0, 0x80), EMPTY, CorruptError, "end inside a number"),
        (struct.pack("<II", 0, 0) + b"\xff" * 5, EMPTY, CorruptError, "out of range"),
    ],
)
def test_lies_get_one_clear_error(
    models: SymbolModels, payload: bytes, index: np.ndarray, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        read_all(models, payload, index)


def test_an_escape_over_the_cap_is_corrupt(models: SymbolModels):
    index = np.array([1], np.uint8)
    payload = write(models, (np.array([RESIDUAL_MAX + 1], np.int32), index))
    with pytest.raises(CorruptError, match="out of range"):
        read_all(models, payload, index)


def test_a_missing_escape_is_corrupt(models: SymbolModels):
    index = np.array([1], np.uint8)
    payload = write(models, (np.array([900], np.int32), index))
    with pytest.raises(CorruptError, match="end too early"):
        read_all(models, payload[:-2], index)
